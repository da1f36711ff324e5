"""Where the consecutive blocks of an order end, each as large as its limits allow: without sorting the pool.

A block is a cut of what the blocks before it left, so its end depends on theirs. One pass counts the documents of each
bin of places. Ends lie in the few bins in which they can lie; these are collected and walked exactly, and where their
rows are too many for one pass, the next one goes on from the last end found. Limits in documents leave no doubt about
the bins; those in tokens as much as the largest document, for each block again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .boundary import MAX_ROWS, digit_bits
from .cut_kernels import Bools, Int64s, UInt64s, count_digits
from .marks import LAST_PLACE

PLACE_BITS = LAST_PLACE.bit_length() - 1
_ONE = np.uint64(1)


class Ordered(NamedTuple):
    """The rows of a part in an order; a row that is not in it has code -1."""

    code: Int64s
    place: UInt64s
    weight: Int64s
    doc_ids: Callable[[Int64s], Sequence[str]]


Stream = Callable[[], Iterable[Ordered]]


@dataclass(frozen=True)
class Limits:
    """How much a block may hold of one group; every document alone fits, and n_documents is at least 1."""

    n_documents: int
    weight: int


@dataclass
class Blocks:
    """The closed blocks of one group, in front of a document that did not fit: place and id of it, and their sizes."""

    ends: list[tuple[int, str | None]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    n_before: int = 0
    weight_before: int = 0
    """What all of them hold."""
    done: bool = False
    """What is left fits into one block, or there are as many as wanted."""


def find_blocks(
    stream: Stream, n_rows: int, limits: Sequence[Limits], wanted: Sequence[int], max_rows: int = MAX_ROWS
) -> list[Blocks]:
    """Return the blocks of each group, at most as many as wanted; what is left then is smaller than a block.

    `stream` is asked several times for the same rows, about `n_rows`; beside one part, some `max_rows` of them are
    held. A group of which no block is wanted is not looked at.
    """
    found = [Blocks(done=not n) for n in wanted]
    if all(blocks.done for blocks in found):
        return found
    bits = min(PLACE_BITS, digit_bits(len(limits), 0), n_rows.bit_length())
    shift = np.uint64(PLACE_BITS - bits)
    bins, largest = np.zeros((len(limits), 2**bits, 2), np.int64), np.zeros(len(limits), np.int64)
    for rows in stream():
        inside = rows.code >= 0
        count_digits(inside, rows.code, rows.place - _ONE, rows.weight, shift, bins)
        np.maximum.at(largest, rows.code[inside], rows.weight[inside])
    sums = np.concatenate([np.zeros((len(limits), 1, 2), np.int64), np.cumsum(bins, axis=1)], axis=1)
    walks = [_Walk(sums[i], limits[i], wanted[i], int(largest[i]), found[i]) for i in range(len(limits))]
    for walk in walks:
        walk.go(_NO_ROWS, np.zeros(2**bits, np.bool_))
    while open_walks := [i for i, walk in enumerate(walks) if not walk.blocks.done]:
        hit = np.zeros((len(limits), 2**bits), np.bool_)
        for i in open_walks:
            hit[i, walks[i].candidates(max_rows // len(open_walks))] = True
        rows_of = _collect(stream, hit, shift)
        for i in open_walks:
            walks[i].go(rows_of[i], hit[i])
    return found


class _Collected(NamedTuple):
    """The collected rows of one group, in order."""

    digit: Int64s
    place: UInt64s
    weight: Int64s
    doc_id: dict[int, str]
    """Of rows that share their place with another one, by index."""


_NO_ROWS = _Collected(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int64), {})


@dataclass
class _Walk:
    """The walk along one group: `sums` has documents and weight in front of each bin, and of all in the end."""

    sums: Int64s
    limits: Limits
    wanted: int
    largest: int
    blocks: Blocks

    def _bin(self, n_before: int, weight_before: int) -> int:
        """Return the bin with the first document that does not fit into a block which begins there."""
        most = self.sums[-1].tolist()
        n, weight = min(most[0], n_before + self.limits.n_documents), min(most[1], weight_before + self.limits.weight)
        return int(min(np.searchsorted(self.sums[1:, i], x, side="right") for i, x in ((0, n), (1, weight))))

    def candidates(self, max_rows: int) -> Int64s:
        """Return the bins in which the next ends can lie, as many as have so few rows, but those of one end always."""
        first = last = (self.blocks.n_before, self.blocks.weight_before)
        hit: list[Int64s] = []
        n_rows, n_bins = 0, len(self.sums) - 1
        for _ in range(self.wanted - len(self.blocks.ends)):
            begin, end = self._bin(*first), min(self._bin(*last), n_bins - 1)
            if begin == n_bins:
                break
            n_rows += int(self.sums[end + 1, 0] - self.sums[begin, 0])
            if hit and n_rows > max_rows:
                break
            hit.append(np.arange(begin, end + 1))
            first, last = self._earliest(first, begin), self._latest(last, end)
        return np.unique(np.concatenate(hit)) if hit else np.empty(0, np.int64)

    def _earliest(self, first: tuple[int, int], begin: int) -> tuple[int, int]:
        """Return the least that can be in front of an end that is not before the bin `begin`."""
        (n, weight), most = self.sums[begin].tolist(), self.sums[-1].tolist()
        if self.limits.weight >= most[1]:
            return first[0] + self.limits.n_documents, weight
        if self.limits.n_documents >= most[0]:
            return n, max(weight, first[1] + self.limits.weight - self.largest + 1)
        return n, weight

    def _latest(self, last: tuple[int, int], end: int) -> tuple[int, int]:
        """Return the most that can be in front of an end that is not after the bin `end`."""
        n, weight = self.sums[end + 1].tolist()
        return min(n, last[0] + self.limits.n_documents), min(weight, last[1] + self.limits.weight)

    def go(self, rows: _Collected, hit: Bools) -> None:
        """Find the ends as far as their bins were collected."""
        blocks = self.blocks
        while not blocks.done:
            digit = self._bin(blocks.n_before, blocks.weight_before)
            if digit == len(self.sums) - 1:
                blocks.done = True
                return
            if not hit[digit]:
                return
            begin, end = np.searchsorted(rows.digit, [digit, digit + 1])
            n, weight = self.sums[digit].tolist()
            sums = weight + np.cumsum(rows.weight[begin:end])
            too_many = blocks.n_before + self.limits.n_documents - n
            too_heavy = min(int(sums[-1]), blocks.weight_before + self.limits.weight)
            index = min(int(np.searchsorted(sums, too_heavy, side="right")), too_many)
            n, weight = n + index, int(sums[index - 1]) if index else weight
            blocks.sizes.append((n - blocks.n_before, weight - blocks.weight_before))
            blocks.n_before, blocks.weight_before = n, weight
            blocks.ends.append(_end(rows, int(begin) + index))
            blocks.done = len(blocks.ends) == self.wanted


def _end(rows: _Collected, index: int) -> tuple[int, str | None]:
    """Return the mark in front of a row; no id where no row before it has its place."""
    divides = index > 0 and rows.place[index - 1] == rows.place[index]
    return int(rows.place[index]), rows.doc_id[index] if divides else None


def _collect(stream: Stream, hit: Bools, shift: np.uint64) -> dict[int, _Collected]:
    """Return the rows of the bins that are hit, by group."""
    parts = []
    for rows in stream():
        digit = ((rows.place - _ONE) >> shift).astype(np.int64)
        at = np.flatnonzero((rows.code >= 0) & hit[rows.code, digit])
        parts.append((rows.code[at], digit[at], rows.place[at], rows.weight[at]))
    code, digit, place, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((place, code))
    code, digit, place, weight = code[order], digit[order], place[order], weight[order]
    same = (code[1:] == code[:-1]) & (place[1:] == place[:-1])
    tied = np.flatnonzero(np.r_[same, False] | np.r_[False, same]) if len(code) else np.empty(0, np.int64)
    doc_ids = _in_order_of_ids(stream, code, place, weight, tied) if len(tied) else {}
    found = {}
    for i in np.unique(code).tolist():
        begin, end = np.searchsorted(code, [i, i + 1]).tolist()
        mine = {at - begin: doc_id for at, doc_id in doc_ids.items() if begin <= at < end}
        found[i] = _Collected(digit[begin:end], place[begin:end], weight[begin:end], mine)
    return found


def _in_order_of_ids(stream: Stream, code: Int64s, place: UInt64s, weight: Int64s, tied: Int64s) -> dict[int, str]:
    """Bring the weights of tied rows into the order of the ids, and return the ids: hashes hardly ever collide."""
    wanted = set(zip(code[tied].tolist(), place[tied].tolist(), strict=True))
    entries: list[tuple[int, int, str, int]] = []
    for rows in stream():
        at = np.flatnonzero((rows.code >= 0) & np.isin(rows.place, place[tied]))
        at = at[[pair in wanted for pair in zip(rows.code[at].tolist(), rows.place[at].tolist(), strict=True)]]
        ids = rows.doc_ids(at) if len(at) else []
        entries += zip(rows.code[at].tolist(), rows.place[at].tolist(), ids, rows.weight[at].tolist(), strict=True)
    entries.sort(key=lambda entry: entry[:3])
    weight[tied] = [entry[3] for entry in entries]
    return {at: entry[2] for at, entry in zip(tied.tolist(), entries, strict=True)}
