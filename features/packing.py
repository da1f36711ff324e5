"""Documents as sequences of one length for training: end to end, `<|endoftext|>` before each document.

So every position is trained on and none is padding but in the last sequence, which is as long as what is left. A
document begins after what its tokenizer begins with, as it does when it is scored. Sequences follow the order of the
documents alone, and a position (a document and a place in it) is all that is needed to go on after any of them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .byte_bpe import END_ID

Ids = npt.NDArray[np.int64]
Documents = Callable[[int], Iterable[npt.ArrayLike]]
"""Return the token ids of the documents from that number on."""


@dataclass(frozen=True)
class Position:
    """Where the next sequence begins."""

    document: int = 0
    offset: int = 0
    """Tokens of the document that were given, what it begins with included."""
    n_tokens: int = 0
    """Tokens that were given in all."""


@dataclass(frozen=True)
class Packing:
    """Sequences of documents; call it with a position to have those from there on."""

    documents: Documents
    context: int
    budget_tokens: int | None = None
    """Tokens of all sequences together, what documents begin with included; default: all there are."""
    begin: tuple[int, ...] = (END_ID,)
    """The tokens before each document."""

    def __call__(self, start: Position) -> Iterator[tuple[Ids, Position]]:
        """Yield each sequence and the position after it. A last one of a single token is left out: it teaches none."""
        parts: list[Ids] = []
        filled, given, after = 0, start.n_tokens, start
        for number, ids in enumerate(self.documents(start.document), start.document):
            whole = np.concatenate([np.array(self.begin, np.int64), np.asarray(ids, np.int64)])
            offset = start.offset if number == start.document else 0
            while offset < len(whole) and (length := self._length(given)):
                piece = whole[offset : offset + length - filled]
                parts.append(piece)
                offset, filled = offset + len(piece), filled + len(piece)
                place = (number, offset) if offset < len(whole) else (number + 1, 0)
                after = Position(*place, given + filled)
                if filled == length:
                    yield from _joined(parts, after)
                    parts, filled, given = [], 0, after.n_tokens
            if not self._length(given):
                return
        yield from _joined(parts, after)

    def _length(self, given: int) -> int:
        left = self.context if self.budget_tokens is None else self.budget_tokens - given
        return max(0, min(self.context, left))


def _joined(parts: list[Ids], after: Position) -> Iterator[tuple[Ids, Position]]:
    if sum(map(len, parts)) > 1:
        yield np.concatenate(parts), after
