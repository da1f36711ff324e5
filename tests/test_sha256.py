"""The official buckets from the kernels: against `hashlib` and `re`, with a memo that forgets and is shared."""

import hashlib
import random
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tamis.features.memo_kernels import MISSING, empty_memo, recall, remember
from tamis.features.ngrams import NGrams
from tamis.features.sha256_kernels import LANES, empty_rounds, modulus, remainders

TOKEN = re.compile(r"\w+|[^\w\s]+")
REPAIRED = st.text(st.characters(), max_size=60).map(lambda text: text.encode("utf-8", "replace").decode())
SIGNS = st.text("aAbB İΣσςß.,!_ \n\u0307\u0301éȺ字😀\x1c\x85\u2028²½", max_size=40)
TEXTS = st.lists(REPAIRED | SIGNS, max_size=6)
BUCKETS = st.sampled_from([1, 997, 10_000, 1 << 16, 1 << 24])


def reference_ids(text, n, buckets):
    words = TOKEN.findall(text.lower())
    grams = [" ".join(words[end - m : end]) for end in range(1, len(words) + 1) for m in range(1, min(n, end) + 1)]
    return [int(hashlib.sha256(gram.encode()).hexdigest(), 16) % buckets for gram in grams]


def ids_of(feature, texts, memo):
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    return feature.compute(batch, memo).column("ids").to_pylist()


@given(TEXTS, st.integers(1, 5), BUCKETS, st.sampled_from([1, 4, 1 << 10]))
@example(["ΟΔΟΣ ΟΣ", "İstanbul", "Σ", "ȺȾ " * 30, "\ud800 a".encode("utf-8", "replace").decode()], 2, 10_000, 1)
@settings(deadline=None)
def test_ids_are_those_of_re_and_hashlib(texts, n, buckets, slots):
    found = ids_of(NGrams(n, buckets, "sha256"), texts, empty_memo(slots))
    assert found == [reference_ids(text, n, buckets) for text in texts]


@pytest.mark.parametrize("n", [1, 2, 16])
def test_tokens_of_any_length_across_blocks(n):
    """A gram may be of many blocks of SHA-256, and begin many blocks of the text ago."""
    draw = random.Random(7)
    sizes = [0, 1, 54, 55, 56, 63, 64, 65, 119, 120, 511, 512, 513, 4_000, 4_096, 9_000, 70_000]
    words = [draw.choice("abÉ字Ⱥ") * size for size in sizes for _ in range(3)]
    draw.shuffle(words)
    texts = [" ".join(words), "x" * 8_192, "é," * 6_000, "", *words]
    found = ids_of(NGrams(n, 10_000, "sha256"), texts, empty_memo(64))
    assert found == [reference_ids(text, n, 10_000) for text in texts]


def prose(seed, n_words=20_000):
    draw = random.Random(seed)
    words = [f"w{i}" for i in range(2_000)]
    return [" ".join(draw.choices(words, k=100)) for _ in range(n_words // 100)]


@pytest.mark.parametrize("slots", [1, 2, 1 << 6, 1 << 18])
def test_a_memo_that_forgets_changes_nothing(slots):
    texts = prose(1)
    feature, memo = NGrams(2, 10_000, "sha256"), empty_memo(slots)
    expected = [reference_ids(text, 2, 10_000) for text in texts]
    assert ids_of(feature, texts, memo) == expected
    assert ids_of(feature, texts[::-1], memo) == expected[::-1]


def test_threads_that_race_for_a_memo_find_the_same():
    feature, memo = NGrams(2, 10_000, "sha256"), empty_memo(32)
    batches = [prose(seed) for seed in range(8)] * 4
    expected = [[reference_ids(text, 2, 10_000) for text in texts] for texts in batches[:8]] * 4
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda texts: ids_of(feature, texts, memo), batches)) == expected


def test_an_entry_of_two_grams_is_not_found():
    """What two threads that write the same slot at once may leave."""
    one, two, both = empty_memo(1), empty_memo(1), empty_memo(1)
    keys = np.array([0x0123456789ABCDEF, 0xFEDCBA9876543210], np.uint64)
    checks = np.array([0x1111111111111111, 0x2222222222222222], np.uint64)
    remember(one, keys[0], checks[0], np.uint64(5))
    remember(two, keys[1], checks[1], np.uint64(6))
    assert recall(one, keys[0], checks[0]) == 5
    assert recall(one, keys[0], checks[1]) == recall(one, keys[1], checks[0]) == MISSING
    for first, second in ((one, two), (two, one)):
        both[0], both[1] = first[0], second[1]
        assert all(recall(both, key, check) == MISSING for key in keys for check in checks)


def test_a_slot_keeps_the_two_newest():
    memo = empty_memo(1)
    for gram in range(1, 4):
        remember(memo, np.uint64(gram), np.uint64(gram << 40), np.uint64(gram))
    assert [recall(memo, np.uint64(gram), np.uint64(gram << 40)) for gram in range(1, 4)] == [MISSING, 2, 3]


@pytest.mark.parametrize("divisor", [1, 3, 10_000, (1 << 24) - 3, 1 << 24])
def test_remainders_of_any_length(divisor):
    data = np.frombuffer(random.Random(3).randbytes(4_096), np.uint8)
    lengths = np.array([*range(200), 511, 512, 513, 3_000], np.uint64)
    starts = np.arange(len(lengths), dtype=np.uint64)
    found, rounds = np.zeros(LANES, np.uint64), empty_rounds()
    for low in range(0, len(lengths), LANES):
        piece = slice(low, low + LANES)
        n = len(lengths[piece])
        remainders(data, starts[piece], lengths[piece], np.uint64(n), modulus(divisor), rounds, found)
        digests = [
            hashlib.sha256(data[s : s + k]).hexdigest()
            for s, k in zip(starts[piece].tolist(), lengths[piece].tolist(), strict=True)
        ]
        assert found[:n].tolist() == [int(digest, 16) % divisor for digest in digests]
