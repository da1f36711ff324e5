"""The strings that a text shares with others: what a compressor finds when it reads them together.

From left to right the longest string that stands in one of the others, none overlapping, as gzip's dictionary would be
used. Strings of 3 to 7 bytes save bits too, but chance makes them: they are left out.
"""

from collections.abc import Sequence
from functools import lru_cache

LEAST_BYTES = 8
MOST_BYTES = 1 << 18
"""So much of a text is looked through, from its beginning."""
_PLACES = 32
"""A string that stands more often in another text is tried at the first places only."""


def shared_strings(text: bytes, others: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return first and last byte (the one after it) of the shared strings, whole characters each, in their order."""
    known = [_grams(other) for other in others]
    found, at, end = [], 0, min(len(text), MOST_BYTES)
    while at + LEAST_BYTES <= end:
        gram, longest = text[at : at + LEAST_BYTES], 0
        for other, grams in zip(others, known, strict=True):
            for place in grams.get(gram, ()):
                longest = max(longest, _common(text, at, other, place))
        if longest:
            start, stop = _whole(text, at, at + longest)
            if text[start:stop].strip():
                found.append((start, stop))
        at += max(1, longest)
    return found


@lru_cache(maxsize=256)
def _grams(text: bytes) -> dict[bytes, list[int]]:
    """Return where each string of `LEAST_BYTES` bytes stands."""
    found: dict[bytes, list[int]] = {}
    for place in range(len(text) - LEAST_BYTES + 1):
        places = found.setdefault(text[place : place + LEAST_BYTES], [])
        if len(places) < _PLACES:
            places.append(place)
    return found


def _common(text: bytes, at: int, other: bytes, place: int) -> int:
    """Return how many bytes are the same from two places on, by halving."""
    low, high = LEAST_BYTES, min(len(text) - at, len(other) - place)
    while low < high:
        middle = (low + high + 1) // 2
        if text[at + low : at + middle] == other[place + low : place + middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _whole(text: bytes, start: int, stop: int) -> tuple[int, int]:
    """Shrink a piece of UTF-8 to whole characters."""
    while start < stop and text[start] & 0xC0 == 0x80:
        start += 1
    while start < stop < len(text) and text[stop] & 0xC0 == 0x80:
        stop -= 1
    return start, stop
