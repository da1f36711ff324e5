"""The folded words of a text as 64-bit hashes, and the hashes of runs of them: what repeats are counted by.

Words are those of `folding`. A run of n words never leaves its document; its hash is a polynomial in the words' hashes,
rolled on by one word with two products, and mixed. Hashes stand for what they are made of: among 10^6 different runs
any two are mistaken for one another with a chance of 3e-8. They are a format: `minhash` stores numbers made of them.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from .folding import BREAK, SKIP, FoldTable, fold_table
from .text_buffers import Bytes, Offsets, text_buffers
from .word_kernels import ONE, SEED, absorb, decode, mix64

_BASE = np.uint64(0xD1342543DE82EF95)
"""Odd, so that a word counts wherever it stands in a run."""

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]


class Words(NamedTuple):
    """Hashes of words, or of runs of words, document after document."""

    ends: Int64s
    """(documents + 1,): document i has `hashes[ends[i]:ends[i + 1]]`."""
    hashes: UInt64s

    def runs(self, n: int) -> "Words":
        """Return the runs of n words in each document, of which a document of fewer words has none."""
        ends, hashes = np.zeros_like(self.ends), np.empty(len(self.hashes), np.uint64)
        fill_runs(self.ends, self.hashes, n, ends, hashes)
        return Words(ends, hashes[: ends[-1]])


def folded_words(text: pa.Array) -> Words:
    """Return the words of each text; a null is an empty text."""
    offsets, data = text_buffers(text)
    # A word has a byte and one behind it. Pages that no word reaches are never touched, so the room costs addresses.
    hashes = np.empty((int(offsets[-1] - offsets[0]) + len(text)) // 2 + 1, np.uint64)
    ends = np.zeros(len(text) + 1, np.int64)
    fill_words(offsets, data, fold_table(), ends, hashes)
    return Words(ends, hashes[: ends[-1]])


def distinct(hashes: UInt64s) -> tuple[UInt64s, Int64s]:
    """Return the different hashes, ascending, and how often each is there: ten times as fast as `np.unique`."""
    ordered = np.sort(hashes)
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first], np.diff(np.flatnonzero(first), append=len(ordered))


@njit(nogil=True, cache=True)
def fill_words(offsets: Offsets, data: Bytes, folded: FoldTable, ends: Int64s, hashes: UInt64s) -> None:
    """Write the hash of each word, and where each document's end (`ends[0]` stays 0).

    No branch asks where a word ends, which no processor can predict: the running hash is written at every byte to the
    place of the word it belongs to, and mixed in a second loop.
    """
    at = np.uint64(0)
    for doc in range(len(offsets) - 1):
        i, end, first = np.uint64(offsets[doc]), np.uint64(offsets[doc + 1]), at
        state, inside = SEED, False
        while i < end:
            byte = data[i]
            if byte < 0x80:
                letter = folded[np.uint64(byte)]
                i += ONE
            else:
                code, i = decode(data, i)
                letter = folded[code]
            if letter == SKIP:
                continue
            stops = letter == BREAK
            at += np.uint64(stops & inside)
            state = SEED if stops else absorb(state, letter)
            hashes[at] = state
            inside = not stops
        at += np.uint64(inside)
        ends[doc + 1] = at
        own = hashes[first:at]
        for k in range(len(own)):
            own[k] = mix64(own[k])


@njit(nogil=True, cache=True)
def power_of_base(n: int) -> np.uint64:
    """Return what the oldest word of a run of n is multiplied by when the next one comes."""
    power = ONE
    for _ in range(n):
        power *= _BASE
    return power


@njit(nogil=True, cache=True)
def roll(run: np.uint64, word: np.uint64, oldest: np.uint64, power: np.uint64) -> np.uint64:
    """Return the run (before it is mixed) that ends a word later; `oldest` is the word that leaves it, 0 for none."""
    return run * _BASE + word - oldest * power


@njit(nogil=True, cache=True)
def fill_runs(ends: Int64s, words: UInt64s, n: int, run_ends: Int64s, runs: UInt64s) -> None:
    """Write the hash of each run of n words, and where each document's end (`run_ends[0]` stays 0)."""
    power, none = power_of_base(n), np.uint64(0)
    at = np.uint64(0)
    for doc in range(len(ends) - 1):
        run = none
        begin, end, full = np.uint64(ends[doc]), np.uint64(ends[doc + 1]), np.uint64(ends[doc] + n)
        k = begin
        while k < end:
            run = roll(run, words[k], words[k - np.uint64(n)] if k >= full else none, power)
            k += ONE
            if k >= full:
                runs[at] = mix64(run)
                at += ONE
        run_ends[doc + 1] = at
