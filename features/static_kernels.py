"""The loop of static embeddings: the mean of the vectors of a document's tokens, of length 1."""

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(nogil=True, cache=True)
def mean_rows(
    table: npt.NDArray[np.float32],
    ids: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
) -> None:
    """Write into `out` the mean of the rows `ids[offsets[i]:offsets[i + 1]]` of `table`, normalised.

    Rows are added in the order of the tokens, in float32. Without tokens, or with a mean of zero, it is zeros.
    """
    n_numbers = table.shape[1]
    for document in range(len(offsets) - 1):
        for j in range(n_numbers):
            out[document, j] = np.float32(0)
        for at in range(offsets[document], offsets[document + 1]):
            row = ids[at]
            for j in range(n_numbers):
                out[document, j] += table[row, j]
        share = np.float32(max(np.int64(1), offsets[document + 1] - offsets[document]))
        square = 0.0
        for j in range(n_numbers):
            out[document, j] /= share
            square += np.float64(out[document, j]) * np.float64(out[document, j])
        if square > 0.0:
            norm = np.sqrt(square)
            for j in range(n_numbers):
                out[document, j] = np.float32(out[document, j] / norm)
