"""MinHash signatures: for each of k permutations of 32-bit numbers the smallest one among a document's runs of words.

A permutation is x -> a x + b modulo 2^32, a odd: one multiplication, so 16 of them are one vector instruction, and the
100 of a run are cheaper than finding its words. Where the numbers are as good as random, which hashes of runs are, the
smallest one of two documents is the same with a probability of exactly their Jaccard similarity.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .folded_words import Int64s, UInt64s, power_of_base, roll
from .word_kernels import ONE, mix64

NO_WORDS = np.uint32(0xFFFFFFFF)
"""Every number of the signature of a text without words."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_32 = np.uint64(32)

UInt32s = npt.NDArray[np.uint32]


@njit(nogil=True, cache=True)
def fill_permutations(multipliers: UInt32s, offsets: UInt32s) -> None:
    """Write the numbers of each permutation, always the same: splitmix64's sequence."""
    state = np.uint64(0)
    for j in range(len(multipliers)):
        state += _GOLDEN
        bits = mix64(state)
        multipliers[j], offsets[j] = np.uint32(bits) | np.uint32(1), np.uint32(bits >> _32)


@njit(nogil=True, cache=True)
def fill_signatures(
    ends: Int64s, words: UInt64s, n: int, multipliers: UInt32s, offsets: UInt32s, runs: UInt32s, signatures: UInt32s
) -> None:
    """Write the signature of each document, which holds NO_WORDS; one of fewer than n words is one run.

    `runs` is scratch, a place for each word of the longest document.
    """
    power, none = power_of_base(n), np.uint64(0)
    for doc in range(len(ends) - 1):
        begin, end, full = np.uint64(ends[doc]), np.uint64(ends[doc + 1]), np.uint64(ends[doc] + n)
        full = min(full, end)
        run, k, n_runs = none, begin, none
        while k < end:
            run = roll(run, words[k], words[k - np.uint64(n)] if k >= full else none, power)
            k += ONE
            runs[n_runs] = np.uint32(mix64(run))
            n_runs += np.uint64(k >= full)
        _lower(runs[:n_runs], multipliers, offsets, signatures[doc])


@njit(nogil=True, cache=True)
def _lower(runs: UInt32s, multipliers: UInt32s, offsets: UInt32s, signature: UInt32s) -> None:
    for i in range(len(runs)):
        x = runs[i]
        for j in range(len(signature)):
            signature[j] = min(signature[j], np.uint32(multipliers[j] * x + offsets[j]))
