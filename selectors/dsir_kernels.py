"""The loops of DSIR: count buckets, and add up log ratios of a document's n-grams in text order.

The order of a sum is fixed (n-grams of a document, one after the other, in float64; no fastmath), so a score does not depend
on batches, threads or shards.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Ids = npt.NDArray[Any]
Ends = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]


@njit(nogil=True, cache=True)
def count_buckets(ids: Ids, counts: npt.NDArray[np.int64]) -> None:
    """Add the number of n-grams in each bucket to `counts`."""
    for i in range(len(ids)):
        counts[ids[i]] += 1


@njit(nogil=True, cache=True)
def sum_ratios(ends: Ends, ids: Ids, ratio: Float64s, out: Float64s) -> None:
    """Write the sum of `ratio` over the n-grams of each document; document i has ids[ends[i]:ends[i + 1]]."""
    for doc in range(len(ends) - 1):
        total = 0.0
        for i in range(ends[doc], ends[doc + 1]):
            total += ratio[ids[i]]
        out[doc] = total


@njit(nogil=True, cache=True)
def window_means(ends: Ends, ids: Ids, ratio: Float64s, per_window: int, best: bool, out: Float64s) -> None:
    """Write the mean of `ratio` over runs of `per_window` n-grams: the mean of the runs' means, or the best one.

    The last run takes what is left; one shorter than half a run joins the run before it.
    """
    for doc in range(len(ends) - 1):
        start, end = ends[doc], ends[doc + 1]
        windows = max(1, (end - start + per_window // 2) // per_window)
        total, top = 0.0, -np.inf
        for window in range(windows):
            low = start + window * per_window
            high = end if window == windows - 1 else low + per_window
            inside = 0.0
            for i in range(low, high):
                inside += ratio[ids[i]]
            mean = inside / (high - low) if high > low else 0.0
            total += mean
            top = max(top, mean)
        out[doc] = top if best else total / windows
