"""Diversity of words, vectors and clusters, against plain Python and NumPy."""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tamis.pipelines.diversity import WordSample, clusters_hit, effective_clusters, entropy, neighbour_distance

TEXTS = st.lists(st.lists(st.sampled_from(["the", "cat", "sat", "on"]), max_size=9).map(" ".join), max_size=8)
COUNTS = hnp.arrays(np.int64, st.integers(1, 12), elements=st.integers(0, 100))


def sample(texts, words=1000, pieces=1):
    found = WordSample(words)
    step = -(-len(texts) // pieces) or 1
    for i in range(0, len(texts), step):
        found.add(pa.array(texts[i : i + step], pa.large_string()))
    return found


def plain_runs(texts, n, words):
    """The runs of n words of the first words."""
    runs, left = [], words
    for text in texts:
        own = text.split()[:left]
        left -= len(own)
        runs += [tuple(own[i : i + n]) for i in range(len(own) - n + 1)]
    return runs


@given(TEXTS, st.integers(1, 3), st.integers(0, 30), st.integers(1, 4))
def test_distinct_runs_of_the_first_words(texts, n, words, pieces):
    runs = plain_runs(texts, n, words)
    expected = len(set(runs)) / len(runs) if runs else math.nan
    assert sample(texts, words, pieces).distinct(n) == pytest.approx(expected, nan_ok=True)
    assert sample(texts, 1000, pieces).distinct(n, words) == pytest.approx(expected, nan_ok=True)


@given(TEXTS, st.randoms())
def test_entropy_of_words(texts, random):
    counts = Counter(word for text in texts for word in text.split())
    total = sum(counts.values())
    expected = -sum(n / total * math.log(n / total) for n in counts.values()) if total else math.nan
    found = sample(texts)
    assert found.entropy() == pytest.approx(expected, nan_ok=True) and found.n_words == total
    random.shuffle(texts)
    assert repr(sample(texts).entropy()) == repr(found.entropy())


def test_a_full_sample_takes_no_more():
    found = sample(["the cat sat", "on the mat"], words=4)
    assert found.full and found.n_words == 4
    found.add(pa.array(["a b c d e f"]))
    assert found.n_words == 4 and found.distinct(1) == 1.0
    assert not sample(["the cat"], words=3).full


def test_repeated_text_is_less_varied():
    once, thrice = sample(["the cat sat on the mat"]), sample(["the cat sat on the mat"] * 3)
    for n in (1, 2, 3):
        assert thrice.distinct(n) == pytest.approx(once.distinct(n) / 3)
    assert thrice.entropy() == pytest.approx(once.entropy())


@given(COUNTS)
def test_clusters(counts):
    n_hit = np.count_nonzero(counts)
    assert clusters_hit(counts) == n_hit / len(counts)
    if not n_hit:
        assert math.isnan(effective_clusters(counts))
        return
    assert 1 <= effective_clusters(counts) <= n_hit + 1e-9
    assert effective_clusters(counts[::-1]) == effective_clusters(counts) == effective_clusters(np.append(counts, 0))
    assert effective_clusters(np.repeat(7, n_hit)) == pytest.approx(n_hit)


def test_the_entropy_of_a_half_and_two_quarters():
    assert entropy(np.array([2, 1, 1])) == pytest.approx(1.5 * math.log(2))
    assert entropy(np.array([5])) == 0 and math.isnan(clusters_hit(np.array([], np.int64)))


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(4)), elements=st.integers(-2, 2)), st.randoms())
def test_the_distance_to_the_nearest_other_vector(x, random):
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9).astype(np.float32)
    if len(x) < 2:
        assert math.isnan(neighbour_distance(x))
        return
    cosines = x.astype(np.float64) @ x.T
    np.fill_diagonal(cosines, -np.inf)
    assert neighbour_distance(x) == pytest.approx((1 - cosines.max(axis=1)).mean(), abs=1e-6)
    assert neighbour_distance(x[random.sample(range(len(x)), len(x))]) == neighbour_distance(x)


def test_copies_have_no_distance():
    x = np.eye(4, dtype=np.float32)
    assert neighbour_distance(x) == 1.0
    assert neighbour_distance(np.concatenate([x, x])) == 0.0
    assert neighbour_distance(np.concatenate([x, -x])[[0, 4]]) == 2.0
