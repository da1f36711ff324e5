r"""What a document's characters and words add up to, as integers: the ratios are made from them outside.

A word is a token with a word character, so a match of `\w+`; its length is in code points.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .text_buffers import Bytes, Offsets
from .unicode_tables import ALPHA, WORD
from .word_kernels import ONE, decode

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Gopher's (Rae et al. 2021, https://arxiv.org/abs/2112.11446, appendix A1.1); none is longer than four bytes."""

WORD_COUNTS = (
    "n_chars",
    "n_words",
    "n_word_chars",
    "n_alpha_words",
    "max_word_length",
    "n_stop_words",
    "n_hashes",
    "n_ellipses",
    "n_newlines",
    "n_curly_brackets",
)
"""The columns that `count_characters` writes."""
(
    _N_CHARS,
    _N_WORDS,
    _N_WORD_CHARS,
    _N_ALPHA_WORDS,
    _MAX_WORD_LENGTH,
    _N_STOP_WORDS,
    _N_HASHES,
    _N_ELLIPSES,
    _N_NEWLINES,
    _N_CURLY_BRACKETS,
) = range(len(WORD_COUNTS))

_PACKED_STOP_WORDS = tuple(np.uint64(int.from_bytes(word.encode(), "big")) for word in STOP_WORDS)
_8 = np.uint64(8)


@njit(nogil=True, cache=True)
def count_characters(
    offsets: Offsets, data: Bytes, classes: npt.NDArray[np.uint8], counts: npt.NDArray[np.int64]
) -> None:
    """Write one row a document, zeros before, in the order of `WORD_COUNTS`."""
    for doc in range(len(offsets) - 1):
        start, end = np.uint64(offsets[doc]), np.uint64(offsets[doc + 1])
        _count_symbols(data, start, end, counts[doc])
        _count_words(data, start, end, classes, counts[doc])


@njit(nogil=True, cache=True)
def _count_symbols(data: Bytes, start: np.uint64, end: np.uint64, row: npt.NDArray[np.int64]) -> None:
    """Count what shows in the bytes alone. Three dots are an ellipsis, without overlap, as `str.count` counts."""
    chars, hashes, newlines, brackets, ellipses, dots = 0, 0, 0, 0, 0, 0
    i = start
    while i < end:
        byte = data[i]
        chars += (byte & 0xC0) != 0x80
        hashes += byte == 0x23
        newlines += byte == 0x0A
        brackets += byte == 0x7B
        dots = dots + 1 if byte == 0x2E else 0
        if dots == 3:
            ellipses += 1
            dots = 0
        i += ONE
    row[_N_CHARS], row[_N_HASHES], row[_N_NEWLINES], row[_N_CURLY_BRACKETS] = chars, hashes, newlines, brackets
    row[_N_ELLIPSES] += ellipses


@njit(nogil=True, cache=True)
def _count_words(
    data: Bytes, start: np.uint64, end: np.uint64, classes: npt.NDArray[np.uint8], row: npt.NDArray[np.int64]
) -> None:
    length, alpha, seen = 0, 0, 0
    i = begin = start
    while i < end:
        place = i
        code, i = decode(data, i)
        if classes[code] & WORD:
            begin = begin if length else place
            length += 1
            alpha |= classes[code] & ALPHA
        else:
            row[_N_ELLIPSES] += code == 0x2026
            if length:
                seen |= _end_of_word(data, begin, place, length, alpha, row)
                length, alpha = 0, 0
    if length:
        seen |= _end_of_word(data, begin, end, length, alpha, row)
    while seen:
        row[_N_STOP_WORDS] += seen & 1
        seen >>= 1


@njit(nogil=True, cache=True)
def _end_of_word(
    data: Bytes, begin: np.uint64, end: np.uint64, length: int, alpha: int, row: npt.NDArray[np.int64]
) -> int:
    """Count the word and return the bit of the stop word that it is, or 0."""
    row[_N_WORDS] += 1
    row[_N_WORD_CHARS] += length
    row[_N_ALPHA_WORDS] += alpha != 0
    row[_MAX_WORD_LENGTH] = max(row[_MAX_WORD_LENGTH], length)
    if length > 4 or end - begin > np.uint64(4):
        return 0
    packed = np.uint64(0)
    while begin < end:
        packed = packed << _8 | np.uint64(data[begin])
        begin += ONE
    bit = 1
    for stop_word in _PACKED_STOP_WORDS:
        if packed == stop_word:
            return bit
        bit <<= 1
    return 0
