"""SSL prototypes: without the documents nearest to the centres of their clusters, the ones that say the usual.

Sorscher et al. 2022, https://arxiv.org/abs/2206.14486; the order is one over all clusters. With a deduplication before
it this is D4 (Tirumala et al. 2023, https://arxiv.org/abs/2308.12284): `dedup: semdedup` with `keep: 0.75`, then this
step, which clusters what is left again, with the rest of the ratio. Without the deduplication, clusters that copies
make come first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..features.base import Feature
from .base import Around, Batches, Draw, Selector, Target
from .cluster_reasons import cluster_reasons
from .clustering import SPHERICAL, Clustering, cluster_health, find_clusters, place, vector_column
from .clusters import Clustered, ClusterState
from .reasons import Reason


@dataclass(frozen=True)
class SSLPrototypes(Selector):
    """Choose the documents that are farthest from the centroids of their clusters.

    `vectors` names a feature with vectors.
    """

    name = "ssl_prototypes"
    version = 1
    fit_parameters = ("clusters",)
    state_type = ClusterState

    vectors: Feature
    """Name of the feature whose vectors are clustered."""
    clusters: Clustering = SPHERICAL
    """How: {count, spherical, sample, iterations, tries}."""

    def __post_init__(self) -> None:
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
        """Return the distance to the nearest centroid, the largest first, and `cluster`."""
        found = place(batch, self.vectors, state)
        return found.table(found.distance)

    def reasons(
        self, batch: pa.RecordBatch, state: ClusterState, scores: pa.Table, around: Around
    ) -> list[Reason | None]:
        """Say which cluster a document is in, and what is next to it there."""
        return cluster_reasons(batch, state, scores, around, self.vectors)

    def clustering(self, state: ClusterState) -> Clustered:
        """Return the clusters whose centres are left out."""
        return Clustered(self.vectors, state)

    def health(self, state: ClusterState, scores: Batches, chosen: Batches) -> dict[str, float]:
        """Return the number of clusters, of empty ones, the share of the largest, and the mean distance."""
        return cluster_health(state, scores)
