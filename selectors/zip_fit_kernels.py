"""The loop of ZIP-FIT: the alignment of many sources with a few targets, by gzip sizes that are never written out."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ..features.deflate_kernels import GZIP_FRAME_BYTES, size_with, take_source
from ..features.match_kernels import Int64s
from ..features.text_buffers import Bytes

Float64s = npt.NDArray[np.float64]


@njit(nogil=True, cache=True)
def add_alignments(
    parser: Any,
    data: Bytes,
    starts: Int64s,
    ends: Int64s,
    matches: Any,
    targets: Int64s,
    sizes: Int64s,
    effort: Any,
    totals: Float64s,
) -> None:
    """Add to `totals`, for each source `data[start:end]`, its similarity 1 - NCD with each of the named targets.

    `sizes` are the gzip sizes of all texts of `matches`. A sum over targets has their order, so it does not depend on
    anything but source and targets.
    """
    for source in range(len(starts)):
        n = ends[source] - starts[source]
        take_source(parser, data, starts[source], ends[source], effort)
        alone = size_with(parser, n, matches, -1, effort) + GZIP_FRAME_BYTES
        total = totals[source]
        for target in targets:
            other = sizes[target]
            both = other if n == 0 else size_with(parser, n, matches, target, effort) + GZIP_FRAME_BYTES
            total += 1.0 - (both - min(alone, other)) / max(alone, other)
        totals[source] = total


@njit(nogil=True, cache=True)
def means(totals: Float64s, first: Int64s, best: bool, out: Float64s) -> None:
    """Write the mean, or the best, of each document's windows: those from `first[i]` to `first[i + 1]`."""
    for doc in range(len(first) - 1):
        top, total = -np.inf, 0.0
        for window in range(first[doc], first[doc + 1]):
            total += totals[window]
            top = max(top, totals[window])
        out[doc] = top if best else total / max(1, first[doc + 1] - first[doc])
