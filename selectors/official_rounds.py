"""The rounds that the code of RS2's authors draws, number by number: to compare runs with theirs.

PatrikOkanovic/RS2, DeepCore's `uniform.py` and `uniform_no_replacement.py`: documents are numbered as they lie in the
data set, and one legacy NumPy generator gives all random numbers, so a round can only be had after those before it. The
`rs2` selector has the same rounds of keyed orders: `with` is `uniform`, `official` is `uniform_no_replacement`, whose
sweep ends in a quirk that its `without` does not have (see `slices`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def uniform(
    n: int, fraction: float, n_rounds: int, seed: int, classes: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Yield rounds that are drawn independently: round(fraction * n) of n documents, or of each class in turn."""
    numpy = np.random.RandomState(seed)
    label = np.zeros(n, np.int64) if classes is None else np.asarray(classes)
    strata = [np.flatnonzero(label == one) for one in np.unique(label)]
    for _ in range(n_rounds):
        drawn = [numpy.choice(ids, round(fraction * len(ids)), replace=False) for ids in strata]
        yield [int(i) for ids in drawn for i in ids]


def uniform_no_replacement(n: int, fraction: float, n_rounds: int, seed: int) -> Iterator[list[int]]:
    """Yield rounds that are consecutive blocks of a permutation, which is shuffled again where it ends."""
    numpy = np.random.RandomState(seed)
    order, sweep = numpy.permutation(n), 0
    for blocks in slices(n, round(fraction * n), n_rounds):
        if blocks[0][0] > sweep:
            order, sweep = numpy.permutation(order), blocks[0][0]
        yield [int(i) for _, start, stop in blocks for i in order[start:stop]]


def slices(n: int, size: int, n_rounds: int) -> Iterator[list[tuple[int, int, int]]]:
    """Yield where the rounds lie, as (sweep, start, stop) of 1 to `size` <= n documents.

    Where the last block of a sweep lacks documents, its end is taken modulo n + 1: the round has one document less than
    the others, and begins the same permutation again. Which documents come twice is the luck of their places.
    """
    sweep = start = 0
    for _ in range(n_rounds):
        if start == n:
            sweep, start = sweep + 1, 0
        if start + size <= n:
            yield [(sweep, start, start + size)]
            start += size
        else:
            yield [(sweep, start, n), (sweep, 0, (start + size) % (n + 1))]
            start = n
