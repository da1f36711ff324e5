"""Sets of documents of a corpus: where they lie, their keys and tokens, some 30 bytes each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..selectors.keyed import stream_key, uniform

SKIPPED_AT_MOST = 32
PLACE_BITS = 40
"""For the row, in a place."""

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Documents:
    """Documents of a corpus: places of shards, rows, keys and tokens, one each, in corpus order."""

    shard: npt.NDArray[np.int32]
    row: Int64s
    doc_key: npt.NDArray[np.uint64]
    n_tokens: Int64s

    def __len__(self) -> int:
        return len(self.row)

    @property
    def tokens(self) -> int:
        """Tokens of all."""
        return int(self.n_tokens.sum())

    @property
    def places(self) -> Int64s:
        """A number a document, ascending, the same in every set."""
        return (self.shard.astype(np.int64) << PLACE_BITS) | self.row

    def taken(self, which: npt.NDArray[Any]) -> "Documents":
        """Return some of them: by a mask, or by their numbers, which are put in order."""
        which = np.sort(which) if which.dtype != np.bool_ else which
        return Documents(self.shard[which], self.row[which], self.doc_key[which], self.n_tokens[which])

    def within(self, tokens: int, order: Float64s) -> "Documents":
        """Return the first ones by `order`, the smallest first, that have together no more than `tokens`.

        One that does not fit is skipped, unlike in a cut: equal sizes matter more here than the order of the last ones.
        """
        left, taken = np.lexsort((self.doc_key, order)), []
        for _ in range(SKIPPED_AT_MOST):
            fits = int(np.searchsorted(np.cumsum(self.n_tokens[left]), tokens, "right"))
            taken.append(left[:fits])
            tokens -= int(self.n_tokens[left[:fits]].sum())
            left = left[fits + 1 :]
            left = left[self.n_tokens[left] <= tokens]
        return self.taken(np.concatenate(taken))

    def thinned(self, tokens: int, purpose: str) -> "Documents":
        """Return a random part of no more than `tokens`."""
        return self.within(tokens, uniform(self.doc_key, stream_key(0, "compare", purpose)))

    def of_shard(self, place: int) -> Int64s:
        """Return the rows of a shard."""
        start, end = np.searchsorted(self.shard, [place, place + 1]).tolist()
        return self.row[start:end]


NOTHING = Documents(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int64))


def joined(parts: list[Documents]) -> Documents:
    """Return documents of ascending shards as one set."""
    parts = [NOTHING, *parts]
    return Documents(
        np.concatenate([p.shard for p in parts]), np.concatenate([p.row for p in parts]),
        np.concatenate([p.doc_key for p in parts]), np.concatenate([p.n_tokens for p in parts]),
    )  # fmt: skip
