"""Exact deduplication: of the documents with the same text, the one with the smallest key stays.

Texts are compared by the first 128 bits of their SHA-256, so nobody can make two texts collide on purpose. Which copy
stays is as good as random with respect to files and sources, and does not depend on their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .base import Draw, Selector, Target


@dataclass(frozen=True)
class Nothing:
    """The state of a selector that has nothing to learn."""


@dataclass(frozen=True)
class Exact(Selector):
    """Keep one document of each text."""

    name = "exact"
    version = 1
    groups = True
    reads = ("text_hash",)
    state_type = Nothing

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> Nothing:
        """Return an empty state."""
        return Nothing()

    def score(self, batch: pa.RecordBatch, state: Nothing) -> pa.Table:
        """Return the first 64 bits of the text's hash as `group`."""
        return pa.table({"group": _halves(batch.column("text_hash"))[0]})

    def within(self, block: pa.Table, state: Nothing) -> pa.Table:
        """Keep the smallest (doc_key, doc_id) of each text; `ref` of the others names it."""
        high, low = _halves(block.column("text_hash").combine_chunks())
        keys = pa.table({"high": high, "low": low, "key": block.column("doc_key"), "id": block.column("doc_id")})
        order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names]).to_numpy()
        high, low = high[order], low[order]
        first = np.ones(order.size, dtype=np.bool_)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        leader = np.maximum.accumulate(np.where(first, np.arange(order.size), 0))
        keep, ref = np.empty(order.size, dtype=np.bool_), np.empty(order.size, dtype=np.int64)
        keep[order], ref[order] = first, order[leader]
        return pa.table({"keep": keep, "ref": block.column("doc_id").take(pa.array(ref, mask=keep))})


def _halves(hashes: pa.Array) -> tuple[Any, Any]:
    """Return the two 64-bit halves of 16-byte hashes."""
    data = hashes.buffers()[1]
    if len(hashes) == 0 or data is None:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    halves = np.frombuffer(data, dtype=">u8")[2 * hashes.offset : 2 * (hashes.offset + len(hashes))].astype(np.uint64)
    return halves[0::2], halves[1::2]
