"""Mixtures: the chosen documents as files that a training job can read, with a manifest and a card.

Documents are written in the order of the corpus (file, line), which no number of shards or workers can change. Files
are named by number; the manifest gives rows, tokens, bytes and SHA-256 of each and is published last.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from .fingerprint import file_sha256
from .lake import Lake
from .publish import move_into_place, temporary_path

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


class _ParquetSink:
    """Row groups of what is given."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, MIXTURE, compression="zstd", compression_level=3)

    def write(self, table: pa.Table) -> None:
        """Append a row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


class _JsonlSink:
    """One object a line; `meta` is an object again."""

    def __init__(self, path: Path) -> None:
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


SINKS: dict[str, type[_ParquetSink] | type[_JsonlSink]] = {"parquet": _ParquetSink, "jsonl.zst": _JsonlSink}


@dataclass
class _File:
    """The file of a mixture that is being written."""

    path: Path
    sink: _ParquetSink | _JsonlSink
    rows: int = 0
    tokens: int = 0
    bytes: int = 0

    def write(self, table: pa.Table, n_bytes: int) -> None:
        self.sink.write(table)
        self.rows += table.num_rows
        self.bytes += n_bytes
        self.tokens += pc.sum(table.column("n_tokens")).as_py() or 0


def write_mixture(lake: Lake, folder: Path, form: str, shard_bytes: int, tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Publish tables (schema MIXTURE) as files of at most `shard_bytes` of text; return what the manifest says of them.

    The caller publishes the manifest, after whatever else belongs to the mixture.
    """
    files: list[dict[str, Any]] = []
    open_file: _File | None = None
    try:
        for table in tables:
            n_bytes = pc.sum(pc.binary_length(table.column("text"))).as_py() or 0
            if open_file and open_file.bytes + n_bytes > shard_bytes:
                files.append(_publish(open_file, folder, len(files), form))
                open_file = None
            if open_file is None:
                path = temporary_path(lake.scratch, f"mixture.{form}")
                open_file = _File(path, SINKS[form](path))
            open_file.write(table, n_bytes)
        if open_file:
            files.append(_publish(open_file, folder, len(files), form))
    except BaseException:
        if open_file:
            open_file.path.unlink(missing_ok=True)
        raise
    total = {key: sum(f[key] for f in files) for key in ("rows", "tokens", "bytes")}
    return {"format": form, "files": files, **total}


def _publish(done: _File, folder: Path, number: int, form: str) -> dict[str, Any]:
    done.sink.close()
    target = folder / f"part-{number:05d}.{form}"
    entry = {"file": target.name, "rows": done.rows, "tokens": done.tokens, "bytes": done.bytes}
    entry["sha256"] = file_sha256(done.path)
    move_into_place(done.path, target)
    return entry


def card(
    about: dict[str, Any], manifests: list[dict[str, Any]], steps: list[dict[str, Any]], sources: list[dict[str, Any]]
) -> str:
    """Return the page that goes with a mixture: what it is, how it was made, what is in it."""
    origin = f"Made by tamis {about['tamis']} in run `{about['run']}` from the corpus `{about['corpus']}`"
    origin += f" (snapshot `{about['snapshot'][:12]}`), seed {about['seed']}, tokens counted by `{about['tokenizer']}`."
    made = [[f"{s['name']} ({s['kind']})", s["entered"], s["kept"], s["tokens_kept"]] for s in steps]
    health = [
        [s["name"], name.replace("_", " "), value] for s in steps for name, value in (s.get("health") or {}).items()
    ]
    written = [[m["format"], len(m["files"]), m["rows"], m["tokens"], m["bytes"]] for m in manifests]
    sections = [
        f"# {about['mixture']}\n\n{origin}",
        _table(["step", "entered", "kept", "tokens kept"], made),
        _table(["source", "documents", "tokens"], [[s["source"], s["documents"], s["tokens"]] for s in sources]),
        _table(["format", "files", "documents", "tokens", "bytes of text"], written),
        _table(["step", "health", "value"], health) if health else "",
        "The texts keep the licences of their sources. Each format's `manifest.json` holds the SHA-256 of every file.",
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _table(head: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table, numbers to the right."""
    right = [bool(rows) and all(isinstance(r[i], (int, float)) for r in rows) for i in range(len(head))]
    lines = [head, ["---:" if r else "---" for r in right], *([_cell(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|").replace("\n", " ")
