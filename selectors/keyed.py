"""Random numbers of documents, and the one place where they come from.

A number is a pure function of the document's key and of what it is for: `x = mix64(doc_key ^ key)`, where `key` is the
hash of seed, step, purpose and round. So it does not depend on shards, workers or the order of files, and two steps or
two purposes never share a number: chained steps that shared one would be biased. 52 bits are used, because with 53 the
largest x rounds to u = 1 and an infinite Gumbel key. Logarithms are Numba's (libm): NumPy's differ in the last bit.
`mix64` is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014; variant 13 of Stafford's mixers).
"""

import math
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-52


def stream_key(seed: int, step: str, purpose: str, round: int = 0) -> int:
    """Return the uint64 key of one stream of random numbers: of one step of a flow, for one purpose."""
    digest = blake2b(f"{seed}/{step}/{purpose}/{round}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def uniform(doc_keys: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.float64]:
    """Return one number a document, uniform in (0, 1)."""
    u: npt.NDArray[np.float64] = _uniform(doc_keys, np.uint64(key))
    return u


def gumbel(doc_keys: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.float64]:
    """Return one standard Gumbel number a document, -log(-log(u)): between -3.6 and 36.8.

    The k largest of log-weight + Gumbel are a sample without replacement with these weights (Gumbel top-k).
    """
    g: npt.NDArray[np.float64] = _gumbel(doc_keys, np.uint64(key))
    return g


# The signature is given because Numba types a Python integer by its first call, and then refuses those above 2^63.
@njit("uint64(uint64)", nogil=True, cache=True)
def mix64(x: Any) -> Any:
    """Return the 64 bits of `x` well mixed: a bijection of uint64 in which every input bit moves every output bit."""
    z = (x ^ (x >> np.uint64(30))) * _MULTIPLY_1
    z = (z ^ (z >> np.uint64(27))) * _MULTIPLY_2
    return z ^ (z >> np.uint64(31))


@njit("float64(uint64, uint64)", nogil=True, cache=True)
def unit_number(doc_key: Any, key: Any) -> Any:
    """Return the number of one document, uniform in (0, 1): for other kernels."""
    return (np.float64(mix64(doc_key ^ key) >> np.uint64(12)) + 0.5) * _UNIT


@njit(nogil=True, cache=True)
def _uniform(doc_keys: npt.NDArray[np.uint64], key: Any) -> npt.NDArray[np.float64]:
    u = np.empty(len(doc_keys), np.float64)
    for i in range(len(doc_keys)):
        u[i] = unit_number(doc_keys[i], key)
    return u


@njit(nogil=True, cache=True)
def _gumbel(doc_keys: npt.NDArray[np.uint64], key: Any) -> npt.NDArray[np.float64]:
    g = np.empty(len(doc_keys), np.float64)
    for i in range(len(doc_keys)):
        g[i] = -math.log(-math.log(unit_number(doc_keys[i], key)))
    return g
