"""What a block of deflate symbols costs in bits: the Huffman codes that zlib would build, without writing them.

RFC 1951 lets the encoder break ties as it likes, and ties decide how the table of code lengths packs. So this follows
zlib's `trees.c` to the order of its heap: by frequency, then by depth, then as the heap happens to lie. Frequency,
depth and symbol share one 64-bit word, and the smaller child is chosen without a branch: a block of 70 symbols costs
4 µs, a plain heap of places 25.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Int32s = npt.NDArray[np.int32]
UInt64s = npt.NDArray[np.uint64]

N_LITERALS, N_DISTANCES, _N_LENGTHS = 286, 30, 19
END_OF_BLOCK = 256
LENGTH_EXTRA_BITS = np.array([0] * 8 + [n for n in range(1, 6) for _ in range(4)] + [0], np.int64)
"""Extra bits of the 29 codes for match lengths 3 to 258 (RFC 1951, 3.2.5)."""
DISTANCE_EXTRA_BITS = np.array([0, 0] + [n for n in range(14) for _ in range(2)], np.int64)
"""Extra bits of the 30 codes for distances."""

_LITERAL_EXTRA = np.concatenate([np.zeros(END_OF_BLOCK + 1, np.int64), LENGTH_EXTRA_BITS])
_TABLE_EXTRA = np.array([0] * 16 + [2, 3, 7], np.int64)
_FIXED_LITERAL = np.array([8] * 144 + [9] * 112 + [7] * 24 + [8] * 6, np.int64) + _LITERAL_EXTRA
_FIXED_DISTANCE = 5 + DISTANCE_EXTRA_BITS
_TABLE_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15])
_LONGEST_CODE, _LONGEST_TABLE_CODE = np.int64(15), np.int64(7)  # no literals: Numba would compile for each of them

_N_NODES = 2 * N_LITERALS + 1
_ZERO, _ONE, _TWO, _16, _32 = (np.uint64(n) for n in (0, 1, 2, 16, 32))
_3, _6, _11, _138 = (np.uint64(n) for n in (3, 6, 11, 138))
_NODE = np.uint64(0xFFFF)
_LARGEST = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_END = np.uint64(_N_NODES)


class Scratch(NamedTuple):
    """Room for one thread's codes."""

    lengths: Int32s
    heap: UInt64s
    """frequency << 32 | depth << 16 | node, from place 1; a larger one stands behind the last."""
    order: UInt64s
    """Nodes as the merges took them, from the back."""
    parents: UInt64s
    table: Int32s
    """How often each code length comes in the block's table of code lengths."""
    n_codes: Int32s
    """How many codes there are of each length."""


def scratch() -> Scratch:
    """Return room for one thread's codes."""
    nodes = _N_NODES + 3
    lengths, heap, order, parents = np.zeros(nodes, np.int32), *(np.zeros(nodes, np.uint64) for _ in range(3))
    return Scratch(
        lengths, heap, order, parents, np.zeros(_N_LENGTHS, np.int32), np.zeros(int(_LONGEST_CODE) + 2, np.int32)
    )


@njit(nogil=True, cache=True)
def block_end(literals: Int32s, distances: Int32s, n_bytes: np.int64, bits: int, last: bool, room: Any) -> int:
    """Return the place in bits after a block that begins at `bits`.

    `literals` and `distances` count the symbols (the end of the block with them) that stand for `n_bytes` of input. As
    in zlib the cheapest of stored, fixed and dynamic codes is taken; the last block fills its last byte.
    """
    table = room.table
    table[:] = 0
    dynamic, fixed = 0, 0
    _describe(room.lengths, _build(literals, _LONGEST_CODE, room), table)
    for symbol in range(N_LITERALS):
        dynamic += literals[symbol] * (room.lengths[symbol] + _LITERAL_EXTRA[symbol])
        fixed += literals[symbol] * _FIXED_LITERAL[symbol]
    _describe(room.lengths, _build(distances, _LONGEST_CODE, room), table)
    for symbol in range(N_DISTANCES):
        dynamic += distances[symbol] * (room.lengths[symbol] + DISTANCE_EXTRA_BITS[symbol])
        fixed += distances[symbol] * _FIXED_DISTANCE[symbol]
    dynamic += _table_bits(table, room)
    dynamic_bytes, fixed_bytes = (dynamic + 10) >> 3, (fixed + 10) >> 3
    if n_bytes + 4 <= min(dynamic_bytes, fixed_bytes):
        bits = ((bits + 10) >> 3 << 3) + int(4 + n_bytes) * 8
    else:
        bits += 3 + (fixed if fixed_bytes <= dynamic_bytes else dynamic)
    return (bits + 7) >> 3 << 3 if last else bits


@njit(nogil=True, cache=True)
def _table_bits(table: Int32s, room: Any) -> int:
    """Return the bits of the table of code lengths, itself in Huffman codes, and of what stands before it."""
    _build(table, _LONGEST_TABLE_CODE, room)
    bits = 0
    for symbol in range(_N_LENGTHS):
        bits += table[symbol] * (room.lengths[symbol] + _TABLE_EXTRA[symbol])
    n = _N_LENGTHS
    while n > 4 and room.lengths[_TABLE_ORDER[n - 1]] == 0:
        n -= 1
    return bits + 3 * n + 14


@njit(nogil=True, cache=True)
def _build(counts: Int32s, longest: np.int64, room: Any) -> np.uint64:
    """Write the length of each symbol's code (0: none); return the last symbol that has one."""
    heap, lengths = room.heap, room.lengths
    n, last = _fill(counts, heap, lengths)
    parent = n >> _ONE
    while parent > _ZERO:
        _sift_down(heap, n, parent)
        parent -= _ONE
    at = _merge(heap, n, np.uint64(len(counts)), room)
    depth, root = (heap[_ONE] >> _16) & _NODE, heap[_ONE] & _NODE
    lengths[root] = 0
    if depth <= np.uint64(longest):
        while at < _END:
            node = room.order[at]
            lengths[node] = lengths[room.parents[node]] + 1
            at += _ONE
    else:
        _limit(at, last, longest, room)
    return last


@njit(nogil=True, cache=True)
def _fill(counts: Int32s, heap: UInt64s, lengths: Int32s) -> tuple[np.uint64, np.uint64]:
    """Put the symbols that come into the heap, unordered; two at least, as zlib does."""
    n = last = _ZERO
    for i in range(len(counts)):
        symbol = np.uint64(i)
        count = np.uint64(counts[symbol])
        lengths[symbol] = 0
        heap[n + _ONE] = count << _32 | symbol
        if count != _ZERO:
            n += _ONE
            last = symbol
    if n < _TWO:
        top = int(last) if n != _ZERO else -1
        while n < _TWO:
            forced = 0
            if top < 2:
                top += 1
                forced = top
            n += _ONE
            heap[n] = _ONE << _32 | np.uint64(forced)
        last = np.uint64(top)
    heap[n + _ONE] = _LARGEST
    return n, last


@njit(nogil=True, cache=True, inline="always")
def _sift_down(heap: UInt64s, n: np.uint64, place: np.uint64) -> None:
    """Restore the order of the heap below a place. Nodes of the same frequency and depth are equal, and n <= m wins."""
    moved = heap[place]
    bound = moved | _NODE
    child = place << _ONE
    while child <= n:
        left, right = heap[child], heap[child | _ONE]
        is_right = (right >> _16) <= (left >> _16)
        smaller = right if is_right else left
        if bound <= smaller | _NODE:
            break
        heap[place] = smaller
        place = child | np.uint64(is_right)
        child = place << _ONE
    heap[place] = moved


@njit(nogil=True, cache=True)
def _merge(heap: UInt64s, n: np.uint64, node: np.uint64, room: Any) -> np.uint64:
    """Join the two smallest nodes until one is left; return where `order` begins."""
    order, parents = room.order, room.parents
    at = _END
    while n >= _TWO:
        first = heap[_ONE]
        heap[_ONE] = heap[n]
        heap[n] = _LARGEST
        n -= _ONE
        _sift_down(heap, n, _ONE)
        second = heap[_ONE]
        at -= _TWO
        order[at + _ONE], order[at] = first & _NODE, second & _NODE
        parents[first & _NODE] = node
        parents[second & _NODE] = node
        depth = max((first >> _16) & _NODE, (second >> _16) & _NODE) + _ONE
        heap[_ONE] = ((first >> _32) + (second >> _32)) << _32 | depth << _16 | node
        node += _ONE
        _sift_down(heap, n, _ONE)
    return at


@njit(nogil=True, cache=True)
def _limit(at: np.uint64, last: np.uint64, longest: np.int64, room: Any) -> None:
    """Write code lengths of at most `longest` bits where the tree is deeper, moving leaves as zlib does."""
    order, parents, lengths, n_codes = room.order, room.parents, room.lengths, room.n_codes
    n_codes[:] = 0
    overflow = 0
    while at < _END:
        node = order[at]
        bits = lengths[parents[node]] + 1
        overflow += bits > longest
        bits = min(bits, longest)
        lengths[node] = bits
        n_codes[bits] += node <= last
        at += _ONE
    while overflow > 0:
        bits = longest - 1
        while n_codes[bits] == 0:
            bits -= 1
        n_codes[bits] -= 1
        n_codes[bits + 1] += 2
        n_codes[longest] -= 1
        overflow -= 2
    at = _END
    for bits in range(longest, 0, -1):
        left = n_codes[bits]
        while left > 0:
            at -= _ONE
            if order[at] <= last:
                lengths[order[at]] = bits
                left -= 1


@njit(nogil=True, cache=True)
def _describe(lengths: Int32s, last: np.uint64, table: Int32s) -> None:
    """Count the symbols of the run-length code (RFC 1951, 3.2.7) of the code lengths up to `last`."""
    i = _ZERO
    while i <= last:
        length = lengths[i]
        after = i + _ONE
        while after <= last and lengths[after] == length:
            after += _ONE
        run, i = after - i, after
        if length == 0:
            while run >= _11:
                table[18] += 1
                run -= min(run, _138)
            table[17] += run >= _3
            table[0] += run if run < _3 else _ZERO
        else:
            table[length] += 1
            run -= _ONE
            while run >= _3:
                table[16] += 1
                run -= min(run, _6)
            table[length] += run
