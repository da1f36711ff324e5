"""The sequences of one epoch: which tokens each has, computed for any of them without those before it.

Documents lie end to end in the epoch's order, and sequence i is the i-th run of `context` tokens of that; cumulative
lengths are all that is kept, 16 bytes a document (56 while it is made). Then the sequences are ordered too: of a long
document they would otherwise come one after the other, in the same batches.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..selectors.keyed import stream_key, uniform
from ..selectors.keyed_permutation import permuted

Order = Literal["shuffle", "sequences", "stored"]
"""shuffle: documents, then sequences; sequences: documents stay as they are stored, so that a sequence is one read from
disk; stored: nothing is shuffled."""
_COPY = np.uint64(0x9E3779B97F4A7C15)
"""What tells copies of a document apart, or they would be neighbours."""


class Span(NamedTuple):
    """Some tokens of a document."""

    document: int
    offset: int
    n_tokens: int


@dataclass(frozen=True)
class PackedEpoch:
    """An epoch over documents of a mixture."""

    documents: npt.NDArray[np.int64]
    """Numbers of the documents, in their order."""
    ends: npt.NDArray[np.int64]
    """Where each ends, in tokens."""
    context: int
    key: int
    is_shuffled: bool
    is_padded: bool
    """The last sequence may be shorter than the others; else it is left out."""

    @property
    def n_sequences(self) -> int:
        """Return how many sequences there are."""
        n_tokens = int(self.ends[-1]) if len(self.ends) else 0
        return -(-n_tokens // self.context) if self.is_padded else n_tokens // self.context

    def spans(self, place: int) -> list[Span]:
        """Return what the sequence at a place of the order consists of."""
        sequence = permuted(place, self.n_sequences, self.key) if self.is_shuffled else place
        begin = sequence * self.context
        stop = min(begin + self.context, int(self.ends[-1]))
        found = []
        at = int(np.searchsorted(self.ends, begin, side="right"))
        while begin < stop:
            offset = begin - (int(self.ends[at - 1]) if at else 0)
            n_tokens = min(stop, int(self.ends[at])) - begin
            found.append(Span(int(self.documents[at]), offset, n_tokens))
            begin, at = begin + n_tokens, at + 1
        return found


def packed_epoch(
    lengths: npt.NDArray[np.int64], doc_keys: npt.NDArray[np.uint64], numbers: npt.NDArray[np.int64] | None,
    context: int, seed: int, epoch: int, order: Order, is_padded: bool,
) -> PackedEpoch:  # fmt: skip
    """Return an epoch over the documents with these numbers, which may occur several times; None: over all, once.

    The order follows seed, epoch and the documents' keys alone, whatever files they lie in.
    """
    documents = np.arange(len(lengths)) if numbers is None else np.sort(np.asarray(numbers, np.int64))
    if order == "shuffle":
        keys = _told_apart(doc_keys[documents])
        documents = documents[np.lexsort((keys, uniform(keys, stream_key(seed, "reader", "documents", epoch))))]
    key = stream_key(seed, "reader", "sequences", epoch)
    return PackedEpoch(documents, np.cumsum(lengths[documents]), context, key, order != "stored", is_padded)


def _told_apart(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return other keys for the second and further of those that are equal."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    copy = np.empty(len(keys), np.uint64)
    copy[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    return keys ^ (copy * _COPY)
