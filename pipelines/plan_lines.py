"""The arithmetic of a plan: a fixed part and a part that grows, from a small trial and two large ones.

Two large trials of other documents and the same size give the error: half of what they differ by, on the scale of the
whole. The small one tells the fixed part from the rest. Neither part is ever below 0. Seconds are steadied by processor
time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
"""How much there was, and what it took."""


@dataclass(frozen=True)
class Estimate:
    """A number, and by how much it may be off."""

    value: float
    error: float

    def times(self, share: float) -> "Estimate":
        """Return a share of it."""
        return Estimate(self.value * share, self.error * share)


@dataclass(frozen=True)
class Points:
    """What trials took: (amount, shards, figure) each."""

    small: tuple[float, float, float] | None
    large: tuple[tuple[float, float, float], ...]
    as_ingested: tuple[float, float, float] | None
    """As the first of the large ones, in fewer shards."""

    def at(self, x: float, n_shards: float) -> Estimate:
        """Return what `x` in so many shards takes: a part for each shard, a fixed part, and one that grows."""
        a_shard = 0.0
        if self.as_ingested and self.large[0][1] > self.as_ingested[1]:
            more = self.large[0][2] - self.as_ingested[2]
            a_shard = max(0.0, more / (self.large[0][1] - self.as_ingested[1]))
        points = [(at, max(0.0, y - a_shard * shards)) for at, shards, y in self.large]
        small = self.small and (self.small[0], max(0.0, self.small[2] - a_shard * self.small[1]))
        rest = extrapolate(small, points, x)
        spread = _spread([(at, y) for at, _, y in self.large])
        value = rest.value + a_shard * n_shards
        return Estimate(value, max(rest.error, value * spread))


def steadied(wall: Points, cpu: Points, ratio: float, x: float, n_shards: float) -> Estimate:
    """Return the seconds that `x` takes, steadied by processor time, which other work on the machine hardly moves.

    Three ways to get there from the large trials: the line of the seconds themselves; the growth of the processor
    seconds times what a processor second took in this stage; the same times `ratio`, what it took in the whole trial.
    The middle one counts: on a machine whose load comes and goes the first alone was off by five times, because the
    noise of a second in 13 MB of text is a minute and a half in 1.2 GB.
    """
    line = wall.at(x, n_shards)
    seconds, cpu_seconds = (float(np.mean([y for _, _, y in points.large])) for points in (wall, cpu))
    grows = max(0.0, cpu.at(x, n_shards).value - cpu_seconds)
    own = seconds / cpu_seconds if cpu_seconds > 0 else ratio
    low, middle, high = sorted([line.value, seconds + grows * own, seconds + grows * ratio])
    near = min(middle - low, high - middle)  # how far the nearer of the other two is
    return Estimate(middle, max(near, middle * line.error / line.value if line.value else 0.0))


def extrapolate(small: Point | None, large: Sequence[Point], x: float) -> Estimate:
    """Return what `x` takes, by the line through a small trial and the mean of the large ones."""
    x_large, y_large = (float(np.mean(values)) for values in zip(*large, strict=True))
    fixed, slope = 0.0, y_large / x_large if x_large else 0.0
    if small and small[0] < x_large:
        slope = max(0.0, (y_large - small[1]) / (x_large - small[0]))
        fixed = y_large - slope * x_large
        if fixed < 0:
            fixed, slope = 0.0, y_large / x_large
    elif small or not x_large:  # as much in both: it does not follow the corpus
        fixed, slope = y_large, 0.0
    value = fixed + slope * x
    return Estimate(value, value * _spread(large))


def _spread(large: Sequence[Point]) -> float:
    """Return half of the difference between trials of one size, as a share of their mean."""
    speeds = [y / x if x else y for x, y in large]
    mean = float(np.mean(speeds))
    return (max(speeds) - min(speeds)) / 2 / mean if mean > 0 else 0.0


def yield_errors(kept: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.float64]:
    """Return two standard errors of what steps keep, as shares of the corpus: (steps + 1, 2).

    `kept` is documents and tokens of the corpus (row 0) and after each step, by keyed part: (steps + 1, 2, parts); the
    parts are random groups (Wolter 2007, chapter 2), so copies of a text, which lie in one part, are not taken for
    independent. `share` of the corpus is in the sample: a sample that is all of it has no error.
    """
    corpus = kept[0]
    total = np.maximum(1.0, corpus.sum(axis=1))
    ratio = kept.sum(axis=2) / total
    n = kept.shape[2]
    off = kept - ratio[:, :, None] * corpus[None]
    variance = n / (n - 1) * (off**2).sum(axis=2) * max(0.0, 1 - share)
    errors: npt.NDArray[np.float64] = 2 * np.sqrt(variance) / total
    return errors
