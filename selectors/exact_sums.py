"""Means of distances by group that do not depend on the order of the documents: sums in whole numbers of 2^-50.

Floats added up shard by shard would give other last digits for other shards. A number is cut into two halves of 26
bits, because `bincount` adds up in float64, which is exact up to 2^53: 2^27 documents at a time, 2^37 in all.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

HALF_BITS = 26
SCALE_BITS = 2 * HALF_BITS - 2


class ExactSums:
    """Sums of numbers from 0 to 4 by group."""

    def __init__(self, n_groups: int) -> None:
        self._halves = np.zeros((2, n_groups), np.int64)

    def add(self, group: npt.NDArray[np.integer[Any]], value: npt.NDArray[np.float64]) -> None:
        """Add each number to the sum of its group; what is below 2^-51 is lost."""
        fixed = np.round(np.ldexp(value, SCALE_BITS)).astype(np.int64)
        for half, bits in zip(self._halves, (fixed >> HALF_BITS, fixed & ((1 << HALF_BITS) - 1)), strict=True):
            half += np.bincount(group, bits, len(half)).astype(np.int64)

    def total(self) -> float:
        """Return the sum over all groups."""
        high, low = (int(half.sum()) for half in self._halves)
        return ((high << HALF_BITS) + low) / float(1 << SCALE_BITS)

    def mean(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the mean of each group, given how many numbers it has; 0 for one without."""
        sums = ((int(high) << HALF_BITS) + int(low) for high, low in self._halves.T)
        return np.array([s / float(1 << SCALE_BITS) / max(1, int(n)) for s, n in zip(sums, counts, strict=True)])
