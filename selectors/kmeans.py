"""k-means diversity: a share of the budget for every cluster of the pool, and inside it by chance, centre or quality.

Yu et al. 2024, "Diversify and Conquer", https://arxiv.org/abs/2409.11378. The paper and its code differ: the paper
gives each cluster a share of the budget in proportion to its size and samples with weights q (kMQ); the code gives all
clusters the same share, what a small one cannot take is lost, and samples with weights exp(q), which overflows beyond
709. Here both are Gumbel top-k in log space: the key is log q + g or q + g, which samples by the same law without
replacement. (The paper samples with replacement; a document that is drawn twice is not repeated here.)

A step with `refine` chooses in rounds (`refinement`), each with `sampler`: with `kmq` the first is as the paper's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..features.base import Feature
from ..storage.errors import ConfigError, SelectionError
from .base import Around, Batches, Choice, Draw, Selector, Target
from .budget import CutRule, Parts, make_cut
from .cluster_reasons import cluster_reasons
from .clustering import EUCLIDEAN, Clustering, cluster_health, find_clusters, place, vector_column
from .clusters import Clustered, ClusterState
from .keyed import gumbel
from .kmeans_kernels import logarithms
from .reasons import Reason


@dataclass(frozen=True)
class KMeans(Selector):
    """Choose from every cluster of the documents' vectors.

    `vectors` names a feature with vectors. The budget is divided between the clusters; `cut.redistribute` (with
    `cut.per: cluster`) gives what small clusters cannot take to the others.
    """

    name = "kmeans"
    version = 1
    per = "cluster"
    fit_parameters = ("clusters",)
    score_parameters = ("clusters", "sampler", "quality", "mode")
    state_type = ClusterState

    vectors: Feature
    """Name of the feature whose vectors are clustered."""
    clusters: Clustering = EUCLIDEAN
    """How: {count, spherical, sample, iterations, tries}."""
    sampler: Literal["random", "centroid", "kmq"] = "random"
    """Inside a cluster: by chance, the nearest to the centroid first, or by chance with weights of `quality`."""
    quality: str | None = None
    """kmq: a number, SQL over features and columns, e.g. `stats.n_words / 100`; NULL and NaN come last."""
    mode: Literal["paper", "official"] = "paper"
    """kmq: weights q (paper) or exp(q) (official code); shares of the clusters by size (paper) or equal (official)."""
    shares: Literal["proportional", "equal"] | None = None
    """Of the budget: by the size of the clusters, or the same for all; default: by `mode`. With `refine`, of the first
    round's budget; default: the same for all."""

    def __post_init__(self) -> None:
        if (self.sampler == "kmq") != (self.quality is not None):
            raise ConfigError(
                f"kmeans: sampler is {self.sampler!r} and quality is {self.quality!r}; "
                "quality belongs to `sampler: kmq`, which needs it"
            )
        vector_column(self.vectors)

    @property
    def expressions(self) -> Mapping[str, str]:
        """The quality."""
        return {} if self.quality is None else {"quality": self.quality}

    @property
    def first_shares(self) -> Literal["equal", "proportional"]:
        """As `shares` says; by default the same for all (w = 1/k in Algorithm 1)."""
        return self.shares or "equal"

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
        """Return what orders a cluster's documents (see `sampler`), `cluster`, and `distance` to its centroid."""
        found = place(batch, self.vectors, state)
        if self.sampler == "centroid":
            return found.table(-found.distance)
        keys = gumbel(batch.column("doc_key").to_numpy(), state.key)
        return found.table(keys if self.sampler == "random" else keys + self._log_weight(batch.column("quality")))

    def _log_weight(self, quality: pa.Array) -> npt.NDArray[np.float64]:
        q: npt.NDArray[np.float64] = pc.fill_null(quality, math.nan).to_numpy(zero_copy_only=False)
        if self.mode == "official":
            return q
        weights = np.empty_like(q)
        logarithms(q, weights)
        return weights

    def select(self, parts: Callable[[str], Parts], state: ClusterState, rule: CutRule, draw: Draw) -> Choice:
        """Cut every cluster by its share of the budget: that of the rule in a round (`refinement`), or as `shares`."""
        if rule.budget is not None:
            shares = self.shares or ("proportional" if self.mode == "paper" else "equal")
            if shares == "equal" and rule.shares is None:
                rule = self._equal(rule, max(1, len(state.centroids)))
            rule = replace(rule, remainders=shares == "proportional" or self.mode == "paper")
        return Choice({"score": make_cut(parts("score"), rule, draw("cut"))})

    def _equal(self, rule: CutRule, n: int) -> CutRule:
        """Give every cluster the same; the official code rounds down, and what is left of the budget is lost."""
        assert rule.budget is not None
        budget = rule.budget // n * n if self.mode == "official" else rule.budget
        if rule.budget and not budget:
            raise SelectionError(
                f"kmeans: with mode: official each of {n:,} clusters gets {rule.budget:,} // {n:,} = 0 of the budget; "
                "give a larger budget, fewer clusters, or mode: paper"
            )
        return replace(rule, budget=budget, shares={str(c): float(Fraction(1, n)) for c in range(n)})

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
