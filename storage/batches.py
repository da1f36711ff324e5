"""Records in Arrow: from Python's objects where there is no other way, and cut to batches of an even size.

Where a batch ends depends on the records alone, not on the pieces in which they come: shards would else depend on how a
file was read.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .inputs import BadRecord, Record
from .schema import RECORD

Item = TypeVar("Item")
Other = TypeVar("Other")
Result = TypeVar("Result")


class Map(Protocol):
    """What maps a function over items and keeps their order: `map` itself, or threads that look ahead a little."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items."""
        ...


_ROW_BYTES = 64  # what a document without text counts, so that a batch of them ends somewhere
_MAX_ROWS = 1024


def record_batch(records: Iterable[Record]) -> pa.RecordBatch:
    """Return some records, one at least, as one batch."""
    columns = zip(zip(*records, strict=True), RECORD, strict=True)
    return pa.RecordBatch.from_arrays([pa.array(values, field.type) for values, field in columns], schema=RECORD)


def gathered(items: Iterable[Record | Other], batch_bytes: int) -> Iterator[pa.RecordBatch | Other]:
    """Turn records that follow each other into batches; whatever else there is stays between them, where it was."""
    rows: list[Record] = []
    n_chars = 0
    for item in items:
        if isinstance(item, Record):
            rows.append(item)
            n_chars += len(item.text)
            if n_chars < batch_bytes and len(rows) < _MAX_ROWS:
                continue
        if rows:
            yield record_batch(rows)
            rows, n_chars = [], 0
        if not isinstance(item, Record):
            yield item
    if rows:
        yield record_batch(rows)


def even_batches(items: Iterable[pa.RecordBatch | BadRecord], batch_bytes: int) -> Iterator[pa.RecordBatch | BadRecord]:
    """Cut and join batches to about `batch_bytes`; a longer record is its own batch. Bad records pass at once."""
    waiting: list[pa.RecordBatch] = []
    n_bytes = 0
    for item in items:
        if isinstance(item, BadRecord):
            yield item
            continue
        ends = np.cumsum(_sizes(item))
        start = 0
        while start < item.num_rows:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + batch_bytes - n_bytes, side="right"))
            if not waiting:
                stop = max(stop, start + 1)
            elif stop <= start:
                yield _joined(waiting)
                waiting, n_bytes = [], 0
                continue
            waiting.append(item.slice(start, stop - start))
            n_bytes += int(ends[stop - 1]) - before
            start = stop
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
