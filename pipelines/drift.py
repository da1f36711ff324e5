"""How far the scores of a step have moved between two runs.

The population stability index over the deciles of the earlier run, and the Kolmogorov-Smirnov distance, of all scores
then and now, and of new documents beside the old ones. A score that stands at several deciles has a bin of its own:
where all are the same, others would go unseen. Two passes, a shard at a time: the first takes a keyed sample of 65,536
scores of each run, at whose values (4,095 quantiles where there are more) the second counts, between and on them. So
the distance is exact for small pools, and hardly too small for large ones: it is looked at in so many places.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..selectors.keyed import uniform
from .alarms import Alarm

SAMPLE = 65_536
EDGES = 4_095
DRIFTS_FROM = 200
"""Of fewer scores an index of 0.05 is chance: it is about the number of bins by the number of scores."""
_KEY = 0x5C0BE5

Floats = npt.NDArray[np.float64]


class Scores(NamedTuple):
    """Of the documents of one shard that may be chosen."""

    doc_key: npt.NDArray[np.uint64]
    score: Floats
    fresh: npt.NDArray[np.bool_]
    """Whether the document is new; of the earlier run none is."""


Stream = Callable[[], Iterable[Scores]]


@dataclass
class _Counted:
    """Scores of some documents, counted between and on the edges, and by decile."""

    cells: npt.NDArray[np.int64]
    bins: npt.NDArray[np.int64]
    n: int = 0
    nan: int = 0

    def add(self, score: Floats, edges: Floats, deciles: Floats) -> None:
        """Count scores."""
        self.n += len(score)
        score = score[~np.isnan(score)]
        self.nan = self.n - int(self.cells.sum()) - len(score)
        cell = np.searchsorted(edges, score, "left") + np.searchsorted(edges, score, "right")
        self.cells += np.bincount(cell, minlength=len(self.cells))
        self.bins += np.bincount(np.searchsorted(deciles, score, "right"), minlength=len(self.bins))

    def __add__(self, other: "_Counted") -> "_Counted":
        return _Counted(self.cells + other.cells, self.bins + other.bins, self.n + other.n, self.nan + other.nan)

    @property
    def nan_share(self) -> float:
        """Share of NaN among all."""
        return self.nan / self.n if self.n else 0.0


def drift(before: Stream, now: Stream) -> dict[str, Any]:
    """Return how the scores of a step were distributed in two runs, and of new and old documents in the later one."""
    edges, deciles = _edges(before, now)

    def counted() -> _Counted:
        return _Counted(np.zeros(2 * len(edges) + 1, np.int64), np.zeros(len(deciles) + 1, np.int64))

    then, old, new = counted(), counted(), counted()
    for part in before():
        then.add(part.score, edges, deciles)
    for part in now():
        old.add(part.score[~part.fresh], edges, deciles)
        new.add(part.score[part.fresh], edges, deciles)
    return {
        "all": _between(then, old + new), "new": _between(old, new), "deciles": deciles.tolist(),
        "scored": {"then": then.n, "now": old.n + new.n, "new": new.n},
        "nan": {"then": then.nan_share, "now": (old + new).nan_share, "new": new.nan_share},
    }  # fmt: skip


def _edges(before: Stream, now: Stream) -> tuple[Floats, Floats]:
    """Return the values at which scores are counted, and where the bins begin: see above."""
    samples = []
    for stream in (before, now):
        n = sum(int((~np.isnan(part.score)).sum()) for part in stream())
        samples.append(np.concatenate([np.empty(0), *_sampled(stream, SAMPLE / max(1, n))]))
    then = np.sort(samples[0])
    deciles = then[(np.arange(1, 10) * len(then)) // 10] if len(then) else then
    values = np.unique(np.concatenate(samples))
    if len(values) > EDGES:
        values = values[np.linspace(0, len(values) - 1, EDGES).astype(np.int64)]
    often = deciles[1:][deciles[1:] == deciles[:-1]]
    return values, np.unique(np.concatenate([deciles, np.nextafter(often, np.inf)]))


def _sampled(stream: Stream, share: float) -> Iterator[Floats]:
    for part in stream():
        number = part.score[~np.isnan(part.score)]
        if share < 1:
            number = number[uniform(part.doc_key[~np.isnan(part.score)], _KEY) < share]
        yield number


def _between(one: _Counted, other: _Counted) -> dict[str, float | None]:
    """Return both measures; None where either has no number."""
    sizes = one.cells.sum(), other.cells.sum()
    if not all(sizes):
        return {"psi": None, "ks": None}
    ks = np.abs(np.cumsum(one.cells) / sizes[0] - np.cumsum(other.cells) / sizes[1]).max()
    p, q = ((side.bins + 0.5) / (n + 0.5 * len(side.bins)) for side, n in zip((one, other), sizes, strict=True))
    return {"psi": float(np.sum((q - p) * np.log(q / p))), "ks": float(ks)}


def drift_alarms(run: str, previous: str, scores: Iterable[Mapping[str, Any]], limit: float | None) -> Iterator[Alarm]:
    """Yield an alarm for each step whose scores moved further than the limit, where they are scores of one kind."""
    for found in scores if limit is not None else ():
        scored = found["scored"]
        for which, there, whose in (("all", "now", "scores"), ("new", "new", "scores of the new documents")):
            psi = found[which]["psi"]
            few = min(scored[there], scored["then"]) < DRIFTS_FROM
            if not found["comparable"] or few or psi is None or psi <= limit:
                continue
            than = f"in run {previous}" if which == "all" else "those of the old documents"
            message = (
                f"the {whose} ({scored[there]:,}) are distributed otherwise than {than}: PSI {psi:.2g} over its "
                f"deciles, KS distance {found[which]['ks']:.2g}; look at what came in: "
                f"tamis sql \"from diff_documents where run = '{run}' limit 20\""
            )
            yield Alarm(str(found["step"]), "score_drift", psi, float(limit or 0.0), message)
            break
