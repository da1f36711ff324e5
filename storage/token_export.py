"""Mixtures as tokens: documents end to end, each followed by the end token, in files that memory is mapped to.

`tokens-00000.bin` holds nothing but token ids (uint16 or uint32, little-endian), as nanoGPT-style and OLMo trainers
read them; with `tokens-00000.idx` beside it Megatron-LM reads it. `spans-00000.parquet` says of each document where its
tokens lie and where it came from, down to the line of the raw file: 20 to 40 bytes a document.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .export import ParquetSink
from .megatron_index import write_index
from .publish import temporary_path

SPANS = pa.schema(
    [
        pa.field("start", pa.int64(), nullable=False),  # first token, counted from the beginning of the .bin file
        pa.field("length", pa.int64(), nullable=False),  # in tokens, the end token included
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("doc_key", pa.uint64(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("file", pa.string(), nullable=False),  # the raw file
        pa.field("line", pa.int64()),  # line or row of it, counted from 1; null: the file is the document
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("part", pa.string()),  # of a mixture of several
        pa.field("cut_group", pa.string()),  # where the selection has rounds, which go by it
    ]
)
IDS = "ids"
"""The column of the token ids; the others of a table are those of SPANS, but for `start`."""


class TokenSink:
    """Token ids in one file, and what they belong to in another."""

    def __init__(self, scratch: Path, dtype: str) -> None:
        path = temporary_path(scratch, "tokens.bin")
        self._spans = ParquetSink(scratch, "spans-{}.parquet", SPANS)
        self.files = {"tokens-{}.bin": path, **self._spans.files}
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._file = path.open("wb")
        self._written = 0

    def write(self, table: pa.Table) -> None:
        """Append documents."""
        for lists in table.column(IDS).chunks:
            self._file.write(np.ascontiguousarray(lists.flatten().to_numpy(), self._dtype).data)
        lengths = table.column("length").to_numpy()
        ends = self._written + np.cumsum(lengths)
        spans = table.drop_columns(IDS).append_column("start", pa.array(ends - lengths, pa.int64()))
        self._spans.write(spans.select(SPANS.names).cast(SPANS))
        self._written = int(ends[-1])

    def close(self) -> None:
        """Write the footer of the spans."""
        self._file.close()
        self._spans.close()


class MegatronSink(TokenSink):
    """The same with Megatron-LM's index."""

    def __init__(self, scratch: Path, dtype: str) -> None:
        super().__init__(scratch, dtype)
        self._index = temporary_path(scratch, "tokens.idx")
        self.files["tokens-{}.idx"] = self._index
        self._type, self._lengths = dtype, list[npt.NDArray[np.int64]]()

    def write(self, table: pa.Table) -> None:
        """Append documents."""
        super().write(table)
        self._lengths.append(table.column("length").to_numpy())

    def close(self) -> None:
        """Write the index too."""
        super().close()
        write_index(self._index, self._type, np.concatenate(self._lengths))
