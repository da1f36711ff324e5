"""The phrases by which C4 knows a page's machinery (https://jmlr.org/papers/v21/20-074.html), found in UTF-8 bytes.

Case is folded for ASCII letters only. A table of first letters keeps the search to one look-up for most bytes.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .text_buffers import Bytes
from .word_kernels import ONE

PHRASES = (
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
    "lorem ipsum",
)
JAVASCRIPT = 0b0000_0001
"""Bits of what `find_phrases` returns, by the place in `PHRASES`."""
POLICY = 0b0111_1110
LOREM_IPSUM = 0b1000_0000

_FOLD = np.frombuffer(bytes(range(256)).lower(), np.uint8)
_LENGTHS = np.array([len(phrase) for phrase in PHRASES])
_LETTERS = np.frombuffer("".join(phrase.ljust(16) for phrase in PHRASES).encode(), np.uint8).reshape(len(PHRASES), 16)


def _first_letters() -> npt.NDArray[np.uint8]:
    bits = np.zeros(256, np.uint8)
    for place, phrase in enumerate(PHRASES):
        bits[[ord(phrase[0]), ord(phrase[0].upper())]] |= np.uint8(1 << place)
    return bits


_FIRST = _first_letters()


#: Four letters of each phrase, all four rare together: every phrase holds one of these.
_TRACES = tuple((*word.encode(),) for word in ("avas", "erms", "vacy", "ooki", "orem"))


@njit(nogil=True, cache=True)
def may_hold_phrases(text: Bytes) -> bool:
    """Tell whether a text may hold a phrase, at 8,000 MB/s; one in twenty does that holds none."""
    found = False
    for i in range(len(text) - 3):
        a, b, c, d = text[i] | 0x20, text[i + 1] | 0x20, text[i + 2] | 0x20, text[i + 3] | 0x20  # letters in lower case
        for trace in _TRACES:
            found |= (a == trace[0]) & (b == trace[1]) & (c == trace[2]) & (d == trace[3])
    return found


@njit(nogil=True, cache=True)
def find_phrases(data: Bytes, start: np.uint64, end: np.uint64) -> int:
    """Return the bits of the phrases that stand between the two places."""
    found = 0
    i = start
    while i < end:
        candidates = _FIRST[data[i]]
        if candidates:
            found |= _phrases_at(data, i, end, candidates)
        i += ONE
    return found


@njit(nogil=True, cache=True)
def _phrases_at(data: Bytes, i: np.uint64, end: np.uint64, candidates: int) -> int:
    found = 0
    for place in range(len(_LENGTHS)):
        if candidates >> place & 1 and _stands_at(data, i, end, place):
            found |= 1 << place
    return found


@njit(nogil=True, cache=True)
def _stands_at(data: Bytes, i: np.uint64, end: np.uint64, place: int) -> bool:
    if end - i < np.uint64(_LENGTHS[place]):
        return False
    for letter in range(_LENGTHS[place]):  # noqa: SIM110 (a kernel knows no generators)
        if _FOLD[data[i + np.uint64(letter)]] != _LETTERS[place, letter]:
            return False
    return True
