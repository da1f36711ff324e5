"""MinHash signatures against plain Python, and their estimate against exact Jaccard similarities."""

import math
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_words import mix64, run_hash, words_of
from tamis.features.minhash import MinHash
from tamis.storage.errors import ConfigError

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join) | st.text(max_size=20), max_size=5)
GOLDEN = 0x9E3779B97F4A7C15


def signatures(texts, **parameters):
    feature = MinHash(**parameters)
    column = feature.compute(pa.record_batch({"text": pa.array(texts, pa.large_string())})).column("signature")
    return np.asarray(column.flatten()).reshape(len(texts), feature.permutations)


def plain_signature(text, n, k):
    words = words_of(text)
    runs = [run_hash(words[i : i + n]) & 0xFFFFFFFF for i in range(max(1, len(words) - n + 1))] if words else []
    bits = [mix64((j + 1) * GOLDEN & (1 << 64) - 1) for j in range(k)]
    permutations = [(b & 0xFFFFFFFF | 1, b >> 32) for b in bits]
    return [min(((a * x + b) & 0xFFFFFFFF for x in runs), default=0xFFFFFFFF) for a, b in permutations]


@given(TEXTS, st.integers(1, 6), st.integers(1, 40))
def test_the_smallest_number_of_each_permutation(texts, n, k):
    found = signatures(texts, ngrams=n, permutations=k)
    assert found.tolist() == [plain_signature(text, n, k) for text in texts]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=5, max_size=30), st.integers(1, 5))
def test_more_runs_lower_the_numbers_and_repeated_ones_change_nothing(words, n):
    once, longer, thrice, fourfold = signatures(
        [" ".join(text) for text in (words, [*words, "x"], words * 3, words * 4)], ngrams=n
    )
    assert (longer <= once).all() and (thrice <= once).all()
    assert (thrice == fourfold).all()


def test_the_share_of_equal_numbers_estimates_the_jaccard_similarity():
    """Over pairs of all similarities: without bias, and with the spread of independent draws."""
    draw, k, errors = random.Random(5), 112, []
    for _ in range(300):
        words = [f"w{draw.getrandbits(64)}" for _ in range(draw.randint(20, 200))]
        changed = draw.choice([0.01, 0.03, 0.1])
        copy = [f"w{draw.getrandbits(64)}" if draw.random() < changed else word for word in words]
        left, right = ({tuple(w[i : i + 5]) for i in range(len(w) - 4)} for w in (words, copy))
        jaccard = len(left & right) / len(left | right)
        left, right = signatures([" ".join(words), " ".join(copy)], permutations=k)
        if 0 < jaccard < 1:
            errors.append(((left == right).mean() - jaccard) / math.sqrt(jaccard * (1 - jaccard) / k))
    assert len(errors) > 200
    assert abs(np.mean(errors)) < 3 / math.sqrt(len(errors))
    assert 0.9 < np.std(errors) < 1.1


def test_copies_in_another_dress_have_equal_signatures():
    texts = ["Déjà vu, all over again (he said).", "DE\u0301JA\u0300 VU ALL  OVER AGAIN HE SAID", "other words here"]
    same, copy, other = signatures(texts)
    assert (same == copy).all() and not (same == other).any()


def test_without_words_all_bits_are_set():
    assert (signatures(["", " ... \n"]) == 0xFFFFFFFF).all()


@pytest.mark.parametrize(("name", "value"), [("ngrams", 0), ("ngrams", 65), ("permutations", 0)])
def test_a_bad_parameter_is_an_error(name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        MinHash(**{name: value})
