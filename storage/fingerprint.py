"""Names made of content: what an artefact was made of decides what it is called.

Recipes (parameters, versions, digests of inputs) are hashed as canonical JSON; tables are hashed by their logical
content, so that neither row groups, compression nor the Parquet writer's version can change a name. BLAKE2b with 128
bits: no accidental collisions at 10^12 artefacts, and about 1 GB/s.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Hash = Any


def fingerprint(recipe: Any) -> str:
    """Return 32 hex digits that name `recipe`: JSON types, tuples, paths and dataclasses of these."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class TableDigest:
    """Digest the logical content of a table that comes in pieces of any size."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows = 0
        self._columns = [_ColumnDigest() for _ in schema]

    def update(self, piece: pa.RecordBatch | pa.Table) -> None:
        """Add the next rows."""
        self._rows += piece.num_rows
        for digest, column in zip(self._columns, piece.columns, strict=True):
            for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                digest.update(chunk)

    def hexdigest(self) -> str:
        """Return the name of everything that was added."""
        fields = [[f.name, _type_name(f.type)] for f in self._schema]
        return fingerprint({"schema": fields, "rows": self._rows, "columns": [c.digests() for c in self._columns]})


def _type_name(kind: pa.DataType) -> str:
    """Name a type; what Parquet calls the items of a vector when it is read again is not part of it."""
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{kind.value_type}>[{kind.list_size}]"
    return str(kind)


class _ColumnDigest:
    """Validity, lengths and data are hashed apart, so that a cut between pieces leaves no trace."""

    def __init__(self) -> None:
        self._hashes: dict[str, Hash] = {}

    def update(self, array: pa.Array, path: str = "") -> None:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        self._feed(path + "v", array.is_valid().to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_nested(array.type):
            self._nested(array, path)
        elif pa.types.is_string(array.type) or pa.types.is_binary(array.type) or _large(array.type):
            lengths = pc.fill_null(pc.binary_length(array), 0).cast(pa.int64())
            self._feed(path + "l", lengths.to_numpy(zero_copy_only=False).tobytes())
            self._feed(path + "d", _joined_bytes(array))
        else:
            self._feed(path + "d", _fixed_bytes(array))

    def _nested(self, array: pa.Array, path: str) -> None:
        if pa.types.is_struct(array.type):
            for index in range(array.type.num_fields):
                self.update(array.field(index), f"{path}{index}.")
            return
        if not pa.types.is_fixed_size_list(array.type):
            lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())
            self._feed(path + "l", lengths.to_numpy(zero_copy_only=False).tobytes())
        self.update(array.flatten(), path + "i.")

    def _feed(self, part: str, data: bytes | memoryview) -> None:
        self._hashes.setdefault(part, hashlib.blake2b(digest_size=16)).update(data)

    def digests(self) -> dict[str, str]:
        return {part: h.hexdigest() for part, h in sorted(self._hashes.items())}


def _large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _joined_bytes(array: pa.Array) -> memoryview | bytes:
    """Return the bytes of all values of a string or binary array, one after the other."""
    if array.null_count:
        array = array.drop_null()
    if len(array) == 0 or array.buffers()[2] is None:
        return b""
    width = np.int64 if _large(array.type) else np.int32
    offsets = np.frombuffer(array.buffers()[1], dtype=width)[array.offset : array.offset + len(array) + 1]
    return memoryview(array.buffers()[2])[int(offsets[0]) : int(offsets[-1])]


def _fixed_bytes(array: pa.Array) -> bytes:
    """Return the values of a fixed-width array as bytes, nulls as zeros."""
    if pa.types.is_fixed_size_binary(array.type):
        width = array.type.byte_width
        if array.null_count:
            return b"".join(v or bytes(width) for v in array.to_pylist())
        return bytes(memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width])
    if array.null_count:
        array = pc.fill_null(array, pa.scalar(0, pa.int8()).cast(array.type))
    return bytes(array.to_numpy(zero_copy_only=False).tobytes())
