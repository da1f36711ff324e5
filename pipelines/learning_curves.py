"""Losses by tokens of training: where they are taken, and how many tokens a loss needs.

Between two points a curve is a line over the logarithm of the tokens. A loss is reached where the curve first comes
down to it.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log, log2

Curve = Sequence[tuple[float, float]]
"""(tokens, loss), the tokens ascending; the first may be 0."""


def log_spaced(first: int, last: int, a_doubling: int) -> list[int]:
    """Return whole numbers from `first` on, so many in each doubling where there are as many, and `last` itself."""
    n_between = int(a_doubling * log2(last / first)) if last > first else -1
    return sorted({last} | {round(first * 2 ** (i / a_doubling)) for i in range(n_between + 1)})


def tokens_to(curve: Curve, loss: float) -> float | None:
    """Return how many tokens a curve needs to come down to a loss, None where it does not."""
    if curve[0][1] <= loss:
        return float(curve[0][0])
    for (before, high), (after, low) in pairwise(curve):
        if low <= loss:
            share = (high - loss) / (high - low)
            if before == 0:  # which has no logarithm
                return share * after
            return exp(log(before) + share * log(after / before))
    return None


def times_fewer(baseline: Curve, curve: Curve) -> float | None:
    """Return how many times fewer tokens than the baseline a curve needs for the same loss; both end after as many.

    The loss is the higher of the two last ones, which both reach: 2 says that the curve had the baseline's last loss
    after half of its tokens, 0.5 the reverse. None where it is not below what both began with.
    """
    tokens, last = baseline[-1]
    if curve[-1][1] <= last:
        needed = tokens_to(curve, last)
        return tokens / needed if needed else None
    needed = tokens_to(baseline, curve[-1][1])
    return needed / tokens if needed else None
