"""Windows of so many words: where each begins and ends in the bytes of a document."""

import numpy as np
import numpy.typing as npt
from numba import njit

from .text_buffers import Bytes, Offsets
from .unicode_tables import KIND, unicode_tables
from .word_kernels import count_words, decode

Int64s = npt.NDArray[np.int64]


def windows(offsets: Offsets, data: Bytes, words: int) -> tuple[Int64s, Int64s, Int64s]:
    """Return the first and last byte of each window, and which windows are whose: document i has first[i]:first[i + 1].

    A document has at least one window. The last one takes what is left; one shorter than half a window joins the one
    before it.
    """
    classes = unicode_tables().classes
    n_words = np.empty(len(offsets) - 1, np.int64)
    count_words(offsets, data, classes, n_words)
    first = np.concatenate([[0], np.cumsum(np.maximum(1, (n_words + words // 2) // words))]).astype(np.int64)
    starts = np.empty(first[-1], np.int64)
    _begin_windows(offsets, data, classes, words, first, starts)
    ends = np.append(starts[1:], offsets[-1])
    ends[first[1:] - 1] = offsets[1:]
    return starts, ends, first


@njit(nogil=True, cache=True)
def _begin_windows(
    offsets: Offsets, data: Bytes, classes: npt.NDArray[np.uint8], words: int, first: Int64s, starts: Int64s
) -> None:
    """Write where each window begins: the first of a document with it, the others with a word."""
    for doc in range(len(offsets) - 1):
        starts[first[doc]] = offsets[doc]
        i, end = np.uint64(offsets[doc]), np.uint64(offsets[doc + 1])
        window, last, n_words, before = first[doc], first[doc + 1], 0, 0
        while i < end and window < last:
            place = i
            code, i = decode(data, i)
            kind = classes[code] & KIND
            if kind != before and kind != 0:
                if n_words % words == 0:
                    if n_words:
                        starts[window] = place
                    window += 1
                n_words += 1
            before = kind
