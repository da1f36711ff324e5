"""A keyed sample of the pool's documents: what a selector looks at to learn how the pool's scores lie.

The documents with the smallest keyed hashes are kept, so the sample is the same for any batches, shards and order, and
samples merge exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.text_buffers import text_buffers
from .keyed import stream_key, uniform

_KEY = stream_key(0, "pilot", "sample")


@dataclass(frozen=True)
class Pilot:
    """Some documents of the pool, by ascending hash."""

    doc_keys: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]
    """Where each text begins in `texts`, and where the last one ends."""
    texts: npt.NDArray[np.uint8]

    def documents(self) -> list[bytes]:
        """Return the texts in UTF-8."""
        return [self.texts[start:end].tobytes() for start, end in pairwise(self.offsets.tolist())]


def sample(batch: pa.RecordBatch, size: int, most_bytes: int) -> Pilot:
    """Return the sample of one batch: `size` documents at most, and of each its first `most_bytes` bytes."""
    keys = batch.column("doc_key").to_numpy()
    offsets, data = text_buffers(batch.column("text"))
    rows = _first(keys, size)
    return _pilot(keys[rows], [data[offsets[r] : min(offsets[r + 1], offsets[r] + most_bytes)].tobytes() for r in rows])


def merged(pilots: Sequence[Pilot], size: int) -> Pilot:
    """Return the sample of all."""
    keys = np.concatenate([p.doc_keys for p in pilots])
    texts = [text for p in pilots for text in p.documents()]
    rows = _first(keys, size)
    return _pilot(keys[rows], [texts[r] for r in rows])


def _first(keys: npt.NDArray[np.uint64], size: int) -> npt.NDArray[np.int64]:
    rows: npt.NDArray[np.int64] = np.lexsort((keys, uniform(keys, _KEY)))[:size]
    return rows


def _pilot(keys: npt.NDArray[np.uint64], texts: list[bytes]) -> Pilot:
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return Pilot(keys, offsets, np.frombuffer(b"".join(texts), np.uint8))
