"""Means by group: right to the last digits, and the same for any order and any cut into parts."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tamis.selectors.exact_sums import ExactMeans, ExactSums

ANY_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PAIRS = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 4)), max_size=30)


def sums_of(pairs, size):
    sums = ExactSums(5)
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        sums.add(np.array([g for g, _ in part], np.int64), np.array([v for _, v in part], np.float64))
    return sums


@given(PAIRS, st.integers(1, 30), st.randoms())
def test_the_means_are_right_whatever_the_order_and_the_parts(pairs, size, rng):
    counts = np.bincount([g for g, _ in pairs], minlength=5) if pairs else np.zeros(5, np.int64)
    other = rng.sample(pairs, len(pairs))
    found = sums_of(pairs, len(pairs) or 1)
    assert found.mean(counts).tolist() == sums_of(other, size).mean(counts).tolist()
    assert found.total() == sums_of(other, size).total()
    for group in range(5):
        exact = sum(Fraction(v) for g, v in pairs if g == group)
        assert found.mean(counts)[group] == pytest.approx(float(exact / max(1, int(counts[group]))), abs=1e-14)
    assert found.total() == pytest.approx(float(sum(Fraction(v) for _, v in pairs)), abs=1e-13)


@given(st.lists(st.tuples(st.integers(0, 3), ANY_FLOATS), max_size=30), st.integers(1, 30), st.randoms())
def test_the_means_of_any_numbers_are_correctly_rounded(pairs, size, rng):
    means, mixed = ExactMeans(5), rng.sample(pairs, len(pairs))
    for start in range(0, len(mixed), size):
        part = mixed[start : start + size]
        means.add(np.array([g for g, _ in part], np.int64), np.array([v for _, v in part], np.float64))
    found = means.means().tolist()
    for group in range(5):
        mine = [Fraction(v) for g, v in pairs if g == group]
        assert means.counts[group] == len(mine)
        assert found[group] == float(sum(mine) / len(mine)) if mine else math.isnan(found[group])
