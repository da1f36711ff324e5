"""The rank of every document in the order of a cut, for corpora that do not fit in memory.

The cut itself needs no ranks. People do: for "the best hundred", for percentiles, for a curriculum. The rows are spread
over key ranges on disk (splitters from an even sample), each range is sorted in memory, and the ranks travel back to
their shards.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..storage.lake import Lake
from ..storage.shuffle import MOST_PARTITIONS, Shuffle, partitions_for
from .budget import Part
from .cut_kernels import rank_bits

SAMPLED_ROWS = 200_000


@dataclass(frozen=True)
class Placed:
    """A part with the order of its rows: their keys, and the group that each is ranked in (below 0: in none)."""

    part: Part
    keys: npt.NDArray[np.float64]
    group: npt.NDArray[np.int64]


Stream = Callable[[], Iterable[Placed]]

_KEYED = pa.schema(
    [("part", pa.int64()), ("place", pa.int64()), ("bits", pa.uint64()), ("group", pa.int64()), ("doc_id", pa.string())]
)
_RANKED = pa.schema([("part", pa.int64()), ("place", pa.int64()), ("rank", pa.int64())])


def ranks(lake: Lake, stream: Stream, n_parts: int, n_rows: int) -> Iterator[pa.Array]:
    """Yield for each part the ranks of its rows (from 1, within their group), null where they have none.

    The order is that of the cut: key descending, NaN last, doc_id ascending. `stream` gives the parts in the same order
    each time.
    """
    n = partitions_for(lake.memory, n_rows)
    splitters = _splitters(stream, n, n_rows)
    n_home = max(1, min(n_parts, MOST_PARTITIONS))
    with Shuffle(lake, _KEYED, n) as by_key, Shuffle(lake, _RANKED, n_home) as home:
        for number, placed in enumerate(stream()):
            table = _keyed(number, placed)
            by_key.add(table, np.searchsorted(splitters, table.column("bits").to_numpy(), side="right"))
        by_key.close()
        seen: dict[int, int] = {}
        for number in range(n):
            table = _rank_range(by_key.partition(number), seen)
            home.add(table, table.column("part").to_numpy() * n_home // max(1, n_parts))
        home.close()
        yield from _home(stream, home, n_parts)


def _bits(keys: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Return numbers that sort ascending as the keys sort in the cut."""
    found: npt.NDArray[np.uint64] = rank_bits(np.ascontiguousarray(keys).view(np.uint64))
    return found


def _splitters(stream: Stream, n: int, n_rows: int) -> npt.NDArray[np.uint64]:
    if n == 1:
        return np.empty(0, np.uint64)
    step = max(1, n_rows // SAMPLED_ROWS)
    sample = np.sort(np.concatenate([_bits(placed.keys)[::step] for placed in stream()]))
    return sample[np.arange(1, n) * sample.size // n]


def _keyed(number: int, placed: Placed) -> pa.Table:
    place = np.flatnonzero(placed.group >= 0).astype(np.int64)
    ids = pa.array(placed.part.doc_ids(place), pa.string())
    columns = [np.full(place.size, number, np.int64), place, _bits(placed.keys)[place], placed.group[place], ids]
    return pa.table([pa.array(c) for c in columns], schema=_KEYED)


def _rank_range(table: pa.Table, seen: dict[int, int]) -> pa.Table:
    """Rank the rows of one key range; `seen` counts the rows of each group in the ranges before."""
    table = table.sort_by([("group", "ascending"), ("bits", "ascending"), ("doc_id", "ascending")])
    group = table.column("group").to_numpy()
    names, starts, sizes = np.unique(group, return_index=True, return_counts=True)
    rank = np.arange(1, group.size + 1, dtype=np.int64)
    for name, start, size in zip(names.tolist(), starts.tolist(), sizes.tolist(), strict=True):
        rank[start : start + size] += seen.get(name, 0) - start
        seen[name] = seen.get(name, 0) + size
    return pa.table([table.column("part"), table.column("place"), pa.array(rank)], schema=_RANKED)


def _home(stream: Stream, home: Shuffle, n_parts: int) -> Iterator[pa.Array]:
    loaded, there = -1, home.partition(0)
    for number, placed in enumerate(stream()):
        wanted = number * home.partitions // max(1, n_parts)
        if wanted != loaded:
            loaded, there = wanted, home.partition(wanted)
        mine = there.filter(pa.compute.equal(there.column("part"), number))
        rank = np.zeros(placed.group.size, dtype=np.int64)
        rank[mine.column("place").to_numpy()] = mine.column("rank").to_numpy()
        yield pa.array(rank, mask=rank == 0)
