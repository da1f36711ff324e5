"""Which documents of a choice repeat others: the same text, or signatures of `minhash` that are mostly equal.

Two documents are nearly the same where at least 0.8 of the numbers of their signatures are equal: of 112 numbers 90. So
a pair of Jaccard similarity 0.7 is taken for one with a chance of 1%, 0.75 of 11%, 0.8 of 52%, 0.85 of 93%, 0.9 of
99.9%. Such pairs are looked for among documents that agree on a whole band of the signature (locality-sensitive
hashing). There are more bands, 28 of 4 numbers, than numbers in which a pair may differ, 22; so one band is free of
differences, and every such pair is found. FineWeb's 14 bands of 8 take a pair of 0.7 with a chance of 56% and of 0.8 of
92%, and compare no further. Groups are connected pairs: two members may be less alike. 100,000 documents take 0.4 s.

Of more than 129 documents that agree on a band, such as pages of one template, each is compared with 128 before it, in
another order for each band (sorted neighbourhoods, Hernández & Stolfo 1995, https://doi.org/10.1145/568271.223807).
All pairs of 30,000 took 12 to 21 s; so 200,000 take 2 to 5 s. Among 10,000 pages with similarities of 0.5, 0.72 or 0.81
that lost 4 of 11,583 pairs of 0.85 and 0.9. Of those of 0.72, linked by chance alone, 76% were repeats instead of 79%.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from ..features.minhash_kernels import NO_WORDS
from ..features.word_kernels import SEED, absorb, mix64

JACCARD = 0.8
_ROUNDING = 1e-9
"""0.8 of 5 numbers are 4, not 4.000000000000001."""
COMPARED = 128
"""With so many of those that agree on a band a document is compared: its neighbours by the band before."""
_BUCKET = np.uint64(-1 << 24 & 0xFFFF_FFFF_FFFF_FFFF)
"""Of a key: 40 bits are the bucket, where a chance meeting costs a comparison, 24 the order in it."""

Int64s = npt.NDArray[np.int64]
UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class DuplicateRate:
    """Shares of documents that are not the first of their group, 0 to 1; NaN without documents."""

    exact: float
    """Groups of the same text."""
    near: float
    """Groups of the same or nearly the same text: at least `exact`."""


def duplicate_rate(signatures: UInt32s, text_hashes: pa.Array, jaccard: float = JACCARD) -> DuplicateRate:
    """Return how many documents repeat another one; their order does not matter.

    `signatures` is (n, k), `text_hashes` has n values that are equal where texts are.
    """
    n = len(signatures)
    if not n:
        return DuplicateRate(math.nan, math.nan)
    same, near = _first_of_text(text_hashes), duplicate_groups(signatures, text_hashes, jaccard)
    return DuplicateRate(*(float((group != np.arange(n)).mean()) for group in (same, near)))


def duplicate_groups(signatures: UInt32s, text_hashes: pa.Array, jaccard: float = JACCARD) -> Int64s:
    """Return for each document the first one of its group. Texts without words are like those of the same text alone.

    Raises ValueError where `jaccard` is not above 0 and at most 1.
    """
    if not 0 < jaccard <= 1:
        raise ValueError(f"near-duplicates: jaccard is {jaccard}, expected above 0 and at most 1")
    group = _first_of_text(text_hashes)
    signatures = np.ascontiguousarray(signatures, np.uint32)
    rows = np.flatnonzero((group == np.arange(len(group))) & (signatures != NO_WORDS).any(axis=1))
    rows, by_signature = _without_twins(signatures, rows, group)
    n_numbers = signatures.shape[1]
    n_equal = math.ceil(jaccard * n_numbers - _ROUNDING)
    size = n_numbers // (n_numbers - n_equal + 1)
    starts = range(0, n_numbers - size + 1, size)
    inside = _band_keys(signatures, rows, starts[-1], starts[-1] + size)
    for start in starts:
        bucket = _band_keys(signatures, rows, start, start + size)
        keys = (bucket & _BUCKET | inside & ~_BUCKET)[by_signature]
        order = np.argsort(keys)
        _join_buckets(signatures, rows[by_signature[order]], keys[order] & _BUCKET, n_equal, group)
        inside = bucket
    _to_roots(group)
    return group


def _first_of_text(text_hashes: pa.Array | pa.ChunkedArray) -> Int64s:
    """Return for each document the first one of the same text."""
    chunked = isinstance(text_hashes, pa.ChunkedArray)
    codes = np.asarray((text_hashes.combine_chunks() if chunked else text_hashes).dictionary_encode().indices)
    first = np.full(codes.max(initial=-1) + 1, len(codes), np.int64)
    np.minimum.at(first, codes, np.arange(len(codes)))
    of_text: Int64s = first[codes]
    return of_text


def _without_twins(signatures: UInt32s, rows: Int64s, group: Int64s) -> tuple[Int64s, Int64s]:
    """Bring rows of equal signatures into the group of the first one; return the first ones, and an order of these.

    The order is one of the signatures alone, whichever document comes first: ties are settled by it.
    """
    _, first, place = np.unique(
        _band_keys(signatures, rows, 0, signatures.shape[1]), return_index=True, return_inverse=True
    )
    group[rows] = rows[first[place]]
    by_place = np.argsort(first)
    return rows[first[by_place]], np.argsort(by_place)


@njit(nogil=True, cache=True)
def _band_keys(signatures: UInt32s, rows: Int64s, start: int, stop: int) -> UInt64s:
    """Return the hash of each row's numbers from `start` to `stop`."""
    keys = np.empty(len(rows), np.uint64)
    for i in range(len(rows)):
        state = SEED
        for j in range(start, stop):
            state = mix64(absorb(state, signatures[rows[i], j]))
        keys[i] = state
    return keys


@njit(nogil=True, cache=True)
def _join_buckets(signatures: UInt32s, rows: Int64s, keys: UInt64s, n_equal: int, group: Int64s) -> None:
    """Bring together the groups of rows that share a key, near one another, and at least `n_equal` numbers."""
    start = 0
    for i in range(len(rows)):
        if keys[i] != keys[start]:
            start = i
        for j in range(max(start, i - COMPARED), i):
            left, right = _root(group, rows[i]), _root(group, rows[j])
            if left != right and _n_equal(signatures[rows[i]], signatures[rows[j]]) >= n_equal:
                group[max(left, right)] = min(left, right)


@njit(nogil=True, cache=True)
def _n_equal(left: UInt32s, right: UInt32s) -> int:
    n = 0
    for k in range(len(left)):
        n += left[k] == right[k]
    return n


@njit(nogil=True, cache=True)
def _root(group: Int64s, row: np.int64) -> np.int64:
    """Return the first document of a group, and shorten the way to it."""
    while group[row] != row:
        group[row] = group[group[row]]
        row = group[row]
    return row


@njit(nogil=True, cache=True)
def _to_roots(group: Int64s) -> None:
    for row in range(len(group)):
        group[row] = _root(group, np.int64(row))
