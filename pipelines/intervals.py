"""Means with the interval in which the mean over all seeds lies, by Student's t: few seeds make it wide.

Two choices are told apart by the differences of trainings with the same seed, which have less spread than the losses
themselves, for the first weights and the texts of the loss are the same. Source: Student 1908, The Probable Error of a
Mean.
"""

import statistics
from collections.abc import Sequence
from math import exp, log
from typing import Any

CONFIDENCE = 0.95


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return the two-sided t-interval of the mean, None with a single value, which says nothing of the spread."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return None
    mean = statistics.fmean(values)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * statistics.stdev(values) / n**0.5
    return mean - half, mean + half


def prediction(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return where one more value of the same kind lies, by Student's t; None with a single value.

    The range of few values would be too narrow: another one lies outside of that of five with a chance of a third.
    """
    found = interval(values, confidence)
    if found is None:
        return None
    mean, half = statistics.fmean(values), (found[1] - found[0]) / 2 * (len(values) + 1) ** 0.5
    return mean - half, mean + half


def estimate(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, interval and the values themselves."""
    found = interval(values)
    return {"mean": statistics.fmean(values), "interval": found and [*found], "seeds": [*values]}


def estimate_ratio(ratios: Sequence[float | None]) -> dict[str, Any]:
    """Return the geometric mean of positive ratios, and its interval; both are None where a ratio is."""
    logarithms = [log(ratio) for ratio in ratios if ratio is not None]
    if len(logarithms) < len(ratios) or not ratios:
        return {"mean": None, "interval": None, "seeds": [*ratios]}
    found = interval(logarithms)
    mean = exp(statistics.fmean(logarithms))
    return {"mean": mean, "interval": found and [exp(end) for end in found], "seeds": [*ratios]}
