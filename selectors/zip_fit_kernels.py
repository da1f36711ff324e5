"""The loop of ZIP-FIT: gzip sizes of many sources with a few texts behind each, and what they say of a pair."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ..features.deflate_kernels import GZIP_FRAME_BYTES, size_with, take_source
from ..features.match_kernels import Int64s
from ..features.text_buffers import Bytes

Float64s = npt.NDArray[np.float64]
PRIOR_BYTES = 50
"""Added to the size of a source under the root: small ones need more to stand out."""


@njit(nogil=True, cache=True)
def add_alignments(
    parser: Any,
    data: Bytes,
    starts: Int64s,
    ends: Int64s,
    matches: Any,
    texts: Int64s,
    sides: Int64s,
    sizes: Int64s,
    effort: Any,
    shared: bool,
    totals: Float64s,
) -> None:
    """Add to `totals[i, sides[text]]` the alignment of each source `data[starts[i]:ends[i]]` with each of the texts.

    `sizes` are the gzip sizes of all texts of `matches`. A sum has the order of `texts`, so it does not depend on
    anything but source and texts.
    """
    for source in range(len(starts)):
        n = ends[source] - starts[source]
        take_source(parser, data, starts[source], ends[source], effort)
        alone = size_with(parser, n, matches, -1, effort) + GZIP_FRAME_BYTES
        for text in texts:
            other = sizes[text]
            both = other if n == 0 else size_with(parser, n, matches, text, effort) + GZIP_FRAME_BYTES
            totals[source, sides[text]] += alignment(alone, other, both, shared)


@njit(nogil=True, cache=True)
def fill_sizes(parser: Any, data: Bytes, offsets: Int64s, matches: Any, effort: Any, sizes: Int64s) -> None:
    """Write the gzip size of each text; text i is `data[offsets[i]:offsets[i + 1]]`."""
    for i in range(len(sizes)):
        take_source(parser, data, offsets[i], offsets[i + 1], effort)
        sizes[i] = size_with(parser, offsets[i + 1] - offsets[i], matches, -1, effort) + GZIP_FRAME_BYTES


@njit(nogil=True, cache=True)
def alignment(alone: int, other: int, both: int, shared: bool) -> float:
    """Return 1 - NCD of sizes in bytes; or the bytes that both share, by the root of the source's."""
    if shared:
        return (alone + other - both) / math.sqrt(alone + PRIOR_BYTES)
    return 1.0 - (both - min(alone, other)) / max(alone, other)


@njit(nogil=True, cache=True)
def by_document(scores: Float64s, first: Int64s, best: bool, out: Float64s) -> None:
    """Write the mean, or the best, of each document's windows: those from `first[i]` to `first[i + 1]`."""
    for doc in range(len(first) - 1):
        top, total = -np.inf, 0.0
        for window in range(first[doc], first[doc + 1]):
            total += scores[window]
            top = max(top, scores[window])
        out[doc] = top if best else total / max(1, first[doc + 1] - first[doc])
