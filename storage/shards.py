"""Shards: the documents of a corpus in Parquet, and the only code that reads or writes them.

A shard holds at most 128 MB of text in row groups of at most 8 MB; a row group is what one thread holds at a time, so
memory is row group x workers whatever the corpus. Shards are named by their content, so an unchanged file makes the
same shards again.

Compressing a row group (zstd level 3, 250 MB/s) takes longer than all before it, so each shard is written on a thread
of its own, and a long file's next shard may begin before the last one is done.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .documents import IdMaker, documents
from .fingerprint import TableDigest
from .inputs import InputFile
from .lake import Lake, open_parquet, read_table
from .publish import PARQUET, move_into_place, open_writer, temporary_path
from .schema import DOCUMENT

SHARD_BYTES = 128 << 20
ROW_GROUP_BYTES = 8 << 20
BYTES_A_ROW = 128
"""What a row weighs beside its text and metadata: id, key, hash, origin."""

Mask = npt.NDArray[np.bool_]
REPEATING = ["source", "file"]  # columns worth a dictionary; trying one for text costs a tenth of the time
DIGESTED = pa.schema([f for f in DOCUMENT if f.name != "text"])  # text_hash stands for the text


@dataclass(frozen=True)
class Span:
    """The rows of one shard that come from one input file."""

    file: str
    start: int
    rows: int


@dataclass(frozen=True)
class Shard:
    """One published shard: `rows` documents, `n_bytes` bytes of text, where its rows came from."""

    digest: str
    rows: int
    n_bytes: int
    spans: tuple[Span, ...]
    path: Path = field(compare=False, repr=False)

    @cached_property
    def row_groups(self) -> tuple[tuple[int, int], ...]:
        """First row and number of rows of each row group."""
        with open_parquet(self.path) as parquet:
            meta = parquet.metadata
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        return tuple((int(start), size) for start, size in zip(starts[:-1], sizes, strict=True))

    def read_group(self, group: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Return the named columns of one row group, in row order."""
        with open_parquet(self.path) as parquet:
            table = parquet.read_row_group(group, columns=list(columns), use_threads=False)
        return as_batch(table, table.schema)

    def read_column(self, column: str) -> pa.Array:
        """Return one (small) column of the whole shard."""
        return read_table(self.path, [column]).column(0).combine_chunks()


def as_batch(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """Return a table as one record batch, also where it has no rows."""
    arrays = [c.combine_chunks() if c.num_chunks != 1 else c.chunk(0) for c in table.columns]
    arrays = [a.chunk(0) if isinstance(a, pa.ChunkedArray) else a for a in arrays]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class ShardWriter:
    """Write the documents of one pack of files as shards; a context manager.

    Nothing is visible before `finish`: a file that turns out to have changed while it was read can still be given up.
    `ahead` row groups may wait for being written while `add` goes on; what is written does not depend on it.
    """

    def __init__(self, lake: Lake, corpus: str, shard_bytes: int, row_group_bytes: int, ahead: int = 0) -> None:
        self._lake, self._corpus = lake, corpus
        self._shard_bytes, self._row_group_bytes = shard_bytes, row_group_bytes
        self._ahead = ahead
        self._writing: deque[Future[None]] = deque()
        self._pending: list[pa.RecordBatch] = []
        self._pending_size = 0
        self._open: _OpenShard | None = None
        self._closed: list[_OpenShard] = []

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for shard in [*self._closed, *([self._open] if self._open else [])]:
            shard.discard()

    def add(self, file: InputFile, records: pa.RecordBatch, ids: IdMaker) -> None:
        """Add the next records (schema RECORD) of a file; `ids` is that file's own."""
        batch = documents(file, records, ids)
        sizes = _sizes(batch)
        for start, stop in _slices(sizes, self._row_group_bytes):
            piece = batch.slice(start, stop - start)
            size = int(sizes[start:stop].sum())
            if self._pending and self._pending_size + size > self._row_group_bytes:
                self._flush()
            self._pending.append(piece)
            self._pending_size += size

    def finish(self) -> list[Shard]:
        """Publish all shards and return them in row order."""
        self._flush()
        self._roll()
        self._wait(0)
        shards = [closed.publish(self._lake, self._corpus) for closed in self._closed]
        self._closed = []
        return shards

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._open and self._open.size and self._open.size + self._pending_size > self._shard_bytes:
            self._roll()
        if self._open is None:
            self._open = _OpenShard(temporary_path(self._lake.scratch, "shard.parquet"))
        self._writing.append(self._open.write(self._pending, self._pending_size))
        self._pending, self._pending_size = [], 0
        self._wait(self._ahead)

    def _wait(self, ahead: int) -> None:
        """Wait until no more than `ahead` row groups are to be written; raise what went wrong with the others."""
        while len(self._writing) > ahead:
            self._writing.popleft().result()

    def _roll(self) -> None:
        if self._open:
            self._open.close()
            self._closed.append(self._open)
            self._open = None


class _OpenShard:
    """A shard that is being written: the file and the thread that writes it, its digest so far, the files it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.n_bytes = self.rows = 0
        self._digest = TableDigest(DIGESTED)
        self._spans: list[Span] = []
        self._writer = open_writer(path, DOCUMENT, **PARQUET, use_dictionary=REPEATING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tamis-shard")

    def write(self, batches: list[pa.RecordBatch], size: int) -> Future[None]:
        """Begin to write one row group that weighs `size`."""
        table = pa.Table.from_batches(batches, DOCUMENT)
        self._digest.update(table.drop_columns("text"))
        for batch in batches:
            self._extend(batch.column("file")[0].as_py(), batch.num_rows)
        self.size += size
        self.n_bytes += pc.sum(table.column("n_bytes")).as_py()
        return self._thread.submit(self._writer.write_table, table, row_group_size=max(1, table.num_rows))

    def _extend(self, file: str, rows: int) -> None:
        if self._spans and self._spans[-1].file == file:
            last = self._spans.pop()
            self._spans.append(Span(file, last.start, last.rows + rows))
        else:
            self._spans.append(Span(file, self.rows, rows))
        self.rows += rows

    def close(self) -> None:
        """Begin to write the footer."""
        self._closed = self._thread.submit(self._writer.close)
        self._thread.shutdown(wait=False)

    def discard(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        with suppress(OSError):  # the disk may be full; the file goes anyway
            self._writer.close()
        self.path.unlink(missing_ok=True)

    def publish(self, lake: Lake, corpus: str) -> Shard:
        self._closed.result()
        digest = self._digest.hexdigest()
        target = lake.shard(corpus, digest)
        move_into_place(self.path, target)
        return Shard(digest, self.rows, self.n_bytes, tuple(self._spans), target)


def _sizes(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return what each document weighs in a row group: its text, its metadata, and the rest of its row."""
    meta = pc.fill_null(pc.binary_length(batch.column("meta")), 0).cast(pa.int64())
    sizes: npt.NDArray[np.int64] = (
        batch.column("n_bytes").to_numpy() + meta.to_numpy(zero_copy_only=False) + BYTES_A_ROW
    )
    return sizes


def _slices(sizes: npt.NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Cut a batch so that no piece of several rows exceeds `limit` bytes."""
    start, ends = 0, np.cumsum(sizes)
    while start < sizes.size:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield start, stop
        start = stop
