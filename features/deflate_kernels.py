"""How long zlib's deflate output would be, without making it: what ZIP-FIT asks millions of times.

A pair costs C(source + target). zlib compresses the source anew for every target, or copies 270 KB of its state; here
the source is parsed once, the matches inside each target are found before any source comes, and only matches that reach
from the target into the source are searched. Every choice is zlib's own: chains of places by a 15-bit hash of three
bytes, most recent first and of limited length, lazy matching (`deflate_slow`: levels 4 to 9), blocks of 16,383 symbols.
So the size is that of zlib 1.2 and 1.3, to the byte, for any input, on any machine; the tests compare it over arbitrary
bytes. A pair takes 7 µs where zlib takes 30 (300 bytes and 350).
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from .huffman_kernels import (
    DISTANCE_EXTRA_BITS,
    END_OF_BLOCK,
    LENGTH_EXTRA_BITS,
    N_DISTANCES,
    N_LITERALS,
    Scratch,
    block_end,
    scratch,
)
from .match_kernels import (
    BACK_AT,
    HASH,
    LENGTH,
    LENGTH_AT,
    MAX_DISTANCE,
    N_HASHES,
    PADDING,
    SEEN,
    SEEN_AT,
    Int32s,
    Int64s,
    UInt16s,
    UInt64s,
    hash3,
    search,
    search_steps,
)
from .text_buffers import Bytes

GZIP_FRAME_BYTES = 18
"""Header and trailer of gzip, around what deflate makes."""

_TOO_FAR = np.uint64(4096)
"""A match of three bytes from farther away is not worth its distance."""
_BLOCK_SYMBOLS = np.uint64(16_383)
_UNKNOWN = np.uint64(0xFFFF_FFFF)
_0, _1, _2, _3, _6, _7, _63, _256 = (np.uint64(n) for n in (0, 1, 2, 3, 6, 7, 63, 256))

_LENGTH_SYMBOL = np.zeros(259, np.uint16)
_LENGTH_SYMBOL[3:258] = END_OF_BLOCK + 1 + np.repeat(np.arange(28), 1 << LENGTH_EXTRA_BITS[:28])[:255]
_LENGTH_SYMBOL[258] = END_OF_BLOCK + 29
_NEAR = np.repeat(np.arange(16), 1 << DISTANCE_EXTRA_BITS[:16])
_FAR = np.repeat(np.arange(14, 30), 1 << np.maximum(DISTANCE_EXTRA_BITS[14:] - 7, 0))
_DISTANCE_SYMBOL = np.concatenate([_NEAR, _FAR]).astype(np.uint8)


class Parser(NamedTuple):
    """Room for one thread: a source, one target behind it, and how far the source is parsed."""

    text: Bytes
    back: Int32s
    """The place before, with the same hash, of each place of the source; 0: none."""
    heads: Int32s
    """The last place of each hash."""
    present: UInt64s
    """One bit a hash: whether it has a place. A few kilobytes answer for most places of a target."""
    source_literals: Int32s
    source_distances: Int32s
    literals: Int32s
    distances: Int32s
    progress: Int64s
    """After the source: place, match in hand (length, place), whether a byte waits, symbols, bits, start of block."""
    room: Scratch


def parser(longest_source: int, longest_target: int) -> Parser:
    """Return room for texts of at most so many bytes."""
    literals, distances = (np.zeros(n, np.int32) for n in (N_LITERALS, N_DISTANCES))
    return Parser(
        np.zeros(longest_source + longest_target + PADDING, np.uint8),
        np.zeros(longest_source + 3, np.int32),
        np.zeros(N_HASHES, np.int32),
        np.zeros(N_HASHES // 64, np.uint64),
        literals.copy(),
        distances.copy(),
        literals,
        distances,
        np.zeros(7, np.int64),
        scratch(),
    )


@njit(nogil=True, cache=True)
def take_source(parser: Any, data: Bytes, start: int, end: int, effort: Any) -> None:
    """Copy a source into the parser and parse it, as far as what follows cannot change the parse."""
    n = end - start
    text = parser.text
    for i in range(n):
        text[i] = data[start + i]
    _chain(parser, np.uint64(n))
    _parse_source(parser, np.uint64(n), effort)


@njit(nogil=True, cache=True)
def _chain(parser: Any, n: np.uint64) -> None:
    text, back, heads, present = parser.text, parser.back, parser.heads, parser.present
    heads[:] = 0
    present[:] = 0
    place = _0
    while place + _2 < n:
        key = hash3(text, place)
        back[place] = heads[key]
        heads[key] = place
        present[key >> _6] |= _1 << (key & _63)
        place += _1


@njit(nogil=True, cache=True)
def size_with(parser: Any, n_source: int, matches: Any, target: int, effort: Any) -> int:
    """Return the bytes of deflate for the source that was taken and text number `target` behind it.

    A negative `target` stands for no text: the size of the source alone.
    """
    text, back, heads, present = parser.text, parser.back, parser.heads, parser.present
    start = end = 0
    if target >= 0:
        start, end = matches.offsets[target], matches.offsets[target + 1]
    n = np.uint64(n_source + end - start)
    texts = matches.texts
    for i in range(end - start):
        text[n_source + i] = texts[start + i]
    # The last two places of the source have a hash only now, and lose it again below.
    begun = np.uint64(max(0, n_source - 2))
    place = begun
    while place < np.uint64(n_source) and place + _2 < n:
        key = hash3(text, place)
        back[place] = heads[key]
        heads[key] = place
        present[key >> _6] |= _1 << (key & _63)
        place += _1
    literals, distances = parser.literals, parser.distances
    for i in range(N_LITERALS):
        literals[i] = parser.source_literals[i]
    for i in range(N_DISTANCES):
        distances[i] = parser.source_distances[i]
    known, steps = matches.known[start:end], matches.steps[start:end]
    bits, block = _parse_target(parser, np.uint64(n_source), n, known, steps, effort)
    while place > begun:
        place -= _1
        heads[hash3(text, place)] = back[place]
    return block_end(literals, distances, np.int64(n - block), bits, True, parser.room) >> 3


@njit(nogil=True, cache=True, inline="always")
def _count_match(literals: Int32s, distances: Int32s, length: np.uint64, distance: np.uint64) -> None:
    literals[_LENGTH_SYMBOL[length]] += 1
    less = distance - _1
    distances[_DISTANCE_SYMBOL[less] if less < _256 else _DISTANCE_SYMBOL[_256 + (less >> _7)]] += 1


@njit(nogil=True, cache=True)
def _close_block(literals: Int32s, distances: Int32s, n_bytes: np.uint64, bits: int, room: Any) -> int:
    bits = block_end(literals, distances, np.int64(n_bytes), bits, False, room)
    literals[:] = 0
    distances[:] = 0
    literals[END_OF_BLOCK] = 1
    return bits


@njit(nogil=True, cache=True)
def _parse_source(parser: Any, n: np.uint64, effort: Any) -> None:  # noqa: C901 (see `_parse_target`)
    """Parse until a match could reach the end of the source: from there on it depends on what follows."""
    text, back = parser.text, parser.back
    literals, distances = parser.source_literals, parser.source_distances
    literals[:] = 0
    distances[:] = 0
    literals[END_OF_BLOCK] = 1
    good, lazy, nice, most = effort
    place, length, at, waits, symbols, bits, block = _0, _2, _0, False, _0, 0, _0
    while place + _2 < n:
        held, held_at = length, at
        length, at = _2, _0
        if held < lazy:
            candidate = np.uint64(back[place])
            if candidate != _0:
                if place + held >= n:
                    length, at = held, held_at
                    break
                chain = most >> _2 if held >= good else most
                length, at = search(text, back, place, n, candidate, held, chain, nice)
                if place + length >= n:
                    length, at = held, held_at
                    break
                if at == _0 or (length == _3 and place - at > _TOO_FAR):
                    length = _2
        if held >= _3 and length <= held:
            _count_match(literals, distances, held, place - _1 - held_at)
            place, length, waits = place + held - _1, _2, False
            symbols += _1
        else:
            if waits:
                literals[text[place - _1]] += 1
                symbols += _1
            place, waits = place + _1, True
        if symbols == _BLOCK_SYMBOLS:
            end = place - np.uint64(waits)
            bits = _close_block(literals, distances, end - block, bits, parser.room)
            symbols, block = _0, end
    progress = parser.progress
    progress[0], progress[1], progress[2], progress[3] = place, length, at, waits
    progress[4], progress[5], progress[6] = symbols, bits, block


@njit(nogil=True, cache=True)
def _parse_target(  # noqa: C901 (a helper that is handed the arrays counts references: three times slower)
    parser: Any,
    n_source: np.uint64,
    n: np.uint64,
    known: UInt64s,
    steps: UInt16s,
    effort: Any,
) -> tuple[int, np.uint64]:
    """Parse to the end; return the bits of the blocks before the last one, and where that one begins."""
    text, back, heads, present = parser.text, parser.back, parser.heads, parser.present
    literals, distances, progress = parser.literals, parser.distances, parser.progress
    good, lazy, nice, most = effort
    place, length, at = np.uint64(progress[0]), np.uint64(progress[1]), np.uint64(progress[2])
    waits, symbols, bits, block = progress[3] != 0, np.uint64(progress[4]), progress[5], np.uint64(progress[6])
    while place < n:
        held, held_at = length, at
        length, at = _2, _0
        if held < lazy and place + held < n and place + _2 < n:
            chain = most >> _2 if held >= good else most
            candidate, word = _0, _0
            if place < n_source:
                length, candidate = held, np.uint64(back[place])
            else:
                word = known[place - n_source]
                length, at, chain = _inside(word, place, held, chain)
                key = word & HASH
                if (present[key >> _6] >> (key & _63)) & _1:
                    candidate = np.uint64(heads[key])
            if chain == _UNKNOWN:
                chain = most >> _2 if held >= good else most
                length, at, _ = search_steps(text, place, n_source, n, steps, held, chain, nice)
            elif candidate != _0 and chain != _0 and length < nice and place + length < n:
                if place - candidate == MAX_DISTANCE and word >> SEEN_AT & SEEN:
                    candidate = _0  # only the first place of a chain may lie as far back as that
                outside, source_at = search(text, back, place, n, candidate, length, chain, nice)
                if source_at != _0:
                    length, at = outside, source_at
            if at == _0 or (length == _3 and place - at > _TOO_FAR):
                length = _2
        if held >= _3 and length <= held:
            _count_match(literals, distances, held, place - _1 - held_at)
            place, length, waits = place + held - _1, _2, False
            symbols += _1
        else:
            if waits:
                literals[text[place - _1]] += 1
                symbols += _1
            place, waits = place + _1, True
        if symbols == _BLOCK_SYMBOLS:
            end = place - np.uint64(waits)
            bits = _close_block(literals, distances, end - block, bits, parser.room)
            symbols, block = _0, end
    if waits:
        literals[text[place - _1]] += 1
    return bits, block


@njit(nogil=True, cache=True)
def _inside(
    word: np.uint64, place: np.uint64, held: np.uint64, chain: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Return the longest match above `held` that is known inside the target, its place, and how much chain is left."""
    seen, length = (word >> SEEN_AT) & SEEN, (word >> LENGTH_AT) & LENGTH
    if seen > chain:
        return held, _0, _UNKNOWN  # it was searched further than this time
    if length > held:
        return length, place - (word >> BACK_AT), chain - seen
    return held, _0, chain - seen
