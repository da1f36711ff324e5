"""Mixtures as MosaicML's MDS, which `streaming` reads: shards of texts, and an index of all of them.

A shard is the number of its samples, where each begins and where the last ends (uint32, from the beginning of the
file), a JSON text that repeats the columns, and the samples; a sample is the lengths of its texts (uint32) and then its
values, column after column. Strings that a document does not have are empty, a score NaN. Its documents are held in
memory until a shard is full. Source: https://github.com/mosaicml/streaming, `streaming/base/format/mds`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .errors import LakeError
from .publish import temporary_path

ENCODINGS = {pa.string(): "str", pa.large_string(): "str", pa.int64(): "int64", pa.float64(): "float64"}
INDEX, SHARD = "index.json", "shard.{}.mds"
_SIZES = {"str": None, "int64": 8, "float64": 8}
_ABSENT: dict[str, Any] = {"str": "", "int64": 0, "float64": np.nan}
_LARGEST = np.iinfo(np.uint32).max


def _config(schema: pa.Schema) -> dict[str, Any]:
    """Return what shards and index say of the columns, which stand in the order of their names."""
    encodings = {name: ENCODINGS[schema.field(name).type] for name in sorted(schema.names)}
    return {
        "column_encodings": list(encodings.values()), "column_names": list(encodings),
        "column_sizes": [_SIZES[encoding] for encoding in encodings.values()], "compression": None, "format": "mds",
        "hashes": [], "size_limit": None, "version": 2,
    }  # fmt: skip


class MdsSink:
    """One shard."""

    def __init__(self, scratch: Path, schema: pa.Schema) -> None:
        self.files = {SHARD: temporary_path(scratch, "mixture.mds")}
        self._config = _config(schema)
        self._samples: list[bytes] = []

    def write(self, table: pa.Table) -> None:
        """Append documents."""
        columns = zip(self._config["column_names"], self._config["column_encodings"], strict=True)
        encoded = [_encoded(table.column(name), encoding) for name, encoding in columns]
        is_text = [size is None for size in self._config["column_sizes"]]
        for values in zip(*encoded, strict=True):
            lengths = [len(value) for value, text in zip(values, is_text, strict=True) if text]
            self._samples.append(np.array(lengths, np.uint32).tobytes() + b"".join(values))

    def close(self) -> None:
        """Write the file. Raises LakeError where it would be larger than its offsets can say."""
        config = json.dumps(self._config, sort_keys=True).encode()
        first = 4 * (len(self._samples) + 2) + len(config)
        ends = first + np.cumsum([0, *map(len, self._samples)], dtype=np.int64)
        if ends[-1] > _LARGEST:
            raise LakeError(f"a shard of MDS has {ends[-1]:,} bytes, expected less than 4 GiB; lower `shard_bytes`")
        with self.files[SHARD].open("wb") as file:
            file.write(np.uint32(len(self._samples)).tobytes() + ends.astype("<u4").tobytes() + config)
            file.writelines(self._samples)


def _encoded(column: pa.ChunkedArray, encoding: str) -> list[bytes]:
    values = column.fill_null(_ABSENT[encoding])
    if encoding == "str":
        return [text.encode() for text in values.to_pylist()]
    data = values.to_numpy().astype("<" + np.dtype(encoding).str[1:]).tobytes()
    return [data[at : at + 8] for at in range(0, len(data), 8)]


def mds_index(files: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    """Return the index of a mixture's shards; `files` are those of the manifest."""
    config = _config(schema)
    shards = [
        {
            **config, "samples": f["rows"], "zip_data": None,
            "raw_data": {"basename": f["file"], "bytes": f["size"], "hashes": {}},
        }
        for f in files
    ]  # fmt: skip
    return json.dumps({"version": 2, "shards": shards}, sort_keys=True).encode()
