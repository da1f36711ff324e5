"""Runs of words found by a rolling hash, and every hit compared word by word: one pass over the UTF-8 bytes.

`prefix[k]`, the hash of a document's first k words, is a polynomial in the words' hashes modulo 2^64, so the hash of
any run is one product and one difference: `prefix[k] - prefix[k - n] * BASE^n`. A document's words are read first and
its runs looked up after, in scratch that stays in the processor's cache: 300 MB/s of mixed text a core. Two bits of one
word of a Bloom filter turn away all but 0.6% of the unknown runs; what is left is looked for in an open table, and
there the words themselves are compared, so a hit is never an accident of hashing.

Places are unsigned for the reason that `word_kernels` gives.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from ..features.folding import BREAK, SKIP, FoldTable
from ..features.text_buffers import Bytes, Offsets
from ..features.word_kernels import ONE, SEED, absorb, decode, mix64

BASE = np.uint64(0xD1342543DE82EF95)
"""Odd, so that a word counts wherever it stands in a run."""
MOST_MEMBERS = 64
"""A run that more evaluation documents have is a template, and says little about which of them a document repeats."""
_6, _12, _63 = np.uint64(6), np.uint64(12), np.uint64(63)

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]


class RunTable(NamedTuple):
    """The texts that runs are known from, an entry for each place of a run, and where to find them."""

    offsets: Offsets
    data: Bytes
    hashes: Hashes
    starts: Hashes
    """Byte where the first word starts."""
    lengths: Numbers
    """In words."""
    docs: Numbers
    first: Numbers
    """For each different run the first of its entries."""
    slots: Numbers
    """Open table of a power of two, at most half full: number of a run + 1, or 0."""
    bloom: Hashes
    """A power of two of words."""


@njit(nogil=True, cache=True)
def read_words(
    data: Bytes, begin: np.uint64, end: np.uint64, folded: FoldTable, prefix: Hashes, starts: Hashes
) -> np.uint64:
    """Write where each word of a text starts and the hash of the words up to it; return their number."""
    n_words, total, i = np.uint64(0), np.uint64(0), begin
    while i < end:
        start = i
        code, i = decode(data, i)
        letter = folded[code]
        if letter <= SKIP:
            continue
        starts[n_words] = start
        state = absorb(SEED, letter)
        while i < end:
            code, i = decode(data, i)
            letter = folded[code]
            if letter > SKIP:
                state = absorb(state, letter)
            elif letter == BREAK:
                break
        n_words += ONE
        total = total * BASE + mix64(state)
        prefix[n_words] = total
    return n_words


@njit(nogil=True, cache=True)
def list_runs(table: RunTable, folded: FoldTable, words: np.int64, min_words: np.int64, n_words: Ints) -> int:
    """Write the entries and each text's number of words; return how many entries there are.

    They are all runs of `words` words, and the whole of a shorter text that has at least `min_words`.
    """
    prefix, places = scratch(table.offsets)
    at = 0
    for doc in range(len(table.offsets) - 1):
        begin, end = np.uint64(table.offsets[doc]), np.uint64(table.offsets[doc + 1])
        n = np.int64(read_words(table.data, begin, end, folded, prefix, places))
        n_words[doc] = n
        if n == 0 or n < min(words, min_words):
            continue
        length = min(n, words)
        power = power_of_base(length)
        for k in range(length, n + 1):
            table.hashes[at] = prefix[k] - prefix[k - length] * power
            table.starts[at] = places[k - length]
            table.lengths[at], table.docs[at] = length, doc
            at += 1
    return at


@njit(nogil=True, cache=True)
def scratch(offsets: Offsets) -> tuple[Hashes, Hashes]:
    """Return room for the words of the longest document: every second byte may be one."""
    longest = np.int64(0)
    for doc in range(len(offsets) - 1):
        longest = max(longest, offsets[doc + 1] - offsets[doc])
    prefix, starts = np.empty(longest // 2 + 2, np.uint64), np.empty(longest // 2 + 2, np.uint64)
    prefix[0] = 0
    return prefix, starts


@njit(nogil=True, cache=True)
def power_of_base(n: np.int64) -> np.uint64:
    """Return BASE to the n-th power."""
    power = ONE
    for _ in range(n):
        power *= BASE
    return power


@njit(nogil=True, cache=True)
def enter_runs(table: RunTable, folded: FoldTable, run_of: Numbers) -> int:
    """Give equal runs one number in `run_of`; fill `first`, the table and the filter; return how many runs differ."""
    n_runs = 0
    for i in range(len(table.hashes)):
        run = table.hashes[i]
        end = np.uint64(table.offsets[table.docs[i] + 1])
        slot, number = look_up(table, folded, run, table.lengths[i], table.data, table.starts[i], end)
        if number < 0:
            number = np.int64(n_runs)
            table.first[number] = i
            table.slots[slot] = number + 1
            place, bits = filter_bits(run, len(table.bloom))
            table.bloom[place] |= bits
            n_runs += 1
        run_of[i] = number
    return n_runs


@njit(nogil=True, cache=True)
def filter_bits(run: np.uint64, size: int) -> tuple[np.uint64, np.uint64]:
    """Return the word of the filter that a run belongs to, and its two bits."""
    bits = (ONE << (run & _63)) | (ONE << ((run >> _6) & _63))
    return (run >> _12) & np.uint64(size - 1), bits


@njit(nogil=True, cache=True)
def look_up(
    table: RunTable, folded: FoldTable, run: np.uint64, length: int, data: Bytes, place: np.uint64, end: np.uint64
) -> tuple[np.int64, np.int64]:
    """Return the slot where the run of `length` words at `place` is, or would be, and its number (-1: unknown)."""
    last = np.uint64(len(table.slots) - 1)
    slot = mix64(run) & last
    while table.slots[slot] > 0:
        number = table.slots[slot] - 1
        known = table.first[number]
        if table.hashes[known] == run and table.lengths[known] == length:
            stop = np.uint64(table.offsets[table.docs[known] + 1])
            if same_words(data, place, end, table.data, table.starts[known], stop, folded, length):
                return np.int64(slot), np.int64(number)
        slot = (slot + ONE) & last
    return np.int64(slot), np.int64(-1)


@njit(nogil=True, cache=True)
def same_words(
    data: Bytes, i: np.uint64, end: np.uint64, other: Bytes, j: np.uint64, other_end: np.uint64,
    folded: FoldTable, n_words: int,
) -> bool:  # fmt: skip
    """Say whether the words from i on and those from j on are the same; both texts have at least `n_words` there."""
    left = n_words
    while True:
        letter, i = _letter(data, i, end, folded)
        expected, j = _letter(other, j, other_end, folded)
        if letter != expected:
            return False
        if letter == BREAK:
            left -= 1
            if left == 0:
                return True
            i, j = _to_word(data, i, end, folded), _to_word(other, j, other_end, folded)


@njit(nogil=True, cache=True)
def _letter(data: Bytes, i: np.uint64, end: np.uint64, folded: FoldTable) -> tuple[np.int64, np.uint64]:
    """Return what follows at i, BREAK at the end of the text too, and the place after it."""
    while i < end:
        code, i = decode(data, i)
        if folded[code] != SKIP:
            return np.int64(folded[code]), i
    return np.int64(BREAK), i


@njit(nogil=True, cache=True)
def _to_word(data: Bytes, i: np.uint64, end: np.uint64, folded: FoldTable) -> np.uint64:
    """Return where the next word starts."""
    while i < end:
        code, after = decode(data, i)
        if folded[code] > SKIP:
            return i
        i = after
    return i


@njit(nogil=True, cache=True)
def find_runs(
    table: RunTable, folded: FoldTable, sizes: Ints, offsets: Offsets, data: Bytes, seen: Numbers,
    hit_doc: Numbers, hit_run: Numbers,
) -> int:  # fmt: skip
    """Write each document's known runs, each once, document after document; return how many there are.

    `sizes` are the lengths of known runs. What does not fit into `hit_doc` and `hit_run` is counted but not written;
    `seen` (one zero a run) is scratch.
    """
    prefix, places = scratch(offsets)
    maybe = np.empty(len(prefix), np.uint64)
    n_hits = 0
    for doc in range(len(offsets) - 1):
        end = np.uint64(offsets[doc + 1])
        n_words = read_words(data, np.uint64(offsets[doc]), end, folded, prefix, places)
        for size in sizes:
            power = power_of_base(size)
            for i in range(pass_filter(prefix, n_words, np.uint64(size), power, table.bloom, maybe)):
                begin = maybe[i]
                run = prefix[begin + np.uint64(size)] - prefix[begin] * power
                _, number = look_up(table, folded, run, size, data, places[begin], end)
                if number >= 0 and seen[number] != doc + 1:
                    seen[number] = doc + 1
                    if n_hits < len(hit_doc):
                        hit_doc[n_hits], hit_run[n_hits] = doc, number
                    n_hits += 1
    return n_hits


@njit(nogil=True, cache=True)
def pass_filter(
    prefix: Hashes, n_words: np.uint64, size: np.uint64, power: np.uint64, bloom: Hashes, maybe: Hashes
) -> np.int64:
    """Write the first word of each run of `size` words that may be known; return how many there are."""
    found, k = np.uint64(0), size
    while k <= n_words:
        place, bits = filter_bits(prefix[k] - prefix[k - size] * power, len(bloom))
        maybe[found] = k - size
        found += np.uint64(bloom[place] & bits == bits)
        k += ONE
    return np.int64(found)


@njit(nogil=True, cache=True)
def best_of(
    hit_doc: Numbers, hit_run: Numbers, member_from: Ints, members: Numbers, counts: Numbers, best: Numbers
) -> None:
    """Write for each document with hits the member with most of its runs, the first of equals.

    Runs of more than MOST_MEMBERS members count only where a document has no others; `counts` (one zero a member) is
    scratch.
    """
    begin = 0
    while begin < len(hit_doc):
        doc, end = hit_doc[begin], begin
        while end < len(hit_doc) and hit_doc[end] == doc:
            end += 1
        best[doc] = _best(hit_run[begin:end], member_from, members, counts)
        if best[doc] < 0:
            best[doc] = members[member_from[hit_run[begin:end]]].min()
        begin = end


@njit(nogil=True, cache=True)
def _best(runs: Numbers, member_from: Ints, members: Numbers, counts: Numbers) -> np.int32:
    for run in runs:
        if member_from[run + 1] - member_from[run] <= MOST_MEMBERS:
            for i in range(member_from[run], member_from[run + 1]):
                counts[members[i]] += 1
    best, most = np.int32(-1), np.int32(0)
    for run in runs:
        if member_from[run + 1] - member_from[run] <= MOST_MEMBERS:
            for i in range(member_from[run], member_from[run + 1]):
                member = members[i]
                count = counts[member]
                counts[member] = 0
                if count > most or (count == most and member < best):
                    best, most = member, count
    return best
