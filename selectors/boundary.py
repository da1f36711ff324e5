"""Where the cut falls: the first document of each group that does not fit, found without sorting the pool.

Passes of radix histograms over the 64 rank bits: each pass counts the rows of a group's boundary bin by their next
digit (20 bits for one group, fewer for many, so that all counters stay within 32 MB) and goes on in the first bin that
does not fit. Once few rows are left they are collected and sorted; ties on all 64 bits go to `tie_break`. Memory does
not depend on the number of rows; ten million take one counting pass and one that collects, 0.2 s without the reading.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .cut_kernels import MAX_WEIGHT, Bools, Int64s, UInt64s, count_digits, first_overflow, in_bin
from .keyed import uniform
from .tie_break import Ties, TieSearch, break_ties

MAX_ROWS = 2**18
"""Rows of boundary bins, all groups together, from which on they are collected."""
MAX_COUNTERS = 2**22
MAX_DIGIT_BITS = 20


class PoolRows(NamedTuple):
    """What the search reads of one part; a row outside the pool has code -1."""

    code: Int64s
    rank: UInt64s
    weight: Int64s
    doc_key: UInt64s
    doc_ids: Callable[[Int64s], Sequence[str]]


Stream = Callable[[], Iterable[PoolRows]]


@dataclass(frozen=True)
class Edge:
    """The first document that is out: what comes before it, in rank and then in doc_id, is kept."""

    rank: int
    doc_id: str | None = None
    """None: the edge is in front of all documents of this rank."""


EVERYTHING = Edge(2**64 - 1)
NOTHING = Edge(0)


@dataclass(frozen=True)
class Taken:
    """What the cut keeps of one group."""

    edge: Edge
    n_docs: int
    weight: int


@dataclass
class _Search:
    """The boundary bins of the groups that do not fit as a whole: rows whose rank begins with `prefix`."""

    slot: Int64s
    """The place of each group's code in the arrays below, -1 for groups that are not searched."""
    n_left: Int64s
    weight_left: Int64s
    n_rows: Int64s
    prefix: UInt64s
    depth: int = 0

    @property
    def mask(self) -> np.uint64:
        """The leading bits that are known."""
        return np.uint64(2**64 - 2 ** (64 - self.depth))

    def rows(self, stream: Stream) -> Iterator[tuple[PoolRows, Bools, Int64s]]:
        """Yield each part with the mask of its rows in boundary bins, and the place of every row."""
        for rows in stream():
            yield rows, in_bin(rows.code, rows.rank, self.slot, self.prefix, self.mask), self.slot[rows.code]


def take(stream: Stream, pool: Int64s, limits: Sequence[tuple[int, int]], max_rows: int = MAX_ROWS) -> list[Taken]:
    """Return the longest prefix of each group that keeps within its limits (documents, weight).

    `pool` has a row a group: its documents and their weight. `stream` is asked several times for the same rows.
    A group that is limited to no documents takes nothing, one that fits takes all: neither is searched.
    """
    taken = [Taken(EVERYTHING, n_docs, weight) for n_docs, weight in pool.tolist()]
    searched = []
    for code, (n_limit, weight_limit) in enumerate(limits):
        if n_limit == 0:
            taken[code] = Taken(NOTHING, 0, 0)
        elif taken[code].n_docs > n_limit or taken[code].weight > weight_limit:
            searched.append(code)
    if searched:
        asked = np.array([[min(limit, MAX_WEIGHT) for limit in limits[code]] for code in searched], np.int64)
        left, edges = _find(stream, pool, searched, asked, max_rows)
        for code, (n_docs, weight), edge in zip(searched, (asked - left).tolist(), edges, strict=True):
            taken[code] = Taken(edge, n_docs, weight)
    return taken


def _find(stream: Stream, pool: Int64s, codes: list[int], asked: Int64s, max_rows: int) -> tuple[Int64s, list[Edge]]:
    """Return what is left of the limits in front of each edge, and the edges."""
    slot = np.full(len(pool), -1, np.int64)
    slot[codes] = np.arange(len(codes))
    prefix = np.zeros(len(codes), np.uint64)
    search = _Search(slot, asked[:, 0].copy(), asked[:, 1].copy(), pool[codes, 0].copy(), prefix)
    while search.depth < 64 and search.n_rows.sum() > max_rows:
        _narrow_by_digit(stream, search)
    if search.depth < 64:
        _narrow_by_rank(stream, search)
    doc_ids = _edge_ids(stream, search, max_rows)
    edges = [Edge(rank, doc_id) for rank, doc_id in zip(search.prefix.tolist(), doc_ids, strict=True)]
    return np.stack([search.n_left, search.weight_left], axis=1), edges


def digit_bits(n_groups: int, depth: int) -> int:
    """Return how many bits the next digit has, such that the counters of all groups keep within MAX_COUNTERS."""
    bins = max(2, MAX_COUNTERS // (2 * n_groups))
    return min(MAX_DIGIT_BITS, bins.bit_length() - 1, 64 - depth)


def _narrow_by_digit(stream: Stream, search: _Search) -> None:
    """Read the pool once, and go from each boundary bin to the one of its bins that does not fit."""
    bits = digit_bits(len(search.prefix), search.depth)
    bins = np.zeros((len(search.prefix), 2**bits, 2), np.int64)
    shift = np.uint64(64 - search.depth - bits)
    for rows, hit, place in search.rows(stream):
        count_digits(hit, place, rows.rank, rows.weight, shift, bins)
    for i in range(len(bins)):
        search.prefix[i] |= np.uint64(_step(search, i, bins[i])) << shift
    search.depth += bits


def _narrow_by_rank(stream: Stream, search: _Search) -> None:
    """Collect the few rows of the boundary bins, and go to the one rank in each that does not fit."""
    parts = [(place[hit], rows.rank[hit], rows.weight[hit]) for rows, hit, place in search.rows(stream)]
    place, rank, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((rank, place))
    place, rank, weight = place[order], rank[order], weight[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(place) != 0) | (rank[1:] != rank[:-1])])
    bins = np.stack([np.diff(starts, append=len(rank)), np.add.reduceat(weight, starts)], axis=1)
    ends = np.searchsorted(place[starts], np.arange(len(search.prefix) + 1))
    for i, (begin, end) in enumerate(pairwise(ends)):
        search.prefix[i] = rank[starts[begin + _step(search, i, bins[begin:end])]]
    search.depth = 64


def _step(search: _Search, place: int, bins: Int64s) -> int:
    """Go to the first bin of one group that does not fit, and return its index."""
    index, n_left, weight_left = first_overflow(bins, search.n_left[place], search.weight_left[place])
    assert index < len(bins), "the parts changed between two passes"
    search.n_left[place], search.weight_left[place], search.n_rows[place] = n_left, weight_left, bins[index, 0]
    return int(index)


def _edge_ids(stream: Stream, search: _Search, max_rows: int) -> list[str | None]:
    """Return the doc_id at which each tie is cut; None where no document of the edge's rank is kept."""
    tied = np.flatnonzero((search.n_rows > 1) & (search.n_left > 0))
    ties = [TieSearch(int(search.n_left[i]), int(search.weight_left[i]), int(search.n_rows[i])) for i in tied]
    if not ties:
        return [None] * len(search.prefix)
    place_of = np.full(len(search.prefix) + 1, -1, np.int64)
    place_of[tied] = np.arange(len(tied))
    break_ties(lambda: (_ties(found, place_of) for found in search.rows(stream)), ties, max_rows)
    doc_ids: list[str | None] = [None] * len(search.prefix)
    for i, tie in zip(tied.tolist(), ties, strict=True):
        search.n_left[i], search.weight_left[i], doc_ids[i] = tie.n_left, tie.weight_left, tie.low
    return doc_ids


def _ties(found: tuple[PoolRows, Bools, Int64s], place_of: Int64s) -> Ties:
    """Return the rows of one part that lie in a tie which the cut divides."""
    rows, hit, place = found
    at = np.flatnonzero(hit & (place_of[place] >= 0))
    priority = uniform(rows.doc_key[at], 0)
    return Ties(place_of[place[at]], rows.weight[at], priority, lambda some: rows.doc_ids(at[some]))
