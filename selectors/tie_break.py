"""Where the cut falls among documents with exactly the same key: by doc_id, in bounded memory.

A constant score ties the whole pool. Its ids are too many to sort, so the interval of ids in which the cut falls is
narrowed: a keyed sample of the ids cuts it into bins, one pass counts them, the bin that does not fit is the next
interval. 4,096 ids narrow 10^8 ties to some 25,000 in one round. Ids are only compared, so long shared prefixes cost
nothing, and Python compares text by code points, which is the order of its UTF-8 bytes.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .cut_kernels import Float64s, Int64s, count_bins, first_overflow

MAX_SAMPLE = 4096


class Ties(NamedTuple):
    """The tied rows of one part; `ids` returns the doc_ids of rows by their index in these arrays."""

    place: Int64s
    """Which search a row belongs to."""
    weight: Int64s
    priority: Float64s
    """Keyed and uniform: the rows of the smallest priority are the sample."""
    ids: Callable[[Int64s], Sequence[str]]


@dataclass
class TieSearch:
    """One group's search: the first document that does not fit has `low` <= doc_id < `high` (None: no end)."""

    n_left: int
    weight_left: int
    n_rows: int
    low: str = ""
    high: str | None = None
    found: bool = False
    """True: `low` is the document itself."""

    def holds(self, doc_id: str) -> bool:
        """Return whether the interval holds this id."""
        return self.low <= doc_id and (self.high is None or doc_id < self.high)

    def narrow(self, edges: list[str], bins: Int64s) -> None:
        """Go to the first bin that does not fit; bin i holds `edges[i]` <= doc_id < `edges[i + 1]`."""
        i, self.n_left, self.weight_left = first_overflow(bins, self.n_left, self.weight_left)
        self.n_rows = int(bins[i, 0])
        self.low, self.high = edges[i], edges[i + 1] if i + 1 < len(edges) else self.high


def break_ties(stream: Callable[[], Iterable[Ties]], searches: Sequence[TieSearch], max_rows: int) -> None:
    """Find, for each search, the first tied document in the order of doc_id that does not fit.

    Each search must hold more than fits. Memory is at most about `max_rows` ids (2 a search, if that is more).
    """
    while sum(search.n_rows for search in searches if not search.found) > max_rows:
        _narrow_by_sample(stream, searches, max_rows)
    tied: list[dict[str, list[int]]] = [{} for _ in searches]
    for ties, doc_ids in _open_ties(stream, searches):
        for place, weight, doc_id in zip(ties.place.tolist(), ties.weight.tolist(), doc_ids, strict=True):
            if searches[place].holds(doc_id):
                tied[place].setdefault(doc_id, []).append(weight)
    for search, weights in zip(searches, tied, strict=True):
        if not search.found:
            edges = sorted(weights)
            search.narrow(edges, np.array([(len(weights[edge]), sum(weights[edge])) for edge in edges], np.int64))
            search.found = True


def _narrow_by_sample(stream: Callable[[], Iterable[Ties]], searches: Sequence[TieSearch], max_rows: int) -> None:
    """Narrow every open search once; one whose sample is a single id has nothing but this id, and is done."""
    n_open = sum(not search.found for search in searches)
    samples = _sample(stream, searches, max(2, min(MAX_SAMPLE, max_rows // n_open)))
    for search, sample in zip(searches, samples, strict=True):
        if len(sample) == 1:
            search.low, search.found = sample[0], True
    edges = [sorted({search.low, *sample}) for search, sample in zip(searches, samples, strict=True)]
    starts: Int64s = np.cumsum([0, *map(len, edges)], dtype=np.int64)
    bins = np.zeros((starts[-1], 2), np.int64)
    for ties, doc_ids in _open_ties(stream, searches):
        tied = list(zip(ties.place.tolist(), doc_ids, strict=True))
        held = np.array([searches[place].holds(doc_id) for place, doc_id in tied], np.bool_)
        inner_bin = np.array([bisect_right(edges[place], doc_id) - 1 for place, doc_id in tied], np.int64)
        count_bins((starts[ties.place] + inner_bin)[held], ties.weight[held], bins)
    for search, inner, counted in zip(searches, edges, np.split(bins, starts[1:-1]), strict=True):
        if not search.found:
            search.narrow(inner, counted)


def _sample(stream: Callable[[], Iterable[Ties]], searches: Sequence[TieSearch], size: int) -> list[list[str]]:
    """Return up to `size` different ids of each open search, those of the smallest priority."""
    samples: list[list[tuple[float, str]]] = [[] for _ in searches]
    bound = np.full(len(searches), np.inf)
    for ties, doc_ids in _open_ties(stream, searches, bound):
        new: dict[int, set[tuple[float, str]]] = {}
        for place, priority, doc_id in zip(ties.place.tolist(), ties.priority.tolist(), doc_ids, strict=True):
            if searches[place].holds(doc_id):
                new.setdefault(place, set()).add((priority, doc_id))
        for place, pairs in new.items():
            samples[place] = sorted(pairs.union(samples[place]))[:size]
            if len(samples[place]) == size:
                bound[place] = samples[place][-1][0]
    return [[doc_id for _, doc_id in sample] for sample in samples]


def _open_ties(
    stream: Callable[[], Iterable[Ties]], searches: Sequence[TieSearch], bound: Float64s | None = None
) -> Iterator[tuple[Ties, Sequence[str]]]:
    """Yield the rows of the open searches (of a priority up to their `bound`) with their doc_ids."""
    found = np.array([search.found for search in searches], np.bool_)
    for ties in stream():
        wanted = ~found[ties.place]
        if bound is not None:
            wanted &= ties.priority <= bound[ties.place]
        rows = np.flatnonzero(wanted)
        if len(rows):
            yield Ties(ties.place[rows], ties.weight[rows], ties.priority[rows], ties.ids), ties.ids(rows)
