"""Means by group that do not depend on the order of the documents: of distances (in units of 2^-50), of any numbers.

Floats added up shard by shard would give other last digits for other shards. A number is cut into two halves of 26
bits, because `bincount` adds up in float64, which is exact up to 2^53: 2^27 documents at a time, 2^37 in all.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

HALF_BITS = 26
SCALE_BITS = 2 * HALF_BITS - 2
_MANTISSA_BITS = 53
_POWERS = 4096
"""More than the powers of two that a float64 can have, -1073 to 1024."""


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


class ExactMeans:
    """Means by group of any finite numbers, each correctly rounded.

    A float64 is a whole number of 53 bits times a power of two: numbers of one group and one power are added up as
    whole numbers, and only the few sums of a group are brought together, as fractions.
    """

    def __init__(self, n_groups: int) -> None:
        self.counts = np.zeros(n_groups, np.int64)
        self._sums: dict[tuple[int, int], int] = {}

    def add(self, group: npt.NDArray[np.integer[Any]], value: npt.NDArray[np.float64]) -> None:
        """Add each number to its group; of up to 2^26 documents at a time."""
        self.counts += np.bincount(group, minlength=len(self.counts))
        mantissa, power = np.frexp(value)
        whole = np.ldexp(mantissa, _MANTISSA_BITS).astype(np.int64)
        names, place = np.unique(group.astype(np.int64) * _POWERS + power + _POWERS // 2, return_inverse=True)
        high = np.bincount(place, whole >> HALF_BITS, len(names)).astype(np.int64)
        low = np.bincount(place, whole & ((1 << HALF_BITS) - 1), len(names)).astype(np.int64)
        for name, h, m in zip(names.tolist(), high.tolist(), low.tolist(), strict=True):
            key = divmod(name, _POWERS)
            self._sums[key] = self._sums.get(key, 0) + (h << HALF_BITS) + m

    def means(self) -> npt.NDArray[np.float64]:
        """Return the mean of each group; NaN for one without numbers."""
        totals = [Fraction(0)] * len(self.counts)
        for (group, power), total in self._sums.items():
            totals[group] += total * Fraction(2) ** (power - _POWERS // 2 - _MANTISSA_BITS)
        counts = self.counts.tolist()
        return np.array([float(t / n) if n else math.nan for t, n in zip(totals, counts, strict=True)], np.float64)
