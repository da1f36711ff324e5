"""Which documents a step sees: a snapshot's, or what an earlier step kept of them.

The digest of a shard's survivors is made of the rows themselves, not of the recipe that chose them: a filter that turns
out to drop nothing makes nothing after it be computed again.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from .fingerprint import fingerprint
from .lake import Lake
from .shards import Mask, Shard
from .snapshots import Snapshot

MASKS_KEPT = 16


@dataclass(frozen=True)
class Survivors:
    """The rows of a corpus's shards that are still in."""

    corpus: str
    shards: tuple[Shard, ...]
    mask: Callable[[Shard], Mask]
    """Which rows of a shard are in; read from disk when asked for, so that memory holds a few shards' masks."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Survivors":
        """Return all documents of a snapshot."""
        return cls(snapshot.corpus, snapshot.shards, lru_cache(MASKS_KEPT)(snapshot.mask))

    def narrowed(self, mask: Callable[[Shard], Mask]) -> "Survivors":
        """Return those of these documents that `mask` lets through too."""
        both = lru_cache(MASKS_KEPT)(lambda shard: self.mask(shard) & mask(shard))
        return Survivors(self.corpus, self.shards, both)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Name of each shard's surviving rows, by the shard's digest."""
        return {s.digest: mask_digest(s, self.mask(s)) for s in self.shards}

    @cached_property
    def n_documents(self) -> int:
        """Number of rows that are in."""
        return sum(int(self.mask(s).sum()) for s in self.shards)

    @cached_property
    def n_bytes(self) -> int:
        """Bytes of text of the rows that are in."""
        return sum(int(s.read_column("n_bytes").to_numpy()[self.mask(s)].sum()) for s in self.shards)

    @property
    def digest(self) -> str:
        """Name of the whole set, whatever the order of its shards."""
        return fingerprint(sorted(self.digests.values()))


def mask_digest(shard: Shard, mask: Mask) -> str:
    """Name the rows of a shard that a mask lets through."""
    return fingerprint([shard.digest, hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=16).hexdigest()])


def selected(lake: Lake, corpus: str, shards: tuple[Shard, ...], selection: str) -> Survivors:
    """Return what the selection with this key kept."""

    def mask(shard: Shard) -> Mask:
        kept = np.zeros(shard.rows, dtype=np.bool_)
        path = lake.selection(selection) / f"{shard.digest}.parquet"
        table = lake.table(path, ["row", "kept"])
        kept[table.column("row").to_numpy()[table.column("kept").to_numpy()]] = True
        return kept

    return Survivors(corpus, shards, lru_cache(MASKS_KEPT)(mask))
