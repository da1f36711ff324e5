"""The documents of a mixture's parts: each belongs to the first part in the list that has it.

Documents are the same where corpus and id are, which is the same row of the same shard. So whose a document is follows
shard by shard from what the parts' flows kept, and nothing is held in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.lake import Lake
from ..storage.shards import Mask, Shard
from ..storage.snapshots import Snapshot
from ..storage.survivors import MASKS_KEPT, Survivors, selected
from .mixture_entries import PartEntry

NOBODY = -1
NO_SOURCE = "(none)"

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MixturePart:
    """One part: its entry, the documents that its flow kept or its corpus has, and what names these."""

    entry: PartEntry
    survivors: Survivors
    selection: str | None
    """Key of the flow's last selection; None: a whole corpus."""
    recipe: str

    @property
    def title(self) -> str:
        """What the part is called."""
        return self.entry.title

    def has(self, shard: Shard) -> Mask:
        """Say which rows of a shard it would have if it were the only part."""
        mask = self.survivors.mask(shard)
        if self.entry.sources is None:
            return mask
        wanted: Mask = pc.is_in(sources(shard), pa.array(self.entry.sources)).to_numpy(zero_copy_only=False)
        return mask & wanted


def make_part(lake: Lake, entry: PartEntry, snapshot: Snapshot, selection: str | None) -> MixturePart:
    """Return a part over a snapshot of its corpus."""
    if selection is None:
        return MixturePart(entry, Survivors.of(snapshot), None, snapshot.key)
    return MixturePart(entry, selected(lake, snapshot.corpus, snapshot.shards, selection), selection, selection)


class Place(NamedTuple):
    """A shard of one of the corpora."""

    corpus: str
    shard: Shard


class Share(NamedTuple):
    """What gets a share of a mixture: a part, or one source of it."""

    part: int
    """Number of the part in the list."""
    source: str | None = None


class Owned(NamedTuple):
    """The documents of one shard that belong to a part, in row order."""

    row: Int64s
    part: Int64s
    source: pa.Array

    def shares(self, per: Literal["part", "source"]) -> tuple[list[Share], Int64s]:
        """Return the shares that there are, and which of them each document belongs to."""
        if per == "part":
            parts, which = np.unique(self.part, return_inverse=True)
            return [Share(part) for part in parts.tolist()], which
        encoded = self.source.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        pairs, which = np.unique(self.part * len(names) + encoded.indices.to_numpy(), return_inverse=True)
        return [Share(pair // len(names), names[pair % len(names)]) for pair in pairs.tolist()], which


Repeats = Callable[[Place], Int64s]
"""The rows of a shard whose text another document of the mixture has, and which therefore are out."""


def _none(place: Place) -> Int64s:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Pool:
    """All parts of a mixture over their corpora."""

    parts: Sequence[MixturePart]
    repeats: Repeats = _none

    @cached_property
    def places(self) -> list[Place]:
        """Every shard of every corpus, once."""
        shards = {part.survivors.corpus: part.survivors.shards for part in self.parts}
        return [Place(corpus, shard) for corpus, found in shards.items() for shard in found]

    def claims(self, place: Place) -> Iterator[tuple[int, Mask]]:
        """Yield the number of each part over a shard's corpus, and the documents that it would have alone."""
        for number, part in enumerate(self.parts):
            if part.survivors.corpus == place.corpus:
                yield number, part.has(place.shard)

    @cached_property
    def owned(self) -> Callable[[Place], Owned]:
        """Return the documents of a shard with the parts that they belong to."""
        return lru_cache(MASKS_KEPT)(self._owned)

    def _owned(self, place: Place) -> Owned:
        owner = np.full(place.shard.rows, NOBODY, dtype=np.int64)
        for number, mask in self.claims(place):
            owner[mask & (owner == NOBODY)] = number
        owner[self.repeats(place)] = NOBODY
        row = np.flatnonzero(owner != NOBODY).astype(np.int64)
        return Owned(row, owner[row], sources(place.shard).take(pa.array(row)))


def sources(shard: Shard) -> pa.Array:
    """Return the source of every row of a shard, "(none)" where it has none."""
    return pc.fill_null(shard.read_column("source"), NO_SOURCE)
