"""A keyed order of the numbers below n that takes no memory: each place is computed by itself.

A Feistel network over the next even number of bits, walked until the result is below n (at most four steps in the
mean). Six rounds of `mix64`; it is a bijection for any key and n. Source: Black and Rogaway 2002, "Ciphers with
arbitrary finite domains" (cycle walking), https://doi.org/10.1007/3-540-45760-7_9.
"""

from typing import Any

import numpy as np
from numba import njit

from .keyed import mix64

_ROUNDS = np.uint64(6)
_ONE = np.uint64(1)


def permuted(place: int, n: int, key: int) -> int:
    """Return the number below `n` that comes at a place of the order."""
    return int(_permuted(np.uint64(place), np.uint64(n), np.uint64(key)))


@njit("uint64(uint64, uint64, uint64)", nogil=True, cache=True)
def _permuted(place: Any, n: Any, key: Any) -> Any:
    half = _ONE
    while (_ONE << (half + half)) < n:
        half += _ONE
    mask = (_ONE << half) - _ONE
    found = place
    while True:
        left, right = found >> half, found & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (mix64(right ^ mix64(key + np.uint64(turn))) & mask)
        found = (left << half) | right
        if found < n:
            return found
