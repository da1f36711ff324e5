"""Density-based pruning: more of the clusters that are wide and far from others, and the hardest documents of each.

Abbas et al. 2024, https://arxiv.org/abs/2401.04578. A cluster's complexity is C = d_intra d_inter: the mean distance of
its documents to the centroid, times the mean distance of the centroid to its nearest others. With p = softmax(C / T),
the quotas x minimise |x - p M|^2 / 2 such that they sum to the budget M and keep within lb <= x <= ub. The authors give
that to a solver (OSQP) and round, which misses M by up to 3; the exact solution is x = clip(p M + lambda, lb, ub), and
the cut rounds by largest remainders.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from ..storage.errors import ConfigError
from .base import Around, Batches, Choice, Draw, Selector, Target
from .blas_threads import usable_threads
from .budget import CutRule, Parts, make_cut
from .cluster_reasons import cluster_reasons
from .clustering import SPHERICAL, Clustering, cluster_health, find_clusters, place, vector_column
from .clusters import Clustered, ClusterState
from .exact_sums import ExactSums
from .keyed import gumbel
from .nearest import mean_of_nearest
from .nearest_kernels import squared_lengths
from .reasons import Reason
from .vectors import unit_rows

Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DensityPruning(Selector):
    """Choose the hardest documents of every cluster, more where a cluster is wide and far from the others.

    `vectors` names a feature with vectors.
    """

    name = "density_pruning"
    version = 1
    per = "cluster"
    fit_parameters = ("clusters",)
    score_parameters = ("clusters", "first")
    state_type = ClusterState

    vectors: Feature
    """Name of the feature whose vectors are clustered."""
    clusters: Clustering = SPHERICAL
    """How: {count, spherical, sample, iterations, tries}."""
    temperature: float | None = None
    """Of the softmax over the clusters' complexities; default: 0.1, or 0.5 with `mode: official`."""
    neighbours: int = 20
    """Nearest other centroids that d_inter is the mean over."""
    least: float = 0.5
    """A cluster keeps at least so much of an equal share of the budget, if it has it."""
    first: Literal["hard", "easy", "random"] = "hard"
    """Of a cluster: the farthest from the centroid first, the nearest, or by chance."""
    mode: Literal["paper", "official"] = "paper"
    """Which `temperature` is the default: the paper's or the official code's."""

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise ConfigError(f"density_pruning: temperature is {self.temperature}, expected a number above 0")
        if self.neighbours < 1 or not 0 <= self.least <= 1:
            raise ConfigError(
                f"density_pruning: neighbours is {self.neighbours} and least is {self.least}; "
                "expected 1 or more, and a share from 0 to 1"
            )
        vector_column(self.vectors)

    @property
    def sample_size(self) -> int:
        """Documents that the centroids are found on."""
        return self.clusters.sample_size

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> ClusterState:
        """Return the clusters of the sample."""
        return find_clusters(self.clusters, self.vectors, summary, draw)

    def fit_from(self, parent: ClusterState, summary: Any, targets: Sequence[Target], draw: Draw) -> ClusterState:
        """Return the clusters of the sample, which Lloyd's iterations found from those of an earlier pool."""
        return find_clusters(self.clusters, self.vectors, summary, draw, parent)

    def score(self, batch: pa.RecordBatch, state: ClusterState) -> pa.Table:
        """Return what orders a cluster's documents (see `first`), `cluster`, and `distance` to its centroid."""
        found = place(batch, self.vectors, state)
        if self.first == "random":
            return found.table(gumbel(batch.column("doc_key").to_numpy(), state.key))
        return found.table(found.distance if self.first == "hard" else -found.distance)

    def select(self, parts: Callable[[str], Parts], state: ClusterState, rule: CutRule, draw: Draw) -> Choice:
        """Cut every cluster by its quota; a percentage of the documents is a budget too."""
        seen = _seen(parts("distance"), max(1, len(state.centroids)))
        if rule.percent is not None and rule.budget is None:
            rule = replace(rule, by="top", percent=None, budget=int(seen.documents.sum() * rule.percent / 100))
        if rule.budget and rule.budget < seen.weight.sum():
            quotas = self.quotas(rule.budget, seen.weight, seen.mean_distance, self._between(state))
            shares = quotas / rule.budget
            rule = replace(rule, shares={str(c): float(s) for c, s in enumerate(shares)}, remainders=True)
        return Choice({"score": make_cut(parts("score"), rule, draw("cut"))})

    def quotas(self, budget: int, weight: Int64s, within: Float64s, between: Float64s) -> Float64s:
        """Return the quota of each cluster; they sum to the budget, or to all there is.

        `weight` is what each cluster has, in the unit of the budget; `within` is d_intra, `between` d_inter.
        """
        complexity = np.where(weight > 0, within * between, -np.inf)
        if not weight.any():
            return np.zeros(len(weight))
        temperature = self.temperature or (0.1 if self.mode == "paper" else 0.5)
        p = np.exp((complexity - complexity.max()) / temperature)
        least = max(1, int(budget / len(weight) * self.least))
        low = np.clip(weight - 1, 0, least)
        return _bounded(p / p.sum() * budget, low, weight, budget)

    def reasons(
        self, batch: pa.RecordBatch, state: ClusterState, scores: pa.Table, around: Around
    ) -> list[Reason | None]:
        """Say which cluster a document is in, and what is next to it there."""
        return cluster_reasons(batch, state, scores, around, self.vectors)

    def clustering(self, state: ClusterState) -> Clustered:
        """Return the clusters that the budget is divided between."""
        return Clustered(self.vectors, state)

    def health(self, state: ClusterState, scores: Batches, chosen: Batches) -> dict[str, float]:
        """Return the number of clusters, of empty ones, the share of the largest, and the mean distance."""
        return cluster_health(state, scores)

    def _between(self, state: ClusterState) -> Float64s:
        """Return d_inter: the mean of 1 - cosine to the nearest other centroids."""
        x, _ = unit_rows(
            pa.FixedSizeListArray.from_arrays(state.centroids.reshape(-1), max(1, state.centroids.shape[1]))
        )
        n = min(self.neighbours, len(x) - 1)
        if n < 1:
            return np.ones(max(1, len(x)))
        itself = np.empty(len(x))
        squared_lengths(x, itself)
        cosine: Float64s = (mean_of_nearest(x, x, n + 1, threads=usable_threads()) * (n + 1) - itself) / n
        return 1 - cosine


def _bounded(wanted: Float64s, low: Int64s, high: Int64s, total: int) -> Float64s:
    """Return clip(wanted + lambda, low, high) that sums to `total`, or as near as the bounds allow."""
    if total >= high.sum():
        return high.astype(np.float64)
    if total < low.sum():
        low = np.zeros_like(low)
    down, up = float((low - wanted).min()), float((high - wanted).max())
    for _ in range(200):
        middle = (down + up) / 2
        if np.clip(wanted + middle, low, high).sum() > total:
            up = middle
        else:
            down = middle
    return np.clip(wanted + down, low, high)


@dataclass(frozen=True)
class _Seen:
    """What the clusters have; exact, whatever the order of the parts."""

    documents: Int64s
    weight: Int64s
    mean_distance: Float64s


def _seen(parts: Parts, n: int) -> _Seen:
    documents, weight, sums = np.zeros(n, np.int64), np.zeros(n, np.int64), ExactSums(n)
    for part in parts():
        mine = part.eligible
        cluster = np.asarray(part.group)[mine]
        documents += np.bincount(cluster, minlength=n)
        np.add.at(weight, cluster, part.weight[mine])
        sums.add(cluster, part.score[mine])
    return _Seen(documents, weight, sums.mean(documents))
