r"""A document cut into the tokens of `\w+|[^\w\s]+`, each with its hash, its length and what its characters are.

One pass over the bytes, with selections in place of branches: where a token ends cannot be foretold, so a branch there
would be mispredicted at every second token. What needs tokens then reads the arrays that this pass leaves.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .text_buffers import Bytes
from .unicode_tables import KIND
from .word_kernels import ONE, SEED, absorb, decode

APART = 32
"""Bit of a token in front of which is no other token, but white space or the document's end."""
_APART, _ZERO = np.uint64(APART), np.uint64(0)


@njit(nogil=True, cache=True)
def cut_tokens(
    data: Bytes,
    i: np.uint64,
    end: np.uint64,
    classes: npt.NDArray[np.uint8],
    tokens: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.uint8],
) -> int:
    """Write each token's hash, in `ends` (from place 1) the code points up to its end, and the bits of its characters.

    Only code points of tokens count. Returns how many tokens there are; the arrays need room for one more, which is
    APART: a bit of `kinds` beside those of the classes.
    """
    n, before, seen, state, chars = _ZERO, _ZERO, _ZERO, SEED, 0
    while i < end:
        code, i = decode(data, i)
        bits = np.uint64(classes[code])
        kind = bits & np.uint64(KIND)
        tokens[n], ends[n + ONE], kinds[n] = state, chars, seen  # written over until the token ends
        same = kind == before
        n += np.uint64((not same) & (before != _ZERO))
        state = absorb(state if same else SEED, code)
        seen = (seen if same else _ZERO if before else _APART) | bits
        chars += kind != _ZERO
        before = kind
    tokens[n], ends[n + ONE], kinds[n] = state, chars, seen
    n += np.uint64(before != _ZERO)
    kinds[n] = APART
    return int(n)
