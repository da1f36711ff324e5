"""Raw files to batches of documents: the one door through which text comes into the lake.

Content decides before names do: `PAR1` is Parquet, gzip and zstd are unpacked whatever the suffix says; only then does
the suffix tell JSON Lines from files that are one document each. Nothing here raises for what a file holds: a record
that cannot be read costs itself and comes as a `BadRecord`. Memory depends on `batch_bytes` and the longest record, not
on the file. JSON Lines become batches at 400 MB/s and core, and on as many cores as `map` uses.
"""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

import pyarrow as pa

from .batches import Map, Piece, even_batches, gathered
from .inputs import RAW_BYTES, Allowance, BadRecord, InputFile, ReadOptions, Record
from .json_lines import json_lines
from .jsonl import not_lines
from .parquet_rows import MAGIC, parquet_rows
from .places import Seen, is_local, stat_of_open, stat_of_path
from .streams import HEAD_BYTES, DamagedError, decompressed, with_head

__all__ = ["BadRecord", "Map", "ReadOptions", "read_records"]

VANISHED = "vanished between listing and reading"
_COMPRESSED = {".gz", ".gzip", ".zst", ".zstd"}
_JSON_LINES = {".jsonl", ".ndjson", ".json"}
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_ROW_BYTES = 64
_NOT_UTF8 = "UTF-16 or UTF-32 (it begins with a byte order mark), expected UTF-8: convert it, for instance with iconv"


def read_records(file: InputFile, options: ReadOptions, map: Map = map) -> Iterator[pa.RecordBatch | BadRecord]:
    """Yield a file's documents in its order, as batches with the schema `RECORD`, and what could not be read.

    `map` parses blocks of JSON Lines, of about 1 MB: by default one after the other, or on several threads with
    `pipelines.engine.Threads(n).inner_map()`; what comes out is the same. It must not look far ahead, as
    `Executor.map` does, which would hold the whole file.

    `doc_id` is null where the file gives none. `line` counts from 1; it is null where the file is one document. A file
    that is not what was listed, or does not stay so, ends with an entry "changed while being read": what it gave is
    void.
    """
    try:
        with file.path.open("rb", buffering=1 << 20) as handle:
            if change := _change(file, stat_of_open(handle)):
                yield BadRecord(file.name, None, change, b"")
                return
            yield from even_batches(_pieces(file, handle, options, map), options.batch_bytes)
    except FileNotFoundError:
        yield BadRecord(file.name, None, VANISHED, b"")
    except OSError as error:
        change = None if is_local(file.path) else change_since(file)  # a store says no more than that it expired
        yield BadRecord(file.name, None, change or f"cannot be read: {error.strerror or error}", b"")
    else:
        if change := change_since(file):
            yield BadRecord(file.name, None, change, b"")


def _pieces(file: InputFile, handle: BinaryIO, options: ReadOptions, map: Map) -> Iterator[Piece]:
    start = handle.read(RAW_BYTES)
    handle.seek(0)
    form = raw_form(file, start, options)
    if not start:
        return iter(())
    if form == "parquet":
        rows = parquet_rows(file.name, handle, options)
        return gathered(_allowed(file.name, rows, Allowance(options, file.size)), options.batch_bytes)
    head, chunks = with_head(decompressed(handle, Allowance(options, file.size)))
    reason = _NOT_UTF8 if head.startswith(_BYTE_ORDER_MARKS) else not_lines(head) if form == "jsonl" else None
    if reason:
        return gathered([BadRecord(file.name, None, reason, head[:RAW_BYTES])], options.batch_bytes)
    if form == "text":
        return gathered(_one_document(file, head, chunks, options), options.batch_bytes)
    return json_lines(file.name, chunks, options, map)


def _allowed(
    name: str, items: Iterable[pa.RecordBatch | Record | BadRecord], allowance: Allowance
) -> Iterator[pa.RecordBatch | Record | BadRecord]:
    """Yield rows up to the one that unpacks to more than is allowed; each counts a little, also without text."""
    for item in items:
        yield item
        if isinstance(item, BadRecord):
            continue
        n_bytes = (
            item.nbytes if isinstance(item, pa.RecordBatch) else len(item.text) + len(item.meta or "") + _ROW_BYTES
        )
        if reason := allowance.spend(n_bytes):
            row = item.column("line")[-1].as_py() if isinstance(item, pa.RecordBatch) else item.line
            yield BadRecord(name, (row or 0) + 1, reason, b"")
            return


def raw_form(file: InputFile, start: bytes, options: ReadOptions) -> str:
    """Return parquet, jsonl or text: what a file that begins with `start` is read as."""
    if options.format != "auto":
        return options.format
    path = PurePosixPath(file.path.name.lower())
    if start.startswith(MAGIC) or path.suffix == ".parquet":
        return "parquet"
    if path.suffix in _COMPRESSED:
        path = path.with_suffix("")
    return "jsonl" if path.suffix in _JSON_LINES else "text"


def _one_document(
    file: InputFile, head: bytes, chunks: Iterator[bytes], options: ReadOptions
) -> Iterator[Record | BadRecord]:
    """Read a file that is one document. Of a damaged one nothing is kept: half a document is none."""
    parts: list[bytes] = []
    n_bytes = 0
    try:
        if b"\0" in head[:HEAD_BYTES]:
            raise ValueError("binary data (NUL bytes), expected text in UTF-8")
        for chunk in chunks:
            parts.append(chunk)
            n_bytes += len(chunk)
            if n_bytes > options.max_record_bytes:
                raise ValueError(f"the file is longer than max_record_bytes ({options.max_record_bytes:,})")
        text = b"".join(parts).decode()
    except UnicodeDecodeError as error:
        yield BadRecord(file.name, None, f"invalid UTF-8 at byte {error.start}", head[:RAW_BYTES])
    except (DamagedError, ValueError) as error:
        yield BadRecord(file.name, None, str(error), head[:RAW_BYTES])
    else:
        if n_bytes:
            yield Record(_file_id(file, options), text, None, None, None, False)


def _file_id(file: InputFile, options: ReadOptions) -> str:
    path = PurePosixPath(file.below)
    if path.suffix.lower() in _COMPRESSED:
        path = path.with_suffix("")
    if options.file_id == "stem":
        return path.stem
    return path.with_suffix("").as_posix() if path.suffix.lower() == ".txt" else path.as_posix()


def _change(file: InputFile, status: Seen) -> str | None:
    """Say how a file differs from what was listed."""
    if status.size != file.size:
        return f"changed while being read: {file.size:,} bytes when it was listed, {status.size:,} now"
    if status.etag != file.etag:
        return "changed while being read: its ETag is not that of the listing"
    if not file.etag and status.mtime_ns != file.mtime_ns:
        return "changed while being read: its modification time is not that of the listing"
    return None


def change_since(file: InputFile) -> str | None:
    try:
        return _change(file, stat_of_path(file.path))
    except OSError as error:
        return f"changed while being read: it is gone ({error.strerror})"
