"""A column of embeddings as a matrix of rows of length 1.

Stored embeddings are rounded to float16, so they are normalised again: the squares are added up in float64, in a fixed
order, after a scaling by a power of two, which is exact and keeps large numbers from overflowing.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from ..storage.errors import SelectionError
from .nearest_kernels import Float32s, Float64s

Bools = npt.NDArray[np.bool_]


def unit_rows(column: pa.Array, dimensions: int | None = None) -> tuple[Float32s, Bools]:
    """Return the vectors of a column of lists, each of length 1 (n, d), and which of them are valid (n,).

    A null, or one with a null, NaN or infinite number, is not valid and all zeros. A vector of zeros is valid.
    `dimensions` is the d that these vectors will be compared with. Without any vector in a column of lists of no fixed
    size, d is that, or 0. Raises SelectionError where the column is not of lists of numbers, or of another length.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    found = _dimensions(column.type, chunks)
    if None not in (found, dimensions) and found != dimensions:
        raise SelectionError(
            f"a column of vectors has lists of {found} numbers, and is compared with vectors of {dimensions}; "
            "were they made by different models?"
        )
    d = found if found is not None else dimensions or 0
    rows, valid = np.zeros((len(column), d), np.float32), np.zeros(len(column), np.bool_)
    start = 0
    for chunk in chunks:
        there = np.flatnonzero(np.asarray(chunk.is_valid()))
        _normalise(_numbers(chunk).reshape(len(there), d), there + start, rows, valid)
        start += len(chunk)
    return rows, valid


def _dimensions(kind: pa.DataType, chunks: list[pa.Array]) -> int | None:
    """Return the length of all lists; None where there is none that would have one."""
    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise SelectionError(f"a column of vectors is of type {kind}, expected lists of numbers, such as list<float>")
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    found = np.unique(np.concatenate([np.empty(0, np.int64), *map(_lengths, chunks)]))
    if len(found) > 1:
        raise SelectionError(
            f"a column of vectors has lists of {found[0]} and of {found[-1]} numbers, expected one length; "
            "were they made by different models?"
        )
    return int(found[0]) if len(found) else None


def _lengths(chunk: pa.Array) -> npt.NDArray[np.int64]:
    offsets = np.asarray(chunk.offsets).astype(np.int64)
    lengths: npt.NDArray[np.int64] = (offsets[1:] - offsets[:-1])[np.asarray(chunk.is_valid())]
    return lengths


def _numbers(chunk: pa.Array) -> npt.NDArray[Any]:
    """Return the numbers of the lists that are not null: float32 where it holds them all, else float64."""
    values = chunk.flatten()  # unlike `values` it heeds slices, and leaves out what is behind a null
    numbers = values.to_numpy(zero_copy_only=False)
    if values.null_count:
        numbers = numbers.astype(np.float64)
        numbers[~np.asarray(values.is_valid())] = np.nan
    exact = numbers.dtype in (np.float16, np.float32)
    floats: npt.NDArray[Any] = numbers.astype(np.float32 if exact else np.float64, copy=False)
    return floats


@njit(nogil=True, cache=True)
def _normalise(x: Float32s | Float64s, places: npt.NDArray[np.int64], rows: Float32s, valid: Bools) -> None:
    d = x.shape[1]
    for i in range(len(x)):
        largest = 0.0
        finite = True
        for k in range(d):
            size = abs(np.float64(x[i, k]))
            if not size < np.inf:
                finite = False
            largest = max(largest, size)
        valid[places[i]] = finite
        if not finite or largest == 0.0:
            continue
        scale = math.ldexp(1.0, min(1000, -math.frexp(largest)[1]))
        total = 0.0
        for k in range(d):
            total += (np.float64(x[i, k]) * scale) ** 2
        length = math.sqrt(total)
        for k in range(d):
            rows[places[i], k] = np.float64(x[i, k]) * scale / length
