"""A memo of buckets that threads share without a lock: it may forget, and it never gives a wrong bucket.

Open addressing with two places a slot, side by side in a cache line: what is new takes the first place and pushes what
was there into the second. An entry is two words: 40 bits of a second hash above the bucket, and the first hash, all 64
bits, exclusive-or that word. A gram is found where all 104 bits agree: two of 10^9 different grams do with a chance of
10^-13. (Whoever crafts texts for it can make two agree; SHA-256 itself would not let them.)

Threads may race: a word is written whole, so at worst an entry is made of words of two grams. Then its exclusive-or is
the first hash of neither, and the entry is one that is not found.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

UInt64s = npt.NDArray[np.uint64]

MISSING = np.uint64(1 << 24)
"""No bucket: they end below."""
_BUCKET = np.uint64((1 << 24) - 1)
_CHECK = np.uint64((1 << 64) - (1 << 24))
_0, _1, _2, _3 = (np.uint64(n) for n in range(4))


def empty_memo(slots: int) -> UInt64s:
    """Return a memo of so many slots (a power of two) of 32 bytes."""
    return np.zeros(4 * slots, np.uint64)


@njit(nogil=True, cache=True)
def _slot(memo: UInt64s, key: np.uint64) -> np.uint64:
    """Return where the slot of a gram begins."""
    return (key << _2) & np.uint64(len(memo) - 1)


@njit(nogil=True, cache=True)
def recall(memo: UInt64s, key: np.uint64, check: np.uint64) -> np.uint64:
    """Return the bucket of the gram with these two hashes, or `MISSING`."""
    slot, wanted = _slot(memo, key), check & _CHECK
    word: np.uint64 = memo[slot + _1]
    if (memo[slot] ^ word == key) & (word & _CHECK == wanted):
        return word & _BUCKET
    word = memo[slot + _3]
    if (memo[slot + _2] ^ word == key) & (word & _CHECK == wanted):
        return word & _BUCKET
    return MISSING


@njit(nogil=True, cache=True)
def remember(memo: UInt64s, key: np.uint64, check: np.uint64, bucket: np.uint64) -> None:
    """Keep the bucket of a gram; the older one of its slot is forgotten."""
    slot = _slot(memo, key)
    memo[slot + _2], memo[slot + _3] = memo[slot], memo[slot + _1]
    word = (check & _CHECK) | bucket
    memo[slot], memo[slot + _1] = key ^ word, word


@njit(nogil=True, cache=True)
def fetch_slots(memo: UInt64s, keys: UInt64s, n: np.uint64, sink: UInt64s) -> None:
    """Read the slots of the next `n` grams, so that they are in the cache when `recall` comes: 90 instead of 70 MB/s.

    The sum goes to `sink[0]`, or the compiler would see that nobody needs it.
    """
    total = _0
    for i in range(n):
        total ^= memo[_slot(memo, keys[np.uint64(i)])]
    sink[_0] = total
