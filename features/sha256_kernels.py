"""SHA-256 of many short pieces of bytes at once, as remainders: one piece a lane, all lanes in the same round.

A round waits for the round before it, so one hash at a time leaves a processor idle: 240 ns. Lanes are independent, and
the loops over them become vector instructions without intrinsics: 45 ns a hash with AVX-512, loading and remainder
included. The vectoriser needs to see that every load has a constant distance to the store before it; therefore the
rounds' values are all kept, row after row, instead of rotating through eight names.

FIPS 180-4 (https://doi.org/10.6028/NIST.FIPS.180-4), and its names.
"""

from math import isqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from .text_buffers import Bytes

UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]

LANES = 32
ONE_BLOCK_BYTES = 55
"""A longer piece takes a second block, and so does every piece that is hashed together with it."""

_WORDS, _ROUNDS = 16, 64
_PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, isqrt(n) + 1))]
_0, _1, _2, _3, _4, _5, _6, _7, _8 = (np.uint64(n) for n in range(9))
_16, _24, _29, _32, _40, _48, _56 = (np.uint64(n) for n in (16, 24, 29, 32, 40, 48, 56))
_BLOCK, _ALL = np.uint64(64), np.uint64((1 << 64) - 1)
_ROW = np.uint64(LANES)
_2_ROWS, _3_ROWS, _4_ROWS, _7_ROWS, _14_ROWS, _15_ROWS, _16_ROWS = (
    np.uint64(n * LANES) for n in (2, 3, 4, 7, 14, 15, 16)
)


def _cube_root(x: int) -> int:
    """Return the whole part of a cube root."""
    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= x else (low, middle)
    return low


# The first 32 bits of the fractions of the primes' roots, in the order of `Rounds.out`.
_INITIAL = np.array([isqrt(_PRIMES[n] << 64) & 0xFFFFFFFF for n in (3, 2, 1, 0, 7, 6, 5, 4)], np.uint32)
_CONSTANTS = np.array([_cube_root(p << 96) & 0xFFFFFFFF for p in _PRIMES], np.uint32)


class Rounds(NamedTuple):
    """Room for one block of each lane: rows of `LANES` numbers, one after the other."""

    w: UInt32s
    """The message schedule."""
    a: UInt32s
    """The a of each round, after d, c, b, a of the start: b, c and d are those of one, two and three rounds ago."""
    e: UInt32s
    """The e of each round, after h, g, f, e of the start."""
    out: UInt32s
    """The hash so far: d, c, b, a, h, g, f, e."""


def empty_rounds() -> Rounds:
    """Return room that `remainders` may write to."""
    return Rounds(*(np.zeros(rows * LANES, np.uint32) for rows in (_ROUNDS, _ROUNDS + 4, _ROUNDS + 4, 8)))


def modulus(divisor: int) -> UInt64s:
    """Return what each word of `Rounds.out` counts in a remainder, and the divisor (at most 2^24)."""
    return np.array([*(pow(2, 32 * (7 - word), divisor) for word in (3, 2, 1, 0, 7, 6, 5, 4)), divisor], np.uint64)


@njit(nogil=True, cache=True)
def remainders(
    data: Bytes, starts: UInt64s, lengths: UInt64s, n: np.uint64, modulo: UInt64s, rounds: Rounds, found: UInt64s
) -> None:
    """Write int(sha256(data[start:start + length])) % divisor of the first `n` pieces into `found`; 1 <= n <= LANES.

    `data` has 64 bytes more than its pieces: they are read, and make no difference.
    """
    w, a, e, out = rounds
    for row in range(8):
        out[row * LANES : (row + 1) * LANES] = _INITIAL[row]
    for block in range(_blocks(lengths[:n].max())):
        for lane in range(n):
            _load(data, starts[lane], lengths[lane], np.uint64(block), w, np.uint64(lane))
        _compress(w, a, e, out)
        for lane in range(n):
            if block < _blocks(lengths[lane]):  # else the piece is done
                _add(a, e, out, lane)
    for lane in range(n):
        total = _0
        for row in range(8):
            total += np.uint64(out[row * LANES + lane]) * modulo[row]
        found[lane] = total % modulo[8]


@njit(nogil=True, cache=True)
def _add(a: UInt32s, e: UInt32s, out: UInt32s, lane: int) -> None:
    """Add what the last round left to the hash of a lane."""
    for row in range(4):
        here, there = row * LANES + lane, (row + 4) * LANES + lane
        out[here] = np.uint32(out[here] + a[_ROUNDS * LANES + here])
        out[there] = np.uint32(out[there] + e[_ROUNDS * LANES + here])


@njit(nogil=True, cache=True)
def _blocks(length: np.uint64) -> np.uint64:
    """Return the number of blocks of a message with its padding: 0x80, and 8 bytes for its length."""
    return ((length + _8) >> _6) + _1


@njit(nogil=True, cache=True)
def _load(data: Bytes, start: np.uint64, length: np.uint64, block: np.uint64, w: UInt32s, lane: np.uint64) -> None:
    """Write one block of a padded message into the first rows of a lane: 16 big-endian words, two at a time."""
    before = min(length, block << _6)
    n_bytes = min(length - before, _BLOCK)
    begin = start + before
    end_mark = np.uint64(0x80) if block << _6 <= length else _0
    for pair in range(_WORDS // 2):  # without a branch on the length, which nobody can predict
        at = np.uint64(pair) << _3
        rest = n_bytes - at
        shift = (rest & _7) << _3
        partly = _eight(data, begin + at) & ~(_ALL >> shift) | end_mark << (_56 - shift)
        word = _eight(data, begin + at) if at + _8 <= n_bytes else partly
        word = word if at <= n_bytes else _0
        i = (at >> _2) * _ROW + lane
        w[i], w[i + _ROW] = word >> _32, word
    if block + _1 == _blocks(length):
        w[_14_ROWS + lane], w[_15_ROWS + lane] = length >> _29, length << _3


@njit(nogil=True, cache=True)
def _eight(data: Bytes, i: np.uint64) -> np.uint64:
    """Return the eight bytes from place i on, the first one highest."""
    high = np.uint64(data[i]) << _56 | np.uint64(data[i + _1]) << _48 | np.uint64(data[i + _2]) << _40
    high |= np.uint64(data[i + _3]) << _32 | np.uint64(data[i + _4]) << _24
    return high | np.uint64(data[i + _5]) << _16 | np.uint64(data[i + _6]) << _8 | np.uint64(data[i + _7])


@njit(nogil=True, cache=True)
def _rotate(x: np.uint32, n: int) -> np.uint32:
    return np.uint32((x >> np.uint32(n)) | (x << np.uint32(32 - n)))


@njit(nogil=True, cache=True)
def _compress(w: UInt32s, a: UInt32s, e: UInt32s, out: UInt32s) -> None:
    """Run the 64 rounds on one block of every lane; the last 4 rows of `a` and `e` are to be added to `out`."""
    for i in range(4 * LANES):
        a[i], e[i] = out[i], out[4 * LANES + i]
    for t in range(_WORDS, _ROUNDS):
        for lane in range(LANES):
            at = np.uint64(t) * _ROW + np.uint64(lane)
            x, y = w[at - _15_ROWS], w[at - _2_ROWS]
            s0 = _rotate(x, 7) ^ _rotate(x, 18) ^ np.uint32(x >> np.uint32(3))
            s1 = _rotate(y, 17) ^ _rotate(y, 19) ^ np.uint32(y >> np.uint32(10))
            w[at] = np.uint32(w[at - _16_ROWS] + s0 + w[at - _7_ROWS] + s1)
    for t in range(_ROUNDS):
        constant = _CONSTANTS[t]
        for lane in range(LANES):
            at = np.uint64(t) * _ROW + np.uint64(lane)
            d, c, b, a_ = a[at], a[at + _ROW], a[at + _2_ROWS], a[at + _3_ROWS]
            h, g, f, e_ = e[at], e[at + _ROW], e[at + _2_ROWS], e[at + _3_ROWS]
            s1 = _rotate(e_, 6) ^ _rotate(e_, 11) ^ _rotate(e_, 25)
            s0 = _rotate(a_, 2) ^ _rotate(a_, 13) ^ _rotate(a_, 22)
            t1 = np.uint32(h + s1 + ((e_ & f) ^ (~e_ & g)) + constant + w[at])
            e[at + _4_ROWS] = np.uint32(d + t1)
            a[at + _4_ROWS] = np.uint32(t1 + s0 + ((a_ & b) ^ (a_ & c) ^ (b & c)))
