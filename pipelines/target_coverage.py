"""How much of a target a choice has: of its n-grams, and of its documents by their nearest vector.

An n-gram (n folded words in a row) counts as had where the choice has it anywhere. A larger choice has more: compare
choices of one size. n-grams are compared by 64-bit hashes: a choice with N different n-grams is given one of the
target's m too many with a chance of at most N m / 2^64 each way, for 10^9 and 10^6 one in 20,000.

All targets and choices are looked for in one pass over the texts, 70 to 100 MB/s a core for words, pairs and triples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from ..features.folded_words import Int64s, UInt64s, distinct, folded_words, power_of_base, roll
from ..features.word_kernels import ONE, mix64
from ..selectors.nearest import nearest
from ..selectors.nearest_kernels import Float32s

ORDERS = 3
MOST_GROUPS = 64
"""A bit of a word each."""
_EMPTY = np.uint64(0)
"""No hash is 0, but for one of 2^64."""
_6, _12, _63 = np.uint64(6), np.uint64(12), np.uint64(63)

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Coverage:
    """Shares of a target's n-grams that a choice has, by order (words first), 0 to 1; NaN where there are none."""

    distinct: tuple[float, ...]
    """Of its different n-grams."""
    weighted: tuple[float, ...]
    """Of all its n-grams: each as often as the target has it."""


class TargetGrams:
    """The n-grams of targets, and which groups of documents have them; the order of texts does not matter."""

    def __init__(self, targets: Sequence[pa.Array], n_groups: int = 1, orders: int = ORDERS) -> None:
        if not 1 <= n_groups <= MOST_GROUPS:
            raise ValueError(f"target coverage of {n_groups} choices, expected 1 to {MOST_GROUPS}")
        self.n_groups, self.orders, self._lock = n_groups, orders, Lock()
        words = [folded_words(text) for text in targets]
        grams = [[distinct(one.runs(n).hashes) for n in range(1, orders + 1)] for one in words]
        every = np.concatenate([np.empty(0, np.uint64), *(hashes for one in grams for hashes, _ in one)])
        self._keys, self._bloom = _table(distinct(every)[0])
        self._grams = [[(_slots(self._keys, hashes), counts) for hashes, counts in one] for one in grams]
        self._found = np.zeros(len(self._keys), np.uint64)

    def add(self, text: pa.Array, member: Bools | None = None) -> None:
        """Look at texts that are members of groups (groups, texts), by default of all; threads may share."""
        member = np.ones((self.n_groups, len(text)), np.bool_) if member is None else member
        bits = np.uint64(1) << np.arange(self.n_groups, dtype=np.uint64)
        groups = np.bitwise_or.reduce(np.where(member, bits[:, None], np.uint64(0)), axis=0)
        inside = np.flatnonzero(groups)
        words = folded_words(text if len(inside) == len(text) else text.take(pa.array(inside)))
        found = np.zeros_like(self._found)
        _look_up(words.ends, words.hashes, groups[inside], self.orders, self._keys, self._bloom, found)
        with self._lock:
            self._found |= found

    def coverage(self, target: int, group: int = 0) -> Coverage:
        """Return what a group has of a target, both by their place."""
        different, weighted = [], []
        for slots, counts in self._grams[target]:
            had = self._found[slots] >> np.uint64(group) & ONE > 0
            different.append(float(had.mean()) if len(had) else math.nan)
            weighted.append(int(counts[had].sum()) / int(counts.sum()) if len(had) else math.nan)
        return Coverage(tuple(different), tuple(weighted))


def facility_location(target: Float32s, chosen: Float32s, *, threads: int = 1) -> float:
    """Return the mean over the target's vectors of the largest cosine with a chosen one; NaN where one has none.

    Both are (n, d), of length 1 (`unit_rows`). 500 by 5,000 of 384 numbers take 40 ms.
    """
    if not len(target) or not len(chosen):
        return math.nan
    return math.fsum(nearest(target, chosen, spherical=True, threads=threads)[1]) / len(target)


def _table(hashes: UInt64s) -> tuple[UInt64s, UInt64s]:
    """Return an open table of different hashes, at most two thirds full, and a filter of 10 bits and more a hash."""
    size = 1 << max(6, (3 * len(hashes) // 2).bit_length())
    keys, bloom = np.full(size, _EMPTY, np.uint64), np.zeros(size // 8, np.uint64)
    _enter(hashes, keys, bloom)
    return keys, bloom


@njit(nogil=True, cache=True)
def _enter(hashes: UInt64s, keys: UInt64s, bloom: UInt64s) -> None:
    for i in range(len(hashes)):
        word, bits = _bits(hashes[i], bloom)
        bloom[word] |= bits
        keys[_slot(hashes[i], keys)] = hashes[i]


@njit(nogil=True, cache=True)
def _slots(keys: UInt64s, hashes: UInt64s) -> Int64s:
    slots = np.empty(len(hashes), np.int64)
    for i in range(len(hashes)):
        slots[i] = _slot(hashes[i], keys)
    return slots


@njit(nogil=True, cache=True)
def _bits(key: np.uint64, bloom: UInt64s) -> tuple[np.uint64, np.uint64]:
    """Return the word of the filter that a hash belongs to, and its two bits."""
    bits = (ONE << (key & _63)) | (ONE << ((key >> _6) & _63))
    return (key >> _12) & np.uint64(len(bloom) - 1), bits


@njit(nogil=True, cache=True)
def _slot(key: np.uint64, keys: UInt64s) -> np.uint64:
    """Return where a hash is, or would be."""
    last = np.uint64(len(keys) - 1)
    slot = key & last
    while keys[slot] != key and keys[slot] != _EMPTY:
        slot = (slot + ONE) & last
    return slot


@njit(nogil=True, cache=True)
def _look_up(
    ends: Int64s, words: UInt64s, groups: UInt64s, orders: int, keys: UInt64s, bloom: UInt64s, found: UInt64s
) -> None:
    """Write into `found` the groups of the documents that have each hash.

    A document's hashes that pass the filter are put aside first: then the look-ups, all of which miss the cache, do not
    wait for each other.
    """
    none, maybe = np.uint64(0), np.empty(1, np.uint64)
    for doc in range(len(ends) - 1):
        begin, end = np.uint64(ends[doc]), np.uint64(ends[doc + 1])
        if len(maybe) <= end - begin:
            maybe = np.empty(2 * (end - begin), np.uint64)
        for n in range(1, orders + 1):
            power, run, n_maybe = power_of_base(n), none, none
            full = begin + np.uint64(n)
            k = begin
            while k < end:
                run = roll(run, words[k], words[k - np.uint64(n)] if k >= full else none, power)
                k += ONE
                key = mix64(run)
                word, bits = _bits(key, bloom)
                maybe[n_maybe] = key
                n_maybe += np.uint64((k >= full) & (bloom[word] & bits == bits))
            for i in range(n_maybe):
                key = maybe[np.uint64(i)]
                slot = _slot(key, keys)
                if keys[slot] == key:
                    found[slot] |= groups[doc]
