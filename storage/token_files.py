"""Documents as token ids in one file, which memory is mapped to: a training reads them again and again, in any order.

An Arrow file, uncompressed, in pieces as they were written. Ids are uint32: 4 bytes a token, 12 GB for the 3.1 billion
that a model of 150 million parameters is trained on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .lake import whole
from .places import local
from .publish import publishing

TOKENS = pa.schema([("doc_key", pa.uint64()), ("ids", pa.large_list(pa.uint32()))])


def publish_tokens(target: Path, batches: Iterable[pa.RecordBatch], scratch: Path) -> None:
    """Publish batches of `TOKENS`."""
    with (
        publishing(target, scratch) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, TOKENS) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


class TokenFile:
    """The documents of a published file; only their keys and places are in memory, 24 bytes a document."""

    def __init__(self, path: Path) -> None:
        """Open a file. Raises LakeError where it is damaged."""
        with whole(path):
            reader = pa.ipc.open_file(pa.memory_map(str(local(path))))
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        columns = [batch.column("ids") for batch in batches]
        self._ids = [column.values.to_numpy() for column in columns]
        offsets = [column.offsets.to_numpy() for column in columns]
        self._piece = np.repeat(np.arange(len(batches)), [batch.num_rows for batch in batches])
        self._start = _joined([of_one[:-1] for of_one in offsets], np.int64)
        self.lengths: npt.NDArray[np.int64] = _joined([np.diff(of_one) for of_one in offsets], np.int64)
        """Tokens of each document."""
        self.doc_keys: npt.NDArray[np.uint64] = _joined([b.column("doc_key").to_numpy() for b in batches], np.uint64)

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.lengths)

    def __getitem__(self, number: int) -> npt.NDArray[np.uint32]:
        """Return the token ids of a document, not copied."""
        start = self._start[number]
        ids: npt.NDArray[np.uint32] = self._ids[self._piece[number]][start : start + self.lengths[number]]
        return ids


def _joined(pieces: list[npt.NDArray[Any]], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *pieces]).astype(kind)
