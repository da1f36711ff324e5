"""The official buckets of n-grams: int(sha256(words joined by one space)) % buckets, in one pass over the bytes.

The lower-cased tokens are written one after the other, a space before each, so that every n-gram is one piece of these
bytes. Two rolling hashes name it. The memo knows the buckets of most; the others wait until the lanes are full, short
ones apart from long ones. A gram that comes again while it waits is hashed again, which changes nothing.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from .memo_kernels import MISSING, fetch_slots, recall, remember
from .sha256_kernels import LANES, ONE_BLOCK_BYTES, Rounds, UInt64s, empty_rounds, remainders
from .text_buffers import Bytes, Offsets
from .unicode_tables import KIND, UnicodeTables
from .word_kernels import ONE, SEED, absorb, decode, encode, join, mix64, rotate_in

LOW_BYTES = 1 << 16
"""So many bytes of tokens are kept before those that wait must be hashed."""
_BLOCK_GRAMS = 8192
_SLACK = 64  # bytes that `remainders` may read behind a piece
_ZERO, _8, _LANES, _KIND = np.uint64(0), np.uint64(8), np.uint64(LANES), np.uint64(KIND)

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class Tokens(NamedTuple):
    """The tokens of a block of bytes: both hashes before they are mixed, and where they end in the lower-cased text.

    In `ends` the tokens of the block come after as many earlier ones as a gram may reach back.
    """

    states: UInt64s
    checks: UInt64s
    ends: UInt64s


class Grams(NamedTuple):
    """Both hashes of the grams that end at the last token, by order; and of all grams of a block, in the ids' order."""

    last: UInt64s
    last_checks: UInt64s
    keys: UInt64s
    checks: UInt64s


class Waiting(NamedTuple):
    """Grams to be hashed, two queues of `LANES`: short ones, then long ones; and how many of each there are."""

    starts: UInt64s
    lengths: UInt64s
    places: UInt64s
    """Where in the ids the bucket belongs."""
    keys: UInt64s
    checks: UInt64s
    n: UInt64s


class Scratch(NamedTuple):
    """Room that one call of `fill_sha256_ids` writes to."""

    low: Bytes
    tokens: Tokens
    grams: Grams
    waiting: Waiting
    rounds: Rounds
    found: UInt64s


def scratch(longest_bytes: int, ngrams: int) -> Scratch:
    """Return room for documents of at most `longest_bytes`."""
    block = _BLOCK_GRAMS // ngrams

    def rooms(*sizes: int) -> list[UInt64s]:
        return [np.zeros(n, np.uint64) for n in sizes]

    return Scratch(
        np.zeros(LOW_BYTES + 2 * longest_bytes + _SLACK, np.uint8),  # lower-casing and spaces double it at most
        Tokens(*rooms(block + 1, block + 1, block + 1 + ngrams)),
        Grams(*rooms(ngrams, ngrams, block * ngrams, block * ngrams)),
        Waiting(*rooms(*[2 * LANES] * 5, 2)),
        empty_rounds(),
        np.zeros(LANES, np.uint64),
    )


@njit(nogil=True, cache=True)
def fill_sha256_ids(
    offsets: Offsets,
    data: Bytes,
    tables: UnicodeTables,
    modulo: UInt64s,
    memo: UInt64s,
    room: Scratch,
    ids: Ids,
    ends: Offsets,
) -> None:
    """Write the buckets of all grams of orders 1..n, and where each document's end (`ends[0]` stays 0)."""
    low, tokens, grams, waiting, rounds, found = room
    token_ends = tokens.ends
    order, block = np.uint64(len(grams.last)), np.uint64(len(tokens.states) - 1)
    at, write = _ZERO, _ZERO
    for doc in range(len(offsets) - 1):
        i, end = np.uint64(offsets[doc]), np.uint64(offsets[doc + 1])
        n_words, kind, state, check = _ZERO, _ZERO, SEED, SEED
        if write > LOW_BYTES:
            _hash_all(low, waiting, modulo, memo, rounds, found, ids)
            write = _ZERO
        token_ends[order - ONE] = write
        while i < end:
            stop = min(end, i + block)
            i, write, kind, state, check, n = _split(
                data, i, stop, tables, low, write, kind, state, check, order, tokens
            )
            n += np.uint64((i >= end) & (kind != _ZERO))
            n_grams = _name(n, n_words, tokens, grams)
            fetch_slots(memo, grams.keys, n_grams, found)
            _look_up(n, n_words, tokens, grams, low, waiting, modulo, memo, rounds, found, ids, at)
            at += n_grams
            n_words += n
            for j in range(order):
                token_ends[np.uint64(j)] = token_ends[n + np.uint64(j)]
        ends[doc + 1] = at
    _hash_all(low, waiting, modulo, memo, rounds, found, ids)


@njit(nogil=True, cache=True)
def _split(
    data: Bytes,
    i: np.uint64,
    stop: np.uint64,
    tables: UnicodeTables,
    low: Bytes,
    write: np.uint64,
    before: np.uint64,
    state: np.uint64,
    check: np.uint64,
    order: np.uint64,
    tokens: Tokens,
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64, np.uint64, np.uint64]:
    """Split the bytes from i to `stop`; return where it ended, the open token, and the number of those before it."""
    classes, lower, ascii = tables
    states, checks, ends = tokens
    n = _ZERO
    states[n], checks[n], ends[order + n] = state, check, write
    while i < stop:
        byte = data[i]
        if byte < 0x80:
            entry = np.uint64(ascii[byte])
            kind, code = entry & _KIND, entry >> _8
            i += ONE
        else:
            point, i = decode(data, i)
            kind, code = np.uint64(classes[point]) & _KIND, np.uint64(lower[point])
        new, solid = kind != before, kind != _ZERO
        low[write] = 0x20
        write += np.uint64(new & solid)
        if code < 0x80:
            low[write] = code
            write += np.uint64(solid)
        elif solid:
            write = encode(low, write, code)
        n += np.uint64(new & (before != _ZERO))
        state = absorb(SEED if new else state, code)
        check = rotate_in(SEED if new else check, code)
        states[n], checks[n], ends[order + n] = state, check, write
        before = kind
    return i, write, before, state, check, n


@njit(nogil=True, cache=True)
def _name(n: np.uint64, n_words: np.uint64, tokens: Tokens, grams: Grams) -> np.uint64:
    """Write both hashes of all grams that end at `n` tokens, which `n_words` precede; return how many there are."""
    states, token_checks, _ = tokens
    last, last_checks, keys, checks = grams
    order = np.uint64(len(last))
    at = _ZERO
    for k in range(n):
        token, check = mix64(states[np.uint64(k)]), mix64(token_checks[np.uint64(k)])
        n_grams = min(n_words + ONE, order)
        m = n_grams
        while m > ONE:
            m -= ONE
            last[m], last_checks[m] = join(last[m - ONE], token), join(last_checks[m - ONE], check)
            keys[at + m], checks[at + m] = last[m], last_checks[m]
        last[_ZERO], last_checks[_ZERO] = token, check
        keys[at], checks[at] = token, check
        at += n_grams
        n_words += ONE
    return at


@njit(nogil=True, cache=True)
def _look_up(
    n: np.uint64,
    n_words: np.uint64,
    tokens: Tokens,
    grams: Grams,
    low: Bytes,
    waiting: Waiting,
    modulo: UInt64s,
    memo: UInt64s,
    rounds: Rounds,
    found: UInt64s,
    ids: Ids,
    at: np.uint64,
) -> None:
    """Write the buckets that the memo knows, from place `at` on; put the other grams into their queue."""
    _, _, ends = tokens
    last, _, keys, checks = grams
    starts, lengths, places, waiting_keys, waiting_checks, n_waiting = waiting
    order, j = np.uint64(len(last)), _ZERO
    for k in range(n):
        end = order + np.uint64(k)
        for m in range(min(n_words + np.uint64(k) + ONE, order)):
            bucket = recall(memo, keys[j], checks[j])
            if bucket != MISSING:
                ids[at] = bucket
            else:
                start = ends[end - np.uint64(m) - ONE] + ONE
                length = ends[end] - start
                queue = np.uint64(length > ONE_BLOCK_BYTES)
                lane = queue * _LANES + n_waiting[queue]
                starts[lane], lengths[lane], places[lane] = start, length, at
                waiting_keys[lane], waiting_checks[lane] = keys[j], checks[j]
                n_waiting[queue] += ONE
                if n_waiting[queue] == _LANES:
                    _hash(queue, low, waiting, modulo, memo, rounds, found, ids)
            at += ONE
            j += ONE


@njit(nogil=True, cache=True)
def _hash_all(
    low: Bytes, waiting: Waiting, modulo: UInt64s, memo: UInt64s, rounds: Rounds, found: UInt64s, ids: Ids
) -> None:
    _hash(_ZERO, low, waiting, modulo, memo, rounds, found, ids)
    _hash(ONE, low, waiting, modulo, memo, rounds, found, ids)


@njit(nogil=True, cache=True)
def _hash(
    queue: np.uint64,
    low: Bytes,
    waiting: Waiting,
    modulo: UInt64s,
    memo: UInt64s,
    rounds: Rounds,
    found: UInt64s,
    ids: Ids,
) -> None:
    """Hash what waits in a queue, and empty it."""
    starts, lengths, places, keys, checks, n_waiting = waiting
    first, n = queue * _LANES, n_waiting[queue]
    if n == _ZERO:
        return
    remainders(low, starts[first:], lengths[first:], n, modulo, rounds, found)
    for i in range(n):
        lane = first + np.uint64(i)
        ids[places[lane]] = found[i]
        remember(memo, keys[lane], checks[lane], found[i])
    n_waiting[queue] = _ZERO
