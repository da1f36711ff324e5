"""A keyed sample of the pool's texts: what a selector looks at to learn how the pool's scores lie.

The texts with the smallest keyed hashes are kept, each once however many documents have it. So the sample is the same
for any batches, shards and order, samples merge exactly, and a template does not fill it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.text_buffers import text_buffers
from .keyed import stream_key, uniform

UInt64s = npt.NDArray[np.uint64]
_KEY = stream_key(0, "pilot", "sample")


@dataclass(frozen=True)
class Pilot:
    """Some texts of the pool, by ascending hash."""

    text_keys: UInt64s
    offsets: npt.NDArray[np.int64]
    """Where each text begins in `texts`, and where the last one ends."""
    texts: npt.NDArray[np.uint8]

    def documents(self) -> list[bytes]:
        """Return the texts in UTF-8."""
        return [self.texts[start:end].tobytes() for start, end in pairwise(self.offsets.tolist())]


def text_keys(batch: pa.RecordBatch) -> UInt64s:
    """Return 64 bits of each document's `text_hash`."""
    column = batch.column("text_hash")
    if len(column) == 0:
        return np.empty(0, np.uint64)
    words = np.frombuffer(column.buffers()[1], "<u8")[2 * column.offset :: 2]
    return words[: len(column)].astype(np.uint64)


def cut(text: bytes, most_bytes: int) -> bytes:
    """Return as much of the beginning of a text in UTF-8 as fits, in whole characters."""
    end = most_bytes
    while 0 < end < len(text) and text[end] & 0xC0 == 0x80:
        end -= 1
    return text[:end]


def sample(batch: pa.RecordBatch, size: int, most_bytes: int) -> Pilot:
    """Return the sample of one batch: `size` texts at most, and of each its first `most_bytes` bytes."""
    keys = text_keys(batch)
    offsets, data = text_buffers(batch.column("text"))
    rows = _first(keys, size)
    starts = offsets[:-1][rows].tolist()
    ends = np.minimum(offsets[1:][rows], offsets[:-1][rows] + most_bytes + 1).tolist()
    return _pilot(keys[rows], [cut(data[a:b].tobytes(), most_bytes) for a, b in zip(starts, ends, strict=True)])


def merged(pilots: Sequence[Pilot], size: int) -> Pilot:
    """Return the sample of all."""
    keys = np.concatenate([p.text_keys for p in pilots])
    texts = [text for p in pilots for text in p.documents()]
    rows = _first(keys, size)
    return _pilot(keys[rows], [texts[r] for r in rows])


def _first(keys: UInt64s, size: int) -> npt.NDArray[np.int64]:
    found, rows = np.unique(keys, return_index=True)
    order: npt.NDArray[np.int64] = rows[np.lexsort((found, uniform(found, _KEY)))][:size]
    return order


def _pilot(keys: UInt64s, texts: list[bytes]) -> Pilot:
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return Pilot(keys, offsets, np.frombuffer(b"".join(texts), np.uint8))
