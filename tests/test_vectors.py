"""Columns of embeddings as rows of length 1: every list type, slices, chunks, nulls and numbers that are none."""

import numpy as np
import pyarrow as pa
import pytest
from tamis.selectors.vectors import unit_rows
from tamis.storage.errors import SelectionError

NUMBERS = (pa.float16(), pa.float32(), pa.float64(), pa.int8())


def column(number, lists):
    made = np.float16 if number == pa.float16() else float if pa.types.is_floating(number) else int
    rows = [[1, 2, 2], None, [0, 0, 0], [3, 0, 4], [1, None, 1]]
    rows = [row if row is None else [None if v is None else made(v) for v in row] for row in rows]
    return pa.array(rows, lists(number))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("lists", [pa.list_, pa.large_list, lambda number: pa.list_(number, 3)])
def test_rows_have_length_one(number, lists):
    whole = column(number, lists)
    rows, valid = unit_rows(whole)
    third = np.float32(1 / 3)
    expected = np.array([[third, 2 * third, 2 * third], [0, 0, 0], [0, 0, 0], [0.6, 0, 0.8], [0, 0, 0]], np.float32)
    assert np.array_equal(rows, expected) and rows.flags.c_contiguous and rows.dtype == np.float32
    assert valid.tolist() == [True, False, True, True, False]
    for start, stop in [(1, 4), (3, 5), (0, 1)]:
        part, part_valid = unit_rows(whole[start:stop])
        assert np.array_equal(part, rows[start:stop]) and np.array_equal(part_valid, valid[start:stop])
    chunks, chunks_valid = unit_rows(pa.chunked_array([whole[:1], whole[1:1], whole[1:]]))
    assert np.array_equal(chunks, rows) and np.array_equal(chunks_valid, valid)


def test_what_is_behind_a_null_does_not_count():
    values = pa.array([np.nan, 1, 3, 4], pa.float32())
    hidden = pa.FixedSizeListArray.from_arrays(values, 2, mask=pa.array([True, False]))
    rows, valid = unit_rows(hidden)
    assert valid.tolist() == [False, True] and rows[1].tolist() == [np.float32(0.6), np.float32(0.8)]


def test_any_finite_numbers_have_a_direction():
    rows, valid = unit_rows(pa.array([[1e300, -1e300], [5e-324, 0], [np.inf, 1], [np.nan, 1], [-0.0, 0]]))
    half = np.float32(0.5**0.5)
    assert rows.tolist() == [[half, -half], [1, 0], [0, 0], [0, 0], [0, 0]]
    assert valid.tolist() == [True, True, False, False, True]


@pytest.mark.parametrize(
    ("empty", "shape"),
    [
        (pa.array([], pa.list_(pa.float32())), (0, 0)),
        (pa.array([None], pa.list_(pa.float32())), (1, 0)),
        (pa.array([None], pa.list_(pa.float16(), 4)), (1, 4)),
        (pa.chunked_array([], pa.list_(pa.float16(), 4)), (0, 4)),
        (pa.array([[], []], pa.list_(pa.float32())), (2, 0)),
    ],
)
def test_columns_without_numbers(empty, shape):
    assert unit_rows(empty)[0].shape == shape


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (pa.array([[1.0], None, [1.0, 2.0]]), "lists of 1 and of 2 numbers"),
        (pa.array([1.0]), "of type double, expected lists of numbers"),
        (pa.array([["a"]]), "expected lists of numbers"),
        (pa.array([None, [1.0, 2.0]]), "lists of 2 numbers, and is compared with vectors of 3"),
    ],
)
def test_other_columns_are_refused(bad, said):
    with pytest.raises(SelectionError, match=said):
        unit_rows(bad, 3)


def test_a_column_without_vectors_is_as_wide_as_what_it_is_compared_with():
    rows, valid = unit_rows(pa.array([None, None], pa.list_(pa.float32())), 3)
    assert rows.shape == (2, 3) and not valid.any()
