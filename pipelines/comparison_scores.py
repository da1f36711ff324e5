"""How the scores of the choices are distributed, and whether they go with one another and with length.

All of it comes from keyed samples of the documents that a run scored, which are all of them where they are few enough:
memory does not depend on the corpus.
"""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ..selectors.keyed import stream_key, uniform
from .comparison_views import ShardView
from .health import spearman

SAMPLED = 100_000
BINS, TAIL = 48, 0.001
"""Bars of a distribution; what lies beyond so much of either end is put into the last bars."""
LENGTH_BINS, POINTS = 12, 400
LEAST_IN_BIN = 5

Float64s = npt.NDArray[np.float64]


class ScoreSample:
    """Scores of the sampled documents under each run: of those that it scored, so many at random."""

    def __init__(self, entered: Mapping[str, int]) -> None:
        self._names = list(entered)
        self._share = {name: SAMPLED / max(1, n) for name, n in entered.items()}
        self._u: list[Float64s] = []
        self._key = stream_key(0, "compare", "scores")
        self._n_tokens: list[npt.NDArray[np.int64]] = []
        self._key_of: list[npt.NDArray[np.uint64]] = []
        self._score: dict[str, list[Float64s]] = {name: [] for name in entered}
        self._kept: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in entered}

    def see(self, view: ShardView) -> None:
        """Add a shard."""
        u = uniform(view.doc_key, self._key)
        inside = np.zeros_like(view.live)
        for name, decided in view.decided.items():
            inside |= ~np.isnan(decided.score) & (u < self._share[name])
        inside &= view.live
        self._u.append(u[inside])
        self._n_tokens.append(view.n_tokens[inside])
        self._key_of.append(view.doc_key[inside])
        for name, decided in view.decided.items():
            self._score[name].append(decided.score[inside])
            self._kept[name].append(decided.kept[inside])

    def found(self) -> "Scores":
        """Return the sample."""
        return Scores(
            np.concatenate([*self._u, np.empty(0)]),
            self._share,
            np.concatenate([*self._n_tokens, np.empty(0, np.int64)]),
            np.concatenate([*self._key_of, np.empty(0, np.uint64)]),
            {name: np.concatenate([*self._score[name], np.empty(0)]) for name in self._names},
            {name: np.concatenate([*self._kept[name], np.empty(0, np.bool_)]) for name in self._names},
        )


class Scores:
    """Documents with their scores (NaN: none) and verdicts by run."""

    def __init__(
        self, u: Float64s, share: Mapping[str, float], n_tokens: npt.NDArray[np.int64],
        doc_key: npt.NDArray[np.uint64], score: dict[str, Float64s], kept: dict[str, npt.NDArray[np.bool_]],
    ) -> None:  # fmt: skip
        self._u, self._share = u, share
        self.n_tokens, self.doc_key, self.score, self.kept = n_tokens, doc_key, score, kept

    @property
    def names(self) -> list[str]:
        """Runs with scores."""
        return [name for name, score in self.score.items() if not np.isnan(score).all()]

    def correlations(self) -> list[dict[str, Any]]:
        """Return Spearman's rho of each pair of runs, over the documents that both scored."""
        found = []
        for a, b in combinations(self.names, 2):
            both = ~(np.isnan(self.score[a]) | np.isnan(self.score[b]))
            both &= self._u < max(self._share[a], self._share[b])  # all of them were taken that either's share takes
            rho = spearman(self.score[a][both], self.score[b][both])
            found.append({"a": a, "b": b, "spearman": rho, "documents": int(both.sum())})
        return found

    def distribution(self, name: str) -> dict[str, Any]:
        """Return how a run's scores are distributed, of all and of the chosen, and how they go with length."""
        there = np.flatnonzero(self._mine(name))
        score, kept, n_tokens = self.score[name][there], self.kept[name][there], self.n_tokens[there]
        low, high = _range(score)
        edges = np.linspace(low, high, BINS + 1)
        inside = np.clip(score, low, high)
        return {
            "name": name,
            "documents": len(there),
            "edges": edges.tolist(),
            "all": np.histogram(inside, edges)[0].tolist(),
            "chosen": np.histogram(inside[kept], edges)[0].tolist(),
            "spearman_length": spearman(score, n_tokens),
            "lengths": _by_length(score, n_tokens),
            "points": _points(self.doc_key[there], n_tokens, score, kept),
        }

    def _mine(self, name: str) -> npt.NDArray[np.bool_]:
        """Say which documents are a random sample of those that a run scored."""
        found: npt.NDArray[np.bool_] = ~np.isnan(self.score[name]) & (self._u < self._share[name])
        return found

    def percentile(self, name: str, score: float) -> float:
        """Return the share of the scored documents, in percent, that have a lower score."""
        found = self.score[name][self._mine(name)]
        return 100 * float((found < score).mean()) if found.size else math.nan


def _range(score: Float64s) -> tuple[float, float]:
    finite = score[np.isfinite(score)]
    low, high = np.quantile(finite, [TAIL, 1 - TAIL]).tolist() if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _by_length(score: Float64s, n_tokens: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return the quartiles of the score in groups of documents of equal number, from short to long."""
    order = np.argsort(n_tokens, kind="stable")
    found = []
    for part in np.array_split(order, LENGTH_BINS):
        if len(part) >= LEAST_IN_BIN:
            lower, median, upper = np.quantile(score[part], [0.25, 0.5, 0.75]).tolist()
            tokens = float(np.median(n_tokens[part]))
            found.append({"tokens": tokens, "lower": lower, "median": median, "upper": upper, "documents": len(part)})
    return found


def _points(
    doc_key: npt.NDArray[np.uint64], n_tokens: npt.NDArray[np.int64], score: Float64s, kept: npt.NDArray[np.bool_]
) -> list[tuple[int, float, bool]]:
    """Return tokens, score and verdict of some documents, half of them chosen where there are so many."""
    u = uniform(doc_key, stream_key(0, "compare", "points"))
    found: list[tuple[int, float, bool]] = []
    for which in (kept, ~kept):
        places = np.flatnonzero(which & np.isfinite(score))
        for i in places[np.argsort(u[places])][: POINTS // 2].tolist():
            found.append((int(n_tokens[i]), float(f"{score[i]:.5g}"), bool(kept[i])))
    return found
