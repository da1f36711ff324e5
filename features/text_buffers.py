"""A text column as the kernels read it: Arrow's own offsets and UTF-8 bytes, without a copy.

A kernel that walks these two arrays needs no Python object a document and can let go of the GIL.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
_SLICE_DOCUMENTS = 1024
_SLICE_BYTES = 1 << 20


def text_buffers(column: pa.Array) -> tuple[Offsets, Bytes]:
    """Return offsets (documents + 1) and bytes: document i is `data[offsets[i]:offsets[i + 1]]`.

    A sliced column gives offsets that do not start at 0. A null reads as an empty text.
    """
    if not pa.types.is_large_string(column.type):
        column = column.cast(pa.large_string())
    if column.null_count:
        column = column.fill_null("")
    _, positions, values = column.buffers()
    if len(column) == 0 or positions is None:
        return np.zeros(len(column) + 1, np.int64), np.empty(0, np.uint8)
    offsets = np.frombuffer(positions, np.int64, len(column) + 1, column.offset * 8)
    data = np.frombuffer(values, np.uint8) if values is not None else np.empty(0, np.uint8)
    return offsets, data


def slices(offsets: Offsets) -> Iterator[tuple[int, int]]:
    """Yield ranges of documents that hold about 1 MB: a tokenizer's encodings take some fifty times as much."""
    start, n_documents = 0, len(offsets) - 1
    while start < n_documents:
        full = int(np.searchsorted(offsets, offsets[start] + _SLICE_BYTES))
        stop = min(max(full, start + 1), start + _SLICE_DOCUMENTS, n_documents)
        yield start, stop
        start = stop
