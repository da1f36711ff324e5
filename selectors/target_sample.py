"""A keyed sample of a target's documents that has their lengths: one document from each of as many strata of length."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .base import Target
from .keyed import uniform
from .pilot import cut

_ODD = 0x9E3779B97F4A7C15


def target_documents(targets: Sequence[Target]) -> list[tuple[int, bytes]]:
    """Return key and text (UTF-8) of every document that has text, in the order of the keys."""
    found = []
    for target in targets:
        for batch in target.batches():
            keys, texts = batch.column("doc_key").to_pylist(), batch.column("text").to_pylist()
            found += [(key, text.encode()) for key, text in zip(keys, texts, strict=True) if text]
    return sorted(found)


def pieces(documents: Sequence[tuple[int, bytes]], most_bytes: int) -> list[tuple[int, bytes]]:
    """Cut longer documents to pieces of whole characters, each with a key of its own."""
    found = []
    for key, text in documents:
        number = 0
        while text:
            piece = cut(text, most_bytes)
            found.append(((key + number * _ODD) % (1 << 64), piece))
            text, number = text[len(piece) :], number + 1
    return sorted(found)


def stratified(sizes: Sequence[int], doc_keys: Sequence[int], n: int, key: int) -> npt.NDArray[np.int64]:
    """Return the places of n documents, ascending: the one of the smallest keyed number of each of n strata of size."""
    keys = np.asarray(doc_keys, np.uint64)
    if n >= len(keys):
        return np.arange(len(keys), dtype=np.int64)
    order = np.lexsort((keys, np.asarray(sizes)))
    borders = np.arange(n + 1) * len(order) // n
    numbers = uniform(keys, key)[order]
    taken = [low + int(np.argmin(numbers[low:high])) for low, high in pairwise(borders.tolist())]
    places: npt.NDArray[np.int64] = np.sort(order[taken]).astype(np.int64)
    return places


def count_to_hold(sizes: Sequence[int], n_bytes: int, at_least: int) -> int:
    """Return how many documents of the mean size hold so many bytes, and at least so many."""
    return max(at_least, round(n_bytes * len(sizes) / max(1, sum(sizes))))


def matched(sizes: Sequence[int], pool_sizes: Sequence[int]) -> list[int]:
    """Return for each size the place of the pool's nearest one that no earlier size has; the first of equals.

    Where the pool has fewer, the last sizes get none.
    """
    free = np.asarray(pool_sizes, np.float64)
    found = []
    for size in list(sizes)[: len(free)]:
        place = int(np.argmin(np.abs(free - size)))
        found.append(place)
        free[place] = np.inf
    return found
