"""Slices of raw files: so much of a file as is affordable, as a file of its own that the readers take.

Of JSON Lines a slice begins at a chosen place and ends with a line. A compressed stream cannot be entered in the
middle, so its slice is its beginning, and the record that is cut through comes as one bad record. Of Parquet it is rows
from a chosen row group on, written anew with the same codec. A file that is one document is not cut.
"""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .inputs import InputFile
from .parquet_pages import chunks
from .parquet_rows import MAGIC
from .places import parquet_source
from .readers import ReadOptions, raw_form

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CODECS = {0: "none", 1: "snappy", 2: "gzip", 4: "brotli", 5: "lz4", 6: "zstd", 7: "lz4"}
"""Of Parquet, by their numbers in its footer."""
_COPIED_AT_ONCE = 1 << 20
_ROWS_AT_ONCE = 256


def slice_file(file: InputFile, n_bytes: int, place: float, target: Path, options: ReadOptions) -> InputFile:
    """Return about `n_bytes` of a raw file, written to `target`; from `place` (a share of it) on, where that can be.

    A file that is no larger, one document, or no Parquet that can be read is returned as it is.
    """
    with file.path.open("rb") as handle:
        start = handle.read(4)
    form = raw_form(file, start, options)
    if n_bytes >= file.size or form == "text":
        return file
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if form == "parquet" or start == MAGIC:
            _slice_parquet(file.path, n_bytes, place, target)
        elif start == _ZSTD or start.startswith(_GZIP):
            _copy(file.path, 0, n_bytes, target)
        else:
            _slice_lines(file.path, n_bytes, int(place * (file.size - n_bytes)), target)
    except (pa.ArrowException, OSError):
        target.unlink(missing_ok=True)
        return file
    status = target.stat()
    return replace(file, path=target, size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino, etag="")


def is_cut_through(file: InputFile) -> bool:
    """Say whether a slice of this file ends inside a record."""
    with file.path.open("rb") as handle:
        start = handle.read(4)
    return start == _ZSTD or start.startswith(_GZIP)


def _copy(path: Path, start: int, n_bytes: int, target: Path) -> None:
    with path.open("rb") as source, target.open("wb") as out:
        source.seek(start)
        while n_bytes > 0 and (block := source.read(min(n_bytes, _COPIED_AT_ONCE))):
            out.write(block)
            n_bytes -= len(block)


def _slice_lines(path: Path, n_bytes: int, start: int, target: Path) -> None:
    """Copy the lines that begin in a range of bytes; the last one whole."""
    with path.open("rb") as source, target.open("wb") as out:
        source.seek(max(0, start - 1))
        if start:
            source.readline()
        begin = source.tell()
        if begin >= start + n_bytes:  # one line is longer than the slice
            source.seek(0)
            out.write(source.readline())
            return
        left = start + n_bytes - begin
        while left > 0 and (block := source.read(min(left, _COPIED_AT_ONCE))):
            out.write(block)
            left -= len(block)
        if not block.endswith(b"\n"):
            out.write(source.readline())


def _slice_parquet(path: Path, n_bytes: int, place: float, target: Path) -> None:
    """Copy rows from a row group on until they have so many compressed bytes."""
    with path.open("rb") as handle:
        groups = chunks(handle)
    with pq.ParquetFile(parquet_source(path), pre_buffer=False) as parquet:
        if not groups or len(groups) != parquet.num_row_groups or not all(groups):
            raise OSError("its footer is damaged")
        sizes = [sum(chunk.n_bytes for chunk in group) for group in groups]
        at = int(place * len(groups))
        order = [*range(at, len(groups)), *range(at)]
        codec = _CODECS.get(groups[at][0].codec, "zstd")
        with pq.ParquetWriter(target, parquet.schema_arrow, compression=codec) as out:
            for number in order:
                share = min(1.0, n_bytes / max(1, sizes[number]))
                rows = max(1, round(share * parquet.metadata.row_group(number).num_rows))
                batches = []
                for batch in parquet.iter_batches(_ROWS_AT_ONCE, row_groups=[number], use_threads=False):
                    batches.append(batch.slice(0, rows))
                    rows -= batch.num_rows
                    if rows <= 0:
                        break
                out.write_table(pa.Table.from_batches(batches, parquet.schema_arrow))
                n_bytes -= sizes[number]
                if n_bytes <= 0:
                    return
