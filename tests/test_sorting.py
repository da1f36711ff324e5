"""Sorting out of core: the same rows for any ranges, and cuts that do not see where tables end."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tamis.storage import sorting
from tamis.storage.lake import Lake
from tamis.storage.sorting import NUMBER, RANK, Splits, evenly, in_order

ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.999]), st.text("ab", max_size=2)), max_size=60
)


def table_of(rows):
    columns = {
        RANK: pa.array([r[0] for r in rows], pa.uint64()),
        NUMBER: pa.array([r[1] for r in rows], pa.float64()),
        "id": pa.array([r[2] for r in rows], pa.string()),
    }
    return pa.table(columns)


def rows_of(tables):
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, n_ranges=st.integers(1, 30), n_sample=st.integers(0, 20), piece=st.integers(1, 40))
def test_any_ranges_give_the_sorted_rows(tmp_path_factory, rows, n_ranges, n_sample, piece):
    lake = Lake.open(tmp_path_factory.getbasetemp() / "sorting", create=True)
    whole = table_of(rows)
    pieces = [whole.slice(at, piece) for at in range(0, max(1, len(rows)), piece)]
    sample = whole.slice(0, n_sample)
    splits = Splits.of_sample(
        sample.column(RANK).to_numpy(), sample.column(NUMBER).to_numpy(), np.ones(len(sample), np.int64), n_ranges
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "MOST_PARTITIONS", 4)  # so that rows are spread twice and three times
        found = rows_of(in_order(lake, whole.schema, pieces, splits, ["id"]))
    assert found == sorted(rows)
    assert not list(lake.scratch.glob("*shuffle*"))


def test_a_row_is_in_the_range_that_its_key_says():
    splits = Splits(np.array([1, 1, 3], np.uint64), np.array([0.25, 0.75, 0.0]))
    rows = [(0, 0.9, ""), (1, 0.25, ""), (1, 0.26, ""), (1, 0.75, ""), (2, 0.0, ""), (3, 0.0, ""), (3, 0.1, "")]
    assert splits.ranges(table_of(rows)).tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert Splits.even(4).ranges(table_of([(0, 0.1, ""), (0, 0.6, ""), (0, 0.99, "")])).tolist() == [0, 2, 3]


def test_ranges_of_a_sample_have_the_same_weight():
    number = np.arange(1000) / 1000
    weight = np.where(number < 0.5, 9, 1)
    splits = Splits.of_sample(np.zeros(1000, np.uint64), number, weight, 10)
    held = np.bincount(np.searchsorted(splits.number, number), weight, 10)
    assert held.min() > 0.9 * weight.sum() / 10 and held.max() < 1.1 * weight.sum() / 10


def lengths(table):
    return pc.binary_length(table.column("text")).to_numpy().astype(np.int64)


@given(
    sizes=st.lists(st.integers(0, 9), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    most=st.integers(1, 30),
)
def test_even_tables_do_not_see_where_tables_end(sizes, cuts, most):
    whole = pa.table({"text": pa.array(["x" * n for n in sizes], pa.large_string())})
    edges = sorted({0, len(sizes), *(min(cut, len(sizes)) for cut in cuts)})
    pieces = [whole.slice(a, b - a) for a, b in pairwise(edges)]
    found = [table.column(0).to_pylist() for table in evenly(pieces, lengths, most)]
    assert found == [table.column(0).to_pylist() for table in evenly([whole], lengths, most)]
    assert [text for part in found for text in part] == whole.column(0).to_pylist()
    assert all(sum(map(len, part)) <= most or len([t for t in part if t]) == 1 for part in found)
    assert all(part for part in found)
