"""The memory of a cut: counters and a capped number of rows, however many rows there are."""

import tracemalloc

import numpy as np
import pytest
from tamis.selectors.boundary import MAX_COUNTERS, digit_bits
from tamis.selectors.budget import CutRule, Part, make_cut
from tamis.selectors.keyed import uniform


def test_counters_are_bounded_and_progress_is_sure():
    for n_groups in (1, 2, 3, 1000, 2**20, 2**22):
        bits = digit_bits(n_groups, 0)
        assert bits >= 1
        assert bits == 1 or 2 * n_groups * 2**bits <= MAX_COUNTERS
    assert digit_bits(1, 60) == 4


def generated(n_rows, constant=False, rows_a_part=20_000):
    """Parts that are made when they are read."""
    for first in range(0, n_rows, rows_a_part):
        row = np.arange(first, min(n_rows, first + rows_a_part))
        doc_key = row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        score = np.ones(len(row)) if constant else uniform(doc_key, 5)
        yield Part(
            shard=f"{first}",
            row=row,
            doc_key=doc_key,
            score=score,
            eligible=np.ones(len(row), np.bool_),
            weight=row % 100,
            group=None,
            doc_ids=lambda positions, first=first: [f"https://example.org/{first + i:012}" for i in positions.tolist()],
        )


def peak_bytes(n_rows, constant):
    tracemalloc.start()
    make_cut(lambda: generated(n_rows, constant), CutRule(budget=n_rows * 10), max_rows=5_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(("constant", "n_rows"), [(False, 2_000_000), (True, 160_000)])
def test_memory_does_not_grow_with_the_rows(constant, n_rows):
    few, many = peak_bytes(n_rows // 4, constant), peak_bytes(n_rows, constant)
    assert many < 1.1 * few
    assert many < 40 * 2**20


@pytest.mark.parametrize("constant", [False, True])
def test_a_large_cut_is_exact(constant):
    n_rows = 100_000
    cut = make_cut(lambda: generated(n_rows, constant), CutRule(budget=n_rows * 10), max_rows=5_000)
    parts = list(generated(n_rows, constant))
    kept = np.concatenate([cut.kept(part) for part in parts])
    score, weight = (np.concatenate([getattr(part, name) for part in parts]) for name in ("score", "weight"))
    order = np.argsort(-score, kind="stable")  # the ids ascend with the rows
    wanted = order[: np.searchsorted(np.cumsum(weight[order]), n_rows * 10, side="right")]
    assert np.array_equal(np.flatnonzero(kept), np.sort(wanted))
    assert (cut.n_kept, cut.weight_kept) == (len(wanted), weight[wanted].sum())
