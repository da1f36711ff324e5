"""Orders of documents by a hash of their keys, and marks in them: what a round of random subsets begins and ends at.

A document's place in an order is 2^52 - (mix64(doc_key ^ key) >> 12), a number from 1 to 2^52 that JSON and SQL hold
exactly; documents of one place go by doc_id, so a mark there names the first id that comes after it. The place falls
as `uniform` rises: an order is that of the shared cut over uniform scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from .keyed import mix64

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

LAST_PLACE = 2**52
AFTER_ALL = 2**53 - 1
"""The place of a mark that every document comes before; the places of documents are 1 to 2^52."""
_LAST = np.uint64(LAST_PLACE)
_BEFORE, _TIED = 1, 2


@dataclass(frozen=True)
class Mark:
    """A point of an order: in front of `doc_id` among the documents of its place, in front of all where it is None."""

    order: int
    place: int
    doc_id: str | None = None


class Rows(NamedTuple):
    """Documents to be judged; `code` is the place of their group in the plan, -1: in no round."""

    doc_key: UInt64s
    code: Int64s
    doc_ids: Callable[[Int64s], Sequence[str]]
    """Ids by place in these arrays; asked for ties only."""


@dataclass(frozen=True)
class Marks:
    """One mark a group."""

    keys: UInt64s
    places: UInt64s
    doc_ids: tuple[str | None, ...]

    def before(self, rows: Rows) -> Bools:
        """Return which rows come before the mark of their group."""
        found = _compare(rows.doc_key, rows.code, self.keys, self.places)
        tied = np.flatnonzero(found == _TIED)
        before: Bools = found == _BEFORE
        tied = tied[[self.doc_ids[code] is not None for code in rows.code[tied].tolist()]]
        if len(tied):
            marks = [self.doc_ids[code] or "" for code in rows.code[tied].tolist()]
            before[tied] = [doc_id < mark for doc_id, mark in zip(rows.doc_ids(tied), marks, strict=True)]
        return before


def before_all(marks: Sequence[Marks], rows: Rows) -> Bools:
    """Return which rows come before all marks of their group."""
    before = np.ones(len(rows.code), np.bool_)
    for one in marks:
        before &= one.before(rows)
    return before


def chains(chains: Sequence[Sequence[Mark]], orders: Sequence[int], empty: int) -> list[Marks]:
    """Return marks all of which a row is before where it is before all of its group's.

    `empty` is the place of the mark of a group without any. 0: no row is before it; AFTER_ALL: every row is.
    """
    found = []
    for i in range(max(map(len, chains), default=0)):
        beyond = [AFTER_ALL if chain else empty for chain in chains]
        one = [chain[i] if i < len(chain) else Mark(0, far) for chain, far in zip(chains, beyond, strict=True)]
        one.append(Mark(0, 0))  # rows of no group have code -1
        keys = np.array([orders[mark.order] if orders else 0 for mark in one], np.uint64)
        places = np.array([mark.place for mark in one], np.uint64)
        found.append(Marks(keys, places, tuple(mark.doc_id for mark in one)))
    return found


def places(doc_keys: UInt64s, key: int) -> UInt64s:
    """Return the place of each document in an order: from 1 to 2^52, documents of larger `uniform` numbers first."""
    found: UInt64s = _places(doc_keys, np.uint64(key))
    return found


@njit(nogil=True, cache=True)
def _places(doc_keys: UInt64s, key: Any) -> UInt64s:
    out = np.empty(len(doc_keys), np.uint64)
    for i in range(len(doc_keys)):
        out[i] = _LAST - (mix64(doc_keys[i] ^ key) >> np.uint64(12))
    return out


@njit(nogil=True, cache=True)
def _compare(doc_keys: UInt64s, code: Int64s, keys: UInt64s, marks: UInt64s) -> npt.NDArray[np.uint8]:
    """Return for each row whether its place is before, at or after the mark of its group; code -1 is the last mark."""
    out = np.zeros(len(doc_keys), np.uint8)
    for i in range(len(doc_keys)):
        place = _LAST - (mix64(doc_keys[i] ^ keys[code[i]]) >> np.uint64(12))
        if place < marks[code[i]]:
            out[i] = _BEFORE
        elif place == marks[code[i]]:
            out[i] = _TIED
    return out
