"""Matches as zlib looks for them: along chains of places that share a hash of three bytes, the most recent first.

How far a level searches (`Effort`) decides the match, so it is part of the format. As in zlib the place 0 ends a chain:
the first byte of a text is never matched.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from .text_buffers import Bytes, Offsets

PADDING = 258
"""Readable bytes that must follow the texts of `known_matches`: the longest match."""
N_HASHES = 1 << 15

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
UInt16s = npt.NDArray[np.uint16]


class Effort(NamedTuple):
    """zlib's `configuration_table`: how hard a level searches."""

    good: np.uint64
    """A match in hand of this length quarters the search."""
    lazy: np.uint64
    """One of this length ends it."""
    nice: np.uint64
    """A match found of this length is taken."""
    chain: np.uint64
    """Places looked at."""


LEVELS = {
    level: Effort(*map(np.uint64, row))
    for level, row in {
        4: (4, 4, 16, 16),
        5: (8, 16, 32, 32),
        6: (8, 16, 128, 128),
        7: (8, 32, 128, 256),
        8: (32, 128, 258, 1024),
        9: (32, 258, 258, 4096),
    }.items()
}
"""The levels that match lazily."""

HASH, LENGTH, SEEN = np.uint64(N_HASHES - 1), np.uint64(0x1FF), np.uint64(0x1FFF)
"""Masks of the parts of `Matches.known`."""
LENGTH_AT, SEEN_AT, BACK_AT = np.uint64(15), np.uint64(24), np.uint64(37)
"""Where they begin."""
MAX_DISTANCE, _MAX_LENGTH = np.uint64(32_768 - 262), np.uint64(258)
_0, _1, _2, _5, _10 = (np.uint64(n) for n in (0, 1, 2, 5, 10))


class Matches(NamedTuple):
    """Texts that stand behind sources, and what is known of each place before any source comes."""

    texts: Bytes
    """All texts, one after the other, and `PADDING` bytes."""
    offsets: Offsets
    known: UInt64s
    """hash | longest match inside the text << 15 | places looked at << 24 | how far back that match << 37."""
    steps: UInt16s
    """How far back the place before with the same hash is; 0: none within reach."""


def known_matches(texts: list[bytes], effort: Effort) -> Matches:
    """Find the matches inside each text; `effort` must be that of the sizes asked for later."""
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    data = np.frombuffer(b"".join(texts) + bytes(PADDING), np.uint8)
    known, steps = np.zeros(len(data), np.uint64), np.zeros(len(data), np.uint16)
    heads = np.empty(N_HASHES, np.int64)
    for start, end in pairwise(offsets.tolist()):
        _match_inside(data, start, end, effort, heads, known, steps)
    return Matches(data, offsets, known, steps)


@njit(nogil=True, cache=True)
def _match_inside(
    data: Bytes, start: int, end: int, effort: Any, heads: Int64s, known: UInt64s, steps: UInt16s
) -> None:
    heads[:] = -1
    n = np.uint64(end)
    for i in range(start, end - 2):
        place = np.uint64(i)
        key = hash3(data, place)
        before = heads[key]
        heads[key] = i
        if before >= 0 and place - np.uint64(before) <= MAX_DISTANCE:
            steps[place] = place - np.uint64(before)
        length, at, seen = search_steps(data, place, _0, n, steps, _2, effort.chain, effort.nice)
        back = place - at if length > _2 else _0
        known[place] = key | length << LENGTH_AT | seen << SEEN_AT | back << BACK_AT


@njit(nogil=True, cache=True)
def search_steps(
    data: Bytes,
    place: np.uint64,
    base: np.uint64,
    n: np.uint64,
    steps: UInt16s,
    length: np.uint64,
    chain: np.uint64,
    nice: np.uint64,
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Return the longest match above `length` inside one text, its place (0: none), and the places looked at.

    `steps` begins at the place `base` of `data`.
    """
    at, seen, candidate = _0, _0, place
    longest = min(n - place, _MAX_LENGTH)
    nice = min(nice, longest)
    while seen < chain:
        step = np.uint64(steps[candidate - base])
        candidate -= step
        distance = place - candidate
        if step == _0 or distance > MAX_DISTANCE or (distance == MAX_DISTANCE and seen != _0):
            break
        seen += _1
        found = _common(data, candidate, place, longest)
        if found > length:
            length, at = found, candidate
            if found >= nice:
                break
    return length, at, seen


@njit(nogil=True, cache=True, inline="always")
def _common(data: Bytes, left: np.uint64, right: np.uint64, longest: np.uint64) -> np.uint64:
    """Return how many bytes are the same from two places on."""
    n = _0
    while n < longest and data[left + n] == data[right + n]:
        n += _1
    return n


@njit(nogil=True, cache=True, inline="always")
def hash3(data: Bytes, place: np.uint64) -> np.uint64:
    """Return zlib's hash of three bytes."""
    return (np.uint64(data[place]) << _10 ^ np.uint64(data[place + _1]) << _5 ^ np.uint64(data[place + _2])) & HASH


@njit(nogil=True, cache=True)
def search(
    text: Bytes,
    back: Int32s,
    place: np.uint64,
    n: np.uint64,
    candidate: np.uint64,
    length: np.uint64,
    chain: np.uint64,
    nice: np.uint64,
) -> tuple[np.uint64, np.uint64]:
    """Return the longest match above `length` along a chain, and its place; 0 where there is none."""
    at = _0
    if candidate == _0 or place - candidate > MAX_DISTANCE:
        return length, at
    oldest = place - min(place, MAX_DISTANCE)
    longest = min(n - place, _MAX_LENGTH)
    nice = min(nice, n - place)
    last = text[place + length]
    while chain > _0:
        if text[candidate + length] == last:
            found = _common(text, candidate, place, longest)
            if found > length:
                length, at = found, candidate
                if found >= nice:
                    break
                last = text[place + length]
        candidate = np.uint64(back[candidate])
        if candidate <= oldest:
            break
        chain -= _1
    return length, at
