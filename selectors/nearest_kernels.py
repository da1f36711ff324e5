"""The exact half of a nearest-neighbour search: BLAS proposes, these loops decide.

Products of two float32 numbers are exact in float64, and eight sums are added up in one fixed order, so a value depends
on the two rows alone. Each loop looks once at a block of approximate products and computes again what the error could
have hidden; see `nearest` for the bound.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

_MULTIPLY = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True, cache=True)
def dot(x: Float32s, i: int, y: Float32s, j: int) -> Any:
    """Return the dot product of row i of x and row j of y."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    d = x.shape[1]
    whole = d - d % 8
    for k in range(0, whole, 8):
        a0 += np.float64(x[i, k]) * np.float64(y[j, k])
        a1 += np.float64(x[i, k + 1]) * np.float64(y[j, k + 1])
        a2 += np.float64(x[i, k + 2]) * np.float64(y[j, k + 2])
        a3 += np.float64(x[i, k + 3]) * np.float64(y[j, k + 3])
        a4 += np.float64(x[i, k + 4]) * np.float64(y[j, k + 4])
        a5 += np.float64(x[i, k + 5]) * np.float64(y[j, k + 5])
        a6 += np.float64(x[i, k + 6]) * np.float64(y[j, k + 6])
        a7 += np.float64(x[i, k + 7]) * np.float64(y[j, k + 7])
    for k in range(whole, d):
        a0 += np.float64(x[i, k]) * np.float64(y[j, k])
    return ((a0 + a4) + (a2 + a6)) + ((a1 + a5) + (a3 + a7))


@njit(nogil=True, cache=True)
def squared_distance(x: Float32s, i: int, y: Float32s, j: int) -> Any:
    """Return the squared Euclidean distance of two rows, from their differences: 0 for equal rows."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    d = x.shape[1]
    whole = d - d % 8
    for k in range(0, whole, 8):
        a0 += (np.float64(x[i, k]) - np.float64(y[j, k])) ** 2
        a1 += (np.float64(x[i, k + 1]) - np.float64(y[j, k + 1])) ** 2
        a2 += (np.float64(x[i, k + 2]) - np.float64(y[j, k + 2])) ** 2
        a3 += (np.float64(x[i, k + 3]) - np.float64(y[j, k + 3])) ** 2
        a4 += (np.float64(x[i, k + 4]) - np.float64(y[j, k + 4])) ** 2
        a5 += (np.float64(x[i, k + 5]) - np.float64(y[j, k + 5])) ** 2
        a6 += (np.float64(x[i, k + 6]) - np.float64(y[j, k + 6])) ** 2
        a7 += (np.float64(x[i, k + 7]) - np.float64(y[j, k + 7])) ** 2
    for k in range(whole, d):
        a0 += (np.float64(x[i, k]) - np.float64(y[j, k])) ** 2
    return ((a0 + a4) + (a2 + a6)) + ((a1 + a5) + (a3 + a7))


@njit(nogil=True, cache=True)
def squared_lengths(x: Float32s, out: Float64s) -> None:
    """Write the dot product of each row with itself."""
    for i in range(len(x)):
        out[i] = dot(x, i, x, i)


@njit(nogil=True, cache=True)
def take_nearest(
    products: Float32s,
    half: Float32s,
    margin: Float32s,
    n_allowed: Int64s,
    x: Float32s,
    y: Float32s,
    spherical: bool,
    offset: int,
    seen: Float32s,
    value: Float64s,
    index: Int64s,
) -> None:
    """Take a block of columns into account: update `index` and `value`, minus the squared distance or the dot product.

    `products` are the approximate dot products of the rows of x and y, `half` half the squared lengths of y (zeros if
    spherical), `margin` twice the error bound of each row, `seen` the best approximation until now. Row i looks at its
    first `n_allowed[i]` columns. Columns come in ascending order, so the first of equals stays.
    """
    candidates = np.empty(products.shape[1], np.int64)
    for i in range(len(products)):
        best, twice = seen[i], margin[i]
        least, n = best - twice, 0
        for j in range(min(products.shape[1], n_allowed[i])):
            near = products[i, j] - half[j]
            if near >= least:
                candidates[n] = j
                n += 1
                if near > best:
                    best = near
                    least = best - twice
        seen[i] = best
        for c in range(n):
            j = candidates[c]
            if products[i, j] - half[j] >= least:
                exact = dot(x, i, y, j) if spherical else -squared_distance(x, i, y, j)
                if index[i] < 0 or exact > value[i]:
                    value[i], index[i] = exact, offset + j


@njit(nogil=True, cache=True)
def take_largest(
    products: Float32s, margin: Float32s, copies: Int64s, x: Float32s, y: Float32s, seen: Float32s, top: Float64s
) -> None:
    """Take a block of columns into account: update the k largest dot products `top` of each row, in ascending order.

    `seen` are the k largest approximations until now, ascending; column j counts `copies[j]` times.
    """
    k = top.shape[1]
    for i in range(len(products)):
        for j in range(products.shape[1]):
            if products[i, j] > seen[i, 0]:
                _insert(seen, i, products[i, j], copies[j])
        least = seen[i, 0] - margin[i]
        for j in range(products.shape[1]):
            if products[i, j] >= least:
                exact = dot(x, i, y, j)
                if exact > top[i, 0]:
                    _insert(top, i, exact, min(k, copies[j]))


@njit(nogil=True, cache=True)
def _insert(top: Any, i: int, value: Any, copies: int) -> None:
    """Insert a value some times into an ascending row, whose smallest values leave it."""
    for _ in range(copies):
        if value <= top[i, 0]:
            return
        at = 1
        while at < top.shape[1] and top[i, at] < value:
            top[i, at - 1] = top[i, at]
            at += 1
        top[i, at - 1] = value


@njit(nogil=True, cache=True)
def descending_means(top: Float64s, out: Float64s) -> None:
    """Write the mean of each ascending row, added from its largest value on."""
    k = top.shape[1]
    for i in range(len(top)):
        total = 0.0
        for c in range(k - 1, -1, -1):
            total += top[i, c]
        out[i] = total / k


@njit(nogil=True, cache=True)
def first_equal(words: npt.NDArray[np.uint32], out: Int64s) -> None:
    """Write for each row the first row with the same bytes, by a hash table."""
    n, d = words.shape
    size = 16
    while size < 2 * n:
        size *= 2
    table, hashes = np.full(size, -1, np.int64), np.empty(n, np.uint64)
    mask = np.uint64(size - 1)
    for i in range(n):
        h = np.uint64(d)
        for k in range(d):
            h = (h ^ np.uint64(words[i, k])) * _MULTIPLY
            h ^= h >> np.uint64(32)
        hashes[i] = h
        at = np.int64(h & mask)
        while True:
            other = table[at]
            if other < 0:
                table[at] = out[i] = i
                break
            if hashes[other] == h and _same(words, i, other):
                out[i] = other
                break
            at = (at + 1) & np.int64(mask)


@njit(nogil=True, cache=True)
def _same(words: npt.NDArray[np.uint32], i: int, j: int) -> bool:
    for k in range(words.shape[1]):  # noqa: SIM110 (Numba has no generators in all())
        if words[i, k] != words[j, k]:
            return False
    return True
