"""Mixtures: the chosen documents as files that a training job can read, with a manifest and a card.

Documents are written in the order of the corpus (file, line), which no number of shards or workers can change. Files
are named by number; the manifest gives rows, tokens, bytes and SHA-256 of each and is published last. What a shard
consists of is its sink's business: one file of texts here, tokens with their index and origin in `token_export`.
"""

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import zstandard

from .disks import writing
from .fingerprint import file_sha256
from .lake import Lake, read_json
from .places import presence
from .publish import move_into_place, open_writer, temporary_path

MANIFEST = "manifest.json"
MIXTURE = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("meta", pa.string()),  # JSON
        pa.field("n_tokens", pa.int64()),
        pa.field("score", pa.float64()),
    ]
)


class Piece(NamedTuple):
    """The chosen documents of one row group, as a sink takes them."""

    table: pa.Table
    n_tokens: npt.NDArray[np.int64]
    """Of each document."""
    n_bytes: int
    """Of all their texts."""


class Sink(Protocol):
    """What writes one shard: a file, or several that belong together."""

    files: dict[str, Path]
    """Where each is written, by the name that it will have, `{}` being the number; the first has the documents."""

    def write(self, table: pa.Table) -> None:
        """Append documents."""
        ...

    def close(self) -> None:
        """Write what comes at the end."""
        ...


class ParquetSink:
    """Row groups of what is given."""

    def __init__(self, scratch: Path, name: str = "part-{}.parquet", schema: pa.Schema = MIXTURE) -> None:
        path = temporary_path(scratch, "mixture.parquet")
        self.files = {name: path}
        self._writer = open_writer(path, schema, compression="zstd", compression_level=3)

    def write(self, table: pa.Table) -> None:
        """Append a row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


class JsonlSink:
    """One object a line; `meta` is an object again."""

    def __init__(self, scratch: Path) -> None:
        path = temporary_path(scratch, "mixture.jsonl.zst")
        self.files = {"part-{}.jsonl.zst": path}
        self._file = path.open("wb")
        self._stream = zstandard.ZstdCompressor(level=3).stream_writer(self._file)
        self._encode = msgspec.json.Encoder().encode

    def write(self, table: pa.Table) -> None:
        """Append lines."""
        lines = io.BytesIO()
        for row in table.to_pylist():
            row["meta"] = msgspec.Raw((row["meta"] or "{}").encode())
            lines.write(self._encode(row) + b"\n")
        self._stream.write(lines.getvalue())

    def close(self) -> None:
        """End the frame."""
        self._stream.close()  # type: ignore[no-untyped-call]
        self._file.close()


@dataclass
class _Shard:
    """The shard that is being written."""

    sink: Sink
    rows: int = 0
    tokens: int = 0
    bytes: int = 0

    def write(self, piece: Piece) -> None:
        self.sink.write(piece.table)
        self.rows += piece.table.num_rows
        self.bytes += piece.n_bytes
        self.tokens += int(piece.n_tokens.sum())


def write_shards(
    lake: Lake, folder: Path, shard_bytes: int | None, pieces: Iterable[Piece], sink: Callable[[Path], Sink],
    never_empty: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Publish documents as shards of at most `shard_bytes` of text (None: one); return what the manifest says of them.

    `sink` opens a shard, given the folder for temporary files; `never_empty` opens one for no documents too. The
    caller publishes the manifest, after whatever else belongs to the mixture.
    """
    files: list[dict[str, Any]] = []
    shard: _Shard | None = None
    number = 0
    try:
        with writing(folder, lake.scratch):
            for piece in pieces:
                if shard and shard_bytes is not None and shard.bytes + piece.n_bytes > shard_bytes:
                    files += _publish(shard, folder, number)
                    shard, number = None, number + 1
                if shard is None:
                    shard = _Shard(sink(lake.scratch))
                shard.write(piece)
            if shard is None and never_empty:
                shard = _Shard(sink(lake.scratch))
            if shard:
                files += _publish(shard, folder, number)
    except BaseException:
        if shard:
            _discard(shard.sink)
        raise
    return written(files)


def write_shard(
    lake: Lake, folder: Path, number: int, pieces: Iterable[Piece], sink: Callable[[Path], Sink]
) -> list[dict[str, Any]]:
    """Publish documents as the shard of this number; return what the manifest says of its files."""
    with writing(folder, lake.scratch):
        shard = _Shard(sink(lake.scratch))
    try:
        with writing(folder, lake.scratch):
            for piece in pieces:
                shard.write(piece)
            return _publish(shard, folder, number)
    except BaseException:
        _discard(shard.sink)
        raise


def written(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the manifest says of the files of all shards."""
    return {"files": files, **{key: sum(f.get(key, 0) for f in files) for key in ("rows", "tokens", "bytes")}}


def _publish(done: _Shard, folder: Path, number: int) -> list[dict[str, Any]]:
    done.sink.close()
    entries: list[dict[str, Any]] = []
    for name, path in done.sink.files.items():
        target = folder / name.format(f"{number:05d}")
        counts = {} if entries else {"rows": done.rows, "tokens": done.tokens, "bytes": done.bytes}
        entries.append({"file": target.name, **counts, "size": path.stat().st_size, "sha256": file_sha256(path)})
        move_into_place(path, target)
    return entries


def _discard(sink: Sink) -> None:
    with suppress(Exception):  # what went wrong may go wrong again
        sink.close()
    for path in sink.files.values():
        path.unlink(missing_ok=True)


def written_mixture(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a published mixture, None where it was never finished, or a file of it was removed."""
    if not (folder / MANIFEST).exists():
        return None
    found: dict[str, Any] = read_json(folder / MANIFEST)
    there = presence(folder)
    return found if all(there(folder / f["file"]) for f in found["files"]) else None
