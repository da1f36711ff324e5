"""The loops of the cut over rows: ranks, Gumbel keys, counting into bins, and the walk along the bins.

Numba over plain arrays, without the GIL and without fastmath, some nanoseconds a row. All sums are integers, so that
they do not depend on the order of rows. A table of bins holds pairs (documents, weight), side by side in memory.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from .keyed import unit_number

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Float64s = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NAN_RANK = 2**64 - 2
MAX_WEIGHT = 2**63 - 1
COUNTED, NEGATIVE, TOO_LARGE = 0, 1, 2

_NAN_RANK = np.uint64(NAN_RANK)
_SIGN = np.uint64(1 << 63)
_MAGNITUDE = np.uint64((1 << 63) - 1)
_INFINITY = np.uint64(0x7FF << 52)


@njit(nogil=True, cache=True)
def gumbel_keys(score: Float64s, doc_keys: UInt64s, key: Any, temperature: float) -> Float64s:
    """Return score / temperature + Gumbel number; NaN and the infinities stay what they are."""
    out = np.empty(len(score), np.float64)
    for i in range(len(score)):
        out[i] = score[i] / temperature - math.log(-math.log(unit_number(doc_keys[i], key)))
    return out


@njit(nogil=True, cache=True)
def rank_bits(float_bits: UInt64s) -> UInt64s:
    """Return the place of each float64 (given as its bits) in descending order: a smaller rank is a better key.

    -0.0 ranks with 0.0, and every NaN has the one rank `NAN_RANK`, after -inf. 0 and 2**64 - 1 are nobody's rank.
    """
    rank = np.empty(len(float_bits), np.uint64)
    for i in range(len(float_bits)):
        bits = float_bits[i]
        if bits & _MAGNITUDE > _INFINITY:
            rank[i] = _NAN_RANK
        elif bits & _SIGN and bits != _SIGN:
            rank[i] = bits
        else:
            rank[i] = ~(bits | _SIGN)
    return rank


@njit(nogil=True, cache=True)
def census(code: Int64s, eligible: Bools, in_pool: Bools, weight: Int64s, tally: Int64s) -> int:
    """Add rows to `tally`: a group a row; seen, eligible, eligible weight, in the pool, weight in the pool.

    Returns COUNTED, or NEGATIVE or TOO_LARGE (a sum beyond int64) at the first weight that cannot be counted.
    """
    for i in range(len(code)):
        group = tally[code[i]]
        group[0] += 1
        if not eligible[i]:
            continue
        if weight[i] < 0:
            return NEGATIVE
        if weight[i] > MAX_WEIGHT - group[2]:
            return TOO_LARGE
        group[1] += 1
        group[2] += weight[i]
        if in_pool[i]:
            group[3] += 1
            group[4] += weight[i]
    return COUNTED


@njit(nogil=True, cache=True)
def in_bin(code: Int64s, rank: UInt64s, slot: Int64s, prefix: UInt64s, mask: Any) -> Bools:
    """Return which rows lie in the boundary bin of their group: their rank begins with the group's prefix."""
    hit = np.zeros(len(code), np.bool_)
    for i in range(len(code)):
        if code[i] >= 0 and slot[code[i]] >= 0:
            hit[i] = rank[i] & mask == prefix[slot[code[i]]]
    return hit


@njit(nogil=True, cache=True)
def count_digits(hit: Bools, place: Int64s, rank: UInt64s, weight: Int64s, shift: Any, bins: Int64s) -> None:
    """Add each row that is `hit` to the bin of its group (`place`) and of the digit of its rank above `shift`."""
    low_bits = np.uint64(bins.shape[1] - 1)
    for i in range(len(hit)):
        if hit[i]:
            digit = np.int64((rank[i] >> shift) & low_bits)
            bins[place[i], digit, 0] += 1
            bins[place[i], digit, 1] += weight[i]


@njit(nogil=True, cache=True)
def count_bins(index: Int64s, weight: Int64s, bins: Int64s) -> None:
    """Add each row to the bin that `index` names."""
    for i in range(len(index)):
        bins[index[i], 0] += 1
        bins[index[i], 1] += weight[i]


@njit(nogil=True, cache=True)
def first_overflow(bins: Int64s, n_left: int, weight_left: int) -> tuple[int, int, int]:
    """Walk the bins while they fit as a whole; return the first that does not, and what is left in front of it.

    A bin of no weight always fits by weight, also when nothing is left: the prefix is the longest one.
    """
    for i in range(len(bins)):
        if bins[i, 0] > n_left or bins[i, 1] > weight_left:
            return i, n_left, weight_left
        n_left -= bins[i, 0]
        weight_left -= bins[i, 1]
    return len(bins), n_left, weight_left
