r"""The tokens of `re.findall(r"\w+|[^\w\s]+", text)`, found in UTF-8 bytes without a Python object.

A token is a longest run of code points of one kind (see `unicode_tables`), so one comparison a code point finds its
borders. The functions here are the alphabet of the other kernels: decoding, hashing, joining. The input is valid
UTF-8, as Arrow's strings are; nothing is checked.

Places are unsigned: a signed index costs a test for Python's negative ones (240 instead of 350 MB/s). In Numba an
unsigned plus a signed number is a float, hence the named constants.

Trap: Numba's cache follows changes of the file that holds a kernel, not of the files that it imports. Whoever edits
this file removes `__pycache__/*.nb?` before believing a test.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from .text_buffers import Bytes, Offsets
from .unicode_tables import KIND

SEED = np.uint64(0x9E3779B97F4A7C15)
"""State of the rolling hash before the first code point."""
STEP = np.uint64(0xD6E8FEB86659FD93)
"""Odd multiplier of the rolling hash."""
_PAIR = np.uint64(0x9FB21C651E98DF25)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _23, _41 = (np.uint64(n) for n in (30, 27, 31, 23, 41))

ONE = np.uint64(1)
_2, _3, _4, _6, _12, _18 = (np.uint64(n) for n in (2, 3, 4, 6, 12, 18))
_LOW_6, _LOW_5, _LOW_4, _LOW_3 = (np.uint64(mask) for mask in (0x3F, 0x1F, 0x0F, 0x07))


@njit(nogil=True, cache=True)
def mix64(x: np.uint64) -> np.uint64:
    """Return x with every bit spread over all 64: a bijection, David Stafford's 13th variant (splitmix64's end)."""
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    return x ^ (x >> _31)


@njit(nogil=True, cache=True)
def absorb(state: np.uint64, value: int | np.unsignedinteger[Any]) -> np.uint64:
    """Return the rolling hash after one more code point or byte."""
    return (state ^ np.uint64(value)) * STEP


@njit(nogil=True, cache=True)
def rotate_in(state: np.uint64, value: np.uint64) -> np.uint64:
    """Return a second rolling hash, unlike `absorb`: its high bits come back to the low ones."""
    state = (state ^ value) * _PAIR
    return (state << _23) | (state >> _41)


@njit(nogil=True, cache=True)
def join(gram: np.uint64, token: np.uint64) -> np.uint64:
    """Return the hash of a gram and the token after it; the order counts."""
    return mix64(gram * _PAIR + token)


@njit(nogil=True, cache=True)
def decode(data: Bytes, i: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the code point that starts at byte i and the place of the next one."""
    first = np.uint64(data[i])
    if first < 0x80:
        return first, i + ONE
    second = data[i + ONE] & _LOW_6
    if first < 0xE0:
        return (first & _LOW_5) << _6 | second, i + _2
    third = data[i + _2] & _LOW_6
    if first < 0xF0:
        return (first & _LOW_4) << _12 | second << _6 | third, i + _3
    return (first & _LOW_3) << _18 | second << _12 | third << _6 | (data[i + _3] & _LOW_6), i + _4


@njit(nogil=True, cache=True)
def encode(data: Bytes, i: np.uint64, code: np.uint64) -> np.uint64:
    """Write a code point as UTF-8 from byte i on; return the place after it."""
    if code < 0x80:
        data[i] = code
        return i + ONE
    if code < 0x800:
        data[i] = 0xC0 | (code >> _6)
        i += ONE
    else:
        if code < 0x10000:
            data[i] = 0xE0 | (code >> _12)
        else:
            data[i] = 0xF0 | (code >> _18)
            i += ONE
            data[i] = 0x80 | ((code >> _12) & _LOW_6)
        i += ONE
        data[i] = 0x80 | ((code >> _6) & _LOW_6)
        i += ONE
    data[i] = 0x80 | (code & _LOW_6)
    return i + ONE


@njit(nogil=True, cache=True)
def count_words(offsets: Offsets, data: Bytes, classes: npt.NDArray[np.uint8], n_words: npt.NDArray[np.int64]) -> None:
    """Write the number of tokens of each document into `n_words`."""
    for doc in range(len(offsets) - 1):
        i, end = np.uint64(offsets[doc]), np.uint64(offsets[doc + 1])
        count, before = 0, 0
        while i < end:
            code, i = decode(data, i)
            kind = classes[code] & KIND
            count += (kind != before) & (kind != 0)
            before = kind
        n_words[doc] = count


@njit(nogil=True, cache=True)
def lowers_by_context(offsets: Offsets, data: Bytes, found: npt.NDArray[np.bool_]) -> bool:
    """Mark the documents with U+0130 or U+03A3, the letters that no table can lower; return whether there are any."""
    total = False
    for doc in range(len(offsets) - 1):
        text = data[
            offsets[doc] : offsets[doc + 1]
        ]  # places that start at 0 are known to be positive: 10 GB/s, not 1.5
        every = np.uint8(0)
        for i in range(len(text)):
            every |= text[i]
        if every < 0x80:
            continue
        hit = np.uint8(0)
        for i in range(len(text) - 1):
            hit |= ((text[i] == 0xC4) & (text[i + 1] == 0xB0)) | ((text[i] == 0xCE) & (text[i + 1] == 0xA3))
        found[doc] = hit != 0
        total |= hit != 0
    return total
