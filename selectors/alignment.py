"""How well pieces of the pool compress together with the sampled documents of one target.

A piece has two sums: over the target's documents, and over texts of the pool of about the same compressed sizes, with
which it is compared where there are any. The first documents of both are for every piece, the others for the best.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..features.compressors import Compressor, sizer, sizer_behind
from ..features.deflate_kernels import parser
from ..features.match_kernels import LEVELS, Effort, known_matches
from .zip_fit_kernels import add_alignments, alignment, by_document, fill_sizes

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
UInt64s = npt.NDArray[np.uint64]


def uses_kernel(compressor: Compressor, level: int) -> bool:
    """Say whether sizes come from the kernel, and not from the compressor's library."""
    return compressor == "gzip" and level in LEVELS


def sizes(compressor: Compressor, level: int, texts: list[bytes]) -> list[int]:
    """Return the compressed sizes in bytes, from where those of pairs will come."""
    if not uses_kernel(compressor, level):
        return [*map(sizer(compressor, level), texts)]
    found = np.empty(len(texts), np.int64)
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    room = parser(max(map(len, texts), default=0), 0)
    fill_sizes(
        room, np.frombuffer(b"".join(texts), np.uint8), ends, known_matches([], LEVELS[level]), LEVELS[level], found
    )
    return found.tolist()


class Units(NamedTuple):
    """What is compressed: documents or windows of them."""

    data: npt.NDArray[np.uint8]
    starts: Int64s
    ends: Int64s
    first: Int64s
    """The units of document i are first[i] to first[i + 1]."""


@dataclass(frozen=True)
class Sample:
    """The sampled documents of one target, and of the pool."""

    compressor: Compressor
    level: int
    shared: bool
    """Whether a pair counts by the bytes that it shares; else by 1 - NCD."""
    texts: list[bytes]
    """Those of the target, then those of the pool."""
    sizes: Int64s
    keys: UInt64s
    """Of the pool's texts, by place; 0 at a target's."""
    n: int
    """How many are the target's."""
    n_first: int
    """How many of the target's, and of the pool's, are for every unit."""

    @property
    def n_pool(self) -> int:
        """How many are the pool's."""
        return len(self.texts) - self.n

    def first(self) -> Int64s:
        """Return the places of the texts for every unit."""
        places = np.arange(len(self.texts))
        return places[(places < self.n_first) | ((places >= self.n) & (places < self.n + self.n_first))]

    def others(self) -> Int64s:
        """Return the places of the texts for the best units."""
        return np.setdiff1d(np.arange(len(self.texts)), self.first())

    def add(self, units: Units, which: Int64s, texts: Int64s, totals: Float64s) -> None:
        """Add the alignments of some units with some texts to their totals, units x (target, pool)."""
        self._add(units, which, texts, (np.arange(len(self.texts)) >= self.n).astype(np.int64), totals)

    def pairs(self, units: Units) -> Float64s:
        """Return the alignment of every unit with every text, units x texts."""
        every, found = np.arange(len(self.texts)), np.zeros((len(units.starts), len(self.texts)))
        self._add(units, np.arange(len(units.starts)), every, every, found)
        return found

    def _add(self, units: Units, which: Int64s, texts: Int64s, sides: Int64s, totals: Float64s) -> None:
        """Add alignments to the totals of units, each text's to the column that `sides` gives it."""
        starts, ends = units.starts[which], units.ends[which]
        if self._effort is None:
            size = sizer(self.compressor, self.level)
            for unit, start, end in zip(which.tolist(), starts.tolist(), ends.tolist(), strict=True):
                self._add_one(units.data[start:end].tobytes(), size, texts, sides, totals[unit])
            return
        room = parser(int(np.max(ends - starts, initial=0)), max(map(len, self.texts)))
        found = totals[which]
        add_alignments(
            room, units.data, starts, ends, self._matches, texts, sides, self.sizes, self._effort, self.shared, found
        )
        totals[which] = found

    @cached_property
    def _effort(self) -> Effort | None:
        return LEVELS[self.level] if uses_kernel(self.compressor, self.level) else None

    @cached_property
    def _matches(self) -> Any:
        assert self._effort is not None
        return known_matches(self.texts, self._effort)

    def _add_one(
        self, source: bytes, size: Callable[[bytes], int], texts: Int64s, sides: Int64s, totals: Float64s
    ) -> None:
        """Add what the library of the compressor says, pair by pair."""
        alone, behind = size(source), sizer_behind(self.compressor, self.level, source)
        for text in texts.tolist():
            totals[sides[text]] += alignment(alone, int(self.sizes[text]), behind(self.texts[text]), self.shared)


class Scoring:
    """The sums of a batch of documents with one sample."""

    def __init__(self, sample: Sample, units: Units, keys: UInt64s, best: bool) -> None:
        self._sample, self._units, self._keys, self._best = sample, units, keys, best
        self._totals = np.zeros((len(units.starts), 2), np.float64)
        self._met = np.zeros((len(units.starts), 2), np.int64)

    def first(self) -> Float64s:
        """Return the scores of all documents over the texts that all meet."""
        return self._scores(np.arange(len(self._totals)), self._sample.first(), np.ones(len(self._keys), np.bool_))

    def refined(self, best: npt.NDArray[np.bool_]) -> Float64s:
        """Return the scores of the best documents over all texts; call `first` before."""
        inside = np.flatnonzero(np.repeat(best, np.diff(self._units.first)))
        return self._scores(inside, self._sample.others(), best)[best]

    def _scores(self, which: Int64s, texts: Int64s, documents: npt.NDArray[np.bool_]) -> Float64s:
        """Let some units meet some texts, and return the scores of all documents."""
        sample = self._sample
        sample.add(self._units, which, texts, self._totals)
        n_pool = np.count_nonzero(texts >= sample.n)
        self._met[which] += [len(texts) - n_pool, n_pool]
        self._forget_itself(texts, documents)
        target, pool = (self._totals / np.maximum(1, self._met)).T
        scores = np.empty(len(self._keys), np.float64)
        by_document(target - pool, self._units.first, self._best, scores)
        return scores

    def _forget_itself(self, texts: Int64s, documents: npt.NDArray[np.bool_]) -> None:
        """Take out again what a text of the pool's sample shares with itself."""
        pool = texts[texts >= self._sample.n]
        for place in pool[np.isin(self._sample.keys[pool], self._keys[documents])]:
            same = documents & (self._keys == self._sample.keys[place])
            units = np.flatnonzero(np.repeat(same, np.diff(self._units.first)))
            itself = np.zeros_like(self._totals)
            self._sample.add(self._units, units, np.array([place]), itself)
            self._totals[units] -= itself[units]
            self._met[units, 1] -= 1
