"""Records in Arrow: from Python's objects where there is no other way, and cut to batches of an even size.

Where a batch ends depends on the records alone, not on the pieces in which they come: shards would else depend on how a
file was read.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .inputs import BadRecord, Record
from .schema import RECORD

Item = TypeVar("Item")
Result = TypeVar("Result")


class Map(Protocol):
    """What maps a function over items and keeps their order: `map` itself, or threads that look ahead a little."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items."""
        ...


_ROW_BYTES = 64  # what a document without text counts, so that a batch of them ends somewhere
_MAX_RECORDS = 1024


class Piece(NamedTuple):
    """Some records of a file, and the bad records between them."""

    rows: pa.RecordBatch  # may be none
    bad: list[tuple[int, BadRecord]]  # in order; each with how many of the rows come before it


def gathered(items: Iterable[Record | pa.RecordBatch | BadRecord], batch_bytes: int) -> Iterator[Piece]:
    """Gather Python's records to pieces; a batch is a piece of its own."""
    rows: list[Record] = []
    bad: list[tuple[int, BadRecord]] = []
    n_chars = 0
    for item in items:
        if isinstance(item, Record):
            rows.append(item)
            n_chars += len(item.text)
        elif isinstance(item, BadRecord):
            bad.append((len(rows), item))
        if isinstance(item, pa.RecordBatch) or n_chars >= batch_bytes or len(rows) + len(bad) >= _MAX_RECORDS:
            if rows or bad:
                yield Piece(_record_batch(rows), bad)
                rows, bad, n_chars = [], [], 0
            if isinstance(item, pa.RecordBatch):
                yield Piece(item, [])
    if rows or bad:
        yield Piece(_record_batch(rows), bad)


def _record_batch(records: list[Record]) -> pa.RecordBatch:
    columns = zip(*records, strict=True) if records else ([],) * len(RECORD)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, RECORD, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=RECORD)


def even_batches(pieces: Iterable[Piece], batch_bytes: int) -> Iterator[pa.RecordBatch | BadRecord]:
    """Cut and join pieces to batches of about `batch_bytes`; a longer record is its own batch.

    Bad records pass at once, and a batch when the next record does not fit into it.
    """
    waiting: list[pa.RecordBatch] = []
    n_bytes = 0
    for rows, bad in pieces:
        ends, start, passed = np.cumsum(_sizes(rows)), 0, 0
        while start < rows.num_rows:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + batch_bytes - n_bytes, side="right"))
            stop = stop if waiting else max(stop, start + 1)
            if stop > start:
                waiting.append(rows.slice(start, stop - start))
                n_bytes += int(ends[stop - 1]) - before
                start = stop
            here = bisect_right(bad, start, lo=passed, key=itemgetter(0))
            yield from (record for _, record in bad[passed:here])
            passed = here
            if start < rows.num_rows:
                yield _joined(waiting)
                waiting, n_bytes = [], 0
        yield from (record for _, record in bad[passed:])
    if waiting:
        yield _joined(waiting)


def _sizes(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return what each record counts: the bytes of its text, the characters of its metadata, and the rest."""
    meta = pc.fill_null(pc.utf8_length(batch.column("meta")), 0).to_numpy(zero_copy_only=False)
    sizes: npt.NDArray[np.int64] = pc.binary_length(batch.column("text")).to_numpy() + meta + _ROW_BYTES
    return sizes


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
