"""Sort tables that do not fit in memory: spread them over ranges of the key, sort a range at a time.

The key of a row is a pair, `rank` (uint64) and `number` (float64, keyed and uniform), so that rows of equal rank can be
spread too; `ties` are further columns, compared only where both are equal. Where the ranges end (`Splits`) decides how
much memory is needed and never what comes out. Above 256 ranges rows are spread twice. The scratch folder holds the
tables once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .lake import Lake
from .shuffle import MOST_PARTITIONS, Shuffle

RANK, NUMBER = "rank", "number"


@dataclass(frozen=True)
class Splits:
    """Where ranges of the key end, ascending; one range more than there are entries."""

    rank: npt.NDArray[np.uint64]
    number: npt.NDArray[np.float64]

    @classmethod
    def even(cls, n: int) -> "Splits":
        """Return the splits of `n` ranges of uniform numbers, where all ranks are 0."""
        return cls(np.zeros(n - 1, np.uint64), np.arange(1, n) / n)

    @classmethod
    def of_sample(
        cls, rank: npt.NDArray[np.uint64], number: npt.NDArray[np.float64], weight: npt.NDArray[np.int64], n: int
    ) -> "Splits":
        """Return the splits of `n` ranges that have about the same weight in a sample."""
        order = np.lexsort((number, rank))
        ends = np.cumsum(weight[order])
        at = np.searchsorted(ends, ends[-1] * np.arange(1, n) / n) if len(ends) else np.empty(0, np.int64)
        return cls(rank[order][at], number[order][at])

    def __len__(self) -> int:
        return len(self.rank)

    def __getitem__(self, part: slice) -> "Splits":
        return Splits(self.rank[part], self.number[part])

    def ranges(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """Return which range each row is in."""
        n = table.num_rows
        order = np.lexsort(
            (
                np.concatenate([table.column(NUMBER).to_numpy(), self.number]),
                np.concatenate([table.column(RANK).to_numpy(), self.rank]),
            )
        )
        passed = np.cumsum(order >= n)  # splits in front of each; a row that equals one comes first
        found = np.empty(n, np.int64)
        found[order[order < n]] = passed[order < n]
        return found


def in_order(
    lake: Lake, schema: pa.Schema, tables: Iterable[pa.Table], splits: Splits, ties: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield the rows of all tables in ascending order, a range at a time."""
    step = -(-(len(splits) + 1) // MOST_PARTITIONS)
    coarse = splits[step - 1 :: step]
    with Shuffle(lake, schema, len(coarse) + 1) as shuffle:
        for table in tables:
            shuffle.add(table, coarse.ranges(table))
        shuffle.close()
        for number in range(shuffle.partitions):
            found = shuffle.partition(number)
            if step > 1:
                pieces = (pa.Table.from_batches([batch]) for batch in found.to_batches())
                yield from in_order(lake, schema, pieces, splits[number * step : (number + 1) * step - 1], ties)
            elif found.num_rows:
                yield _sorted(found.combine_chunks(), ties)


def _sorted(table: pa.Table, ties: Sequence[str]) -> pa.Table:
    keys = [(name, "ascending") for name in (RANK, NUMBER, *ties)]
    return table.take(pc.sort_indices(table, keys))


def evenly(
    tables: Iterable[pa.Table], sizes: Callable[[pa.Table], npt.NDArray[np.int64]], most_bytes: int
) -> Iterator[pa.Table]:
    """Cut a stream of tables anew, so that the rows of each have at most so many bytes; a larger row is alone.

    `sizes` returns the bytes of each row of a table.

    The cuts depend on the rows alone, not on the tables that they come in.
    """
    rest: pa.Table | None = None
    for table in tables:
        table = table if rest is None else pa.concat_tables([rest, table])
        start = 0
        for start, stop in even_cuts(sizes(table), most_bytes):
            if stop == table.num_rows:
                break  # the next table may have rows that fit
            yield table.slice(start, stop - start).combine_chunks()
        rest = table.slice(start).combine_chunks()
    yield from chain([] if rest is None or not rest.num_rows else [rest])


def even_cuts(sizes: npt.NDArray[np.int64], most_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield where stretches of at most so many bytes begin and end; a larger row is alone."""
    ends, start = np.cumsum(sizes), 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most_bytes, side="right")))
        yield start, stop
        start = stop
