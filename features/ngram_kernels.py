"""Hashed n-grams of lower-cased tokens, in one pass over the bytes and with nothing but the buckets kept.

Each code point is lowered by a table and absorbed into a rolling 64-bit hash; the end of a token mixes it, and a gram
of order m is made from the gram of order m - 1 that ended one token earlier. So n orders cost n mixes a token, however
long the tokens are, and "a b" and "ab" share nothing. These numbers are a format: a change raises `NGrams.version`.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .text_buffers import Bytes, Offsets
from .unicode_tables import KIND
from .word_kernels import ONE, SEED, absorb, decode, join, mix64

_DROP, _SCALE = np.uint64(24), np.uint64(40)

MAX_BUCKETS = 1 << 24
"""A bucket is 40 bits of the hash times the buckets: both fit in 64 bits, and no bucket gains more than 2^-16."""


@njit(nogil=True, cache=True)
def fill_ids(
    offsets: Offsets,
    data: Bytes,
    classes: npt.NDArray[np.uint8],
    lower: npt.NDArray[np.int32],
    buckets: int,
    grams: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.uint16] | npt.NDArray[np.uint32],
    ends: Offsets,
) -> None:
    """Write the buckets of all grams of orders 1..len(grams), and where each document's end (`ends[0]` stays 0).

    `ids` has room for len(grams) a byte; `grams` is scratch.
    """
    scale = np.uint64(buckets)
    at = np.uint64(0)
    for doc in range(len(offsets) - 1):
        i, end = np.uint64(offsets[doc]), np.uint64(offsets[doc + 1])
        n_words, before, state = np.uint64(0), 0, SEED
        while i < end:
            code, i = decode(data, i)
            kind = classes[code] & KIND  # lowering never changes the kind
            if kind != before:
                if before != 0:
                    at = _end_of_token(mix64(state), n_words, scale, grams, ids, at)
                    n_words += ONE
                before, state = kind, SEED
            state = absorb(state, lower[code])
        if before != 0:
            at = _end_of_token(mix64(state), n_words, scale, grams, ids, at)
        ends[doc + 1] = at


@njit(nogil=True, cache=True)
def _end_of_token(
    token: np.uint64,
    n_words: np.uint64,
    scale: np.uint64,
    grams: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.uint16] | npt.NDArray[np.uint32],
    at: np.uint64,
) -> np.uint64:
    """Write the grams that end at this token, which `n_words` precede; keep them for the next one; return the end."""
    n_grams = min(n_words + ONE, np.uint64(len(grams)))
    m = n_grams
    while m > ONE:
        m -= ONE
        gram = join(grams[m - ONE], token)
        grams[m] = gram
        ids[at + m] = ((gram >> _DROP) * scale) >> _SCALE
    grams[0] = token
    ids[at] = ((token >> _DROP) * scale) >> _SCALE
    return at + n_grams
