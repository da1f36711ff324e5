"""JSON values as bytes: checked in full, grammar and UTF-8, while they are read; strings are decoded on the way.

Each function takes the place where something begins and returns the place after it, or `NO`. `NO` only says that it is
not ordinary: invalid, a lone surrogate escape, nested deeper than 60 levels. A newline fits nowhere inside, so reading
stops there by itself and no place is compared with an end; hence the bytes must end with one.

Places are unsigned: a signed index costs a test for Python's negative ones.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]

NO = np.uint64(1 << 63)
"""No place."""
_MAX_DEPTH = np.uint64(60)  # the kinds of the open brackets are the bits of one word
_0, ONE, _2, _3, _4, _5, _6, _8, _12, _18 = (np.uint64(n) for n in (0, 1, 2, 3, 4, 5, 6, 8, 12, 18))
_HALF, _HIGH, _LOW, _BEYOND = (np.uint64(n) for n in (0x400, 0xD800, 0xDC00, 0x10000))
_TAIL = np.uint64(0x3F)

QUOTE, COMMA, COLON, NEWLINE = b'",:\n'
OPEN, CLOSE = b"{}"
_OPEN_LIST, _CLOSE_LIST, _BACKSLASH, _U, _MINUS, _PLUS, _DOT, _ZERO, _LOWER = b"[]\\u-+.0 "


def _table(values: dict[int, int], rest: int) -> Bytes:
    return np.array([values.get(byte, rest) for byte in range(256)], np.uint8)


_PLAIN, _SPECIAL = 0, 1
_KIND = _table(  # in a string: plain, special, or the first byte of a sequence of 2, 3 or 4
    {byte: _PLAIN for byte in range(0x20, 0x80) if byte not in (QUOTE, _BACKSLASH)}
    | {byte: 2 + (byte >= 0xE0) + (byte >= 0xF0) for byte in range(0xC2, 0xF5)},
    _SPECIAL,
)
_UNESCAPED = _table(dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True)), 0)
_HEX = _table({ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}, 0xFF)
_SPACE = _table({0x20: 1, 0x09: 1, 0x0D: 1}, 0)
_DIGIT = _table(dict.fromkeys(b"0123456789", 1), 0)
_WORDS = np.frombuffer(b"true\0null\0false", np.uint8)
_WORD_AT = _table({ord("t"): 0, ord("n"): 5, ord("f"): 10}, 0xFF)
_WORD_LENGTH = _table({ord("t"): 4, ord("n"): 4, ord("f"): 5}, 0)


@njit(nogil=True, cache=True)
def space(data: Bytes, i: np.uint64) -> np.uint64:
    """Read white space within a line; there may be none."""
    while _SPACE[data[i]]:
        i += ONE
    return i


@njit(nogil=True, cache=True)
def string(data: Bytes, i: np.uint64, out: Bytes, o: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Read a string from after its quote, and write what it means to `out[o:]`; return both places after it.

    `out` needs no more room than the string takes in `data`.
    """
    while True:
        byte = data[i]
        kind = _KIND[byte]
        while kind == _PLAIN:
            out[o] = byte
            i += ONE
            o += ONE
            byte = data[i]
            kind = _KIND[byte]
        if byte == QUOTE:
            return i + ONE, o
        if byte == _BACKSLASH:
            i, o = _escape(data, i + ONE, out, o)
        elif kind == _SPECIAL:
            return NO, o
        else:
            i, o = _sequence(data, i, kind, out, o)
        if i == NO:
            return NO, o


@njit(nogil=True, cache=True)
def value(data: Bytes, i: np.uint64, scratch: Bytes, s: np.uint64) -> np.uint64:
    """Read any value; `scratch[s:]` has room for what it takes in `data`."""
    depth, lists = _0, _0  # bit 0 of `lists`: the innermost open bracket is a list's
    while i != NO:
        byte = data[i]
        if (byte == OPEN) | (byte == _OPEN_LIST):
            depth, lists = depth + ONE, lists << ONE | np.uint64(byte == _OPEN_LIST)
            i = space(data, i + ONE)
            if data[i] != _closing(lists):
                i = _item(data, i, lists, scratch, s) if depth <= _MAX_DEPTH else NO
                continue
        else:
            i = _scalar(data, i, scratch, s)
        if i != NO:
            i, depth, lists = _ends(data, i, depth, lists)
            if depth == _0:
                return i
            i = _item(data, space(data, i + ONE), lists, scratch, s) if data[i] == COMMA else NO
    return NO


@njit(nogil=True, cache=True)
def _item(data: Bytes, i: np.uint64, lists: np.uint64, scratch: Bytes, s: np.uint64) -> np.uint64:
    """Read what comes before the value of the next item: nothing in a list, key and colon in an object."""
    if lists & ONE:
        return i
    if data[i] != QUOTE:
        return NO
    i, _ = string(data, i + ONE, scratch, s)
    return i if i == NO else colon(data, i)


@njit(nogil=True, cache=True)
def colon(data: Bytes, i: np.uint64) -> np.uint64:
    """Read a colon and the space around it."""
    i = space(data, i)
    return space(data, i + ONE) if data[i] == COLON else NO


@njit(nogil=True, cache=True)
def number(data: Bytes, i: np.uint64) -> np.uint64:
    """Read a number."""
    i += np.uint64(data[i] == _MINUS)
    i = i + ONE if data[i] == _ZERO else _digits(data, i)
    if i != NO and data[i] == _DOT:
        i = _digits(data, i + ONE)
    if i != NO and data[i] | _LOWER == 0x65:  # e or E
        i += ONE
        i = _digits(data, i + np.uint64((data[i] == _MINUS) | (data[i] == _PLUS)))
    return i


@njit(nogil=True, cache=True)
def _scalar(data: Bytes, i: np.uint64, scratch: Bytes, s: np.uint64) -> np.uint64:
    byte = data[i]
    if byte == QUOTE:
        i, _ = string(data, i + ONE, scratch, s)
        return i
    word = _WORD_AT[byte]
    if word == 0xFF:
        return number(data, i)
    for k in range(_WORD_LENGTH[byte]):
        if data[i + np.uint64(k)] != _WORDS[word + k]:
            return NO
    return i + np.uint64(_WORD_LENGTH[byte])


@njit(nogil=True, cache=True)
def _closing(lists: np.uint64) -> int:
    return _CLOSE_LIST if lists & ONE else CLOSE


@njit(nogil=True, cache=True)
def _ends(data: Bytes, i: np.uint64, depth: np.uint64, lists: np.uint64) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Read the brackets that close here, and the space within the rest; return what is still open."""
    while depth > _0:
        i = space(data, i)
        if data[i] != _closing(lists):
            break
        i, depth, lists = i + ONE, depth - ONE, lists >> ONE
    return i, depth, lists


@njit(nogil=True, cache=True)
def _digits(data: Bytes, i: np.uint64) -> np.uint64:
    """Read one digit or more."""
    if not _DIGIT[data[i]]:
        return NO
    while _DIGIT[data[i]]:
        i += ONE
    return i


@njit(nogil=True, cache=True)
def _escape(data: Bytes, i: np.uint64, out: Bytes, o: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Read an escape from after its backslash."""
    plain = _UNESCAPED[data[i]]
    if plain:
        out[o] = plain
        return i + ONE, o + ONE
    code, i = _hexadecimal(data, i)
    if i == NO or (code >= _HIGH and code < _HIGH + _2 * _HALF):
        if i == NO or code >= _LOW or data[i] != _BACKSLASH:
            return NO, o
        low, i = _hexadecimal(data, i + ONE)
        if i == NO or low < _LOW or low >= _LOW + _HALF:
            return NO, o
        code = _BEYOND + (code - _HIGH) * _HALF + (low - _LOW)
    return i, _encode(code, out, o)


@njit(nogil=True, cache=True)
def _hexadecimal(data: Bytes, i: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Read `u` and four digits; return their number and the place after them."""
    if data[i] != _U or i + _5 > np.uint64(len(data)):
        return _0, NO
    a, b, c, d = _HEX[data[i + ONE]], _HEX[data[i + _2]], _HEX[data[i + _3]], _HEX[data[i + _4]]
    if (a | b | c | d) == 0xFF:
        return _0, NO
    return np.uint64(a) << _12 | np.uint64(b) << _8 | np.uint64(c) << _4 | np.uint64(d), i + _5


@njit(nogil=True, cache=True)
def _encode(code: np.uint64, out: Bytes, o: np.uint64) -> np.uint64:
    """Write a code point as UTF-8; return the place after it."""
    if code < 0x80:
        out[o] = code
        return o + ONE
    if code < 0x800:
        out[o] = 0xC0 | code >> _6
        out[o + ONE] = 0x80 | code & _TAIL
        return o + _2
    if code < _BEYOND:
        out[o] = 0xE0 | code >> _12
        out[o + ONE] = 0x80 | code >> _6 & _TAIL
        out[o + _2] = 0x80 | code & _TAIL
        return o + _3
    out[o] = 0xF0 | code >> _18
    out[o + ONE] = 0x80 | code >> _12 & _TAIL
    out[o + _2] = 0x80 | code >> _6 & _TAIL
    out[o + _3] = 0x80 | code & _TAIL
    return o + _4


@njit(nogil=True, cache=True)
def _sequence(data: Bytes, i: np.uint64, length: int, out: Bytes, o: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Copy the UTF-8 sequence of two to four bytes that begins here."""
    first, second = data[i], data[i + ONE]
    least, most = 0x80, 0xBF  # of the second byte: no overlong forms, no surrogates, nothing beyond U+10FFFF
    if first == 0xE0:
        least = 0xA0
    elif first == 0xED:
        most = 0x9F
    elif first == 0xF0:
        least = 0x90
    elif first == 0xF4:
        most = 0x8F
    if second < least or second > most:
        return NO, o
    out[o], out[o + ONE] = first, second
    for k in range(2, length):
        byte = data[i + np.uint64(k)]
        if byte & 0xC0 != 0x80:
            return NO, o
        out[o + np.uint64(k)] = byte
    return i + np.uint64(length), o + np.uint64(length)
