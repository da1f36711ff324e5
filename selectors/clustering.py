"""The clusters of a pool: k-means on a random sample of its vectors, and the place of every document in them.

All selectors of the clustering family share this: they differ in what they do with `cluster` and `distance`. The sample
is drawn by the documents' keys, and every decision is exact (`nearest`), so that the clusters do not depend on shards,
workers or the order of files.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from ..storage.errors import ConfigError
from .base import Batches, Draw
from .clusters import ClusterState
from .exact_sums import ExactSums
from .kmeans_choice import choose_n_clusters
from .kmeans_fit import fit_clusters
from .nearest import nearest
from .vectors import unit_rows

NO_VECTOR = "no vector"


@dataclass(frozen=True)
class Clustering:
    """How k-means finds clusters."""

    count: int | tuple[int, ...] = 1_000
    """Clusters; of several numbers the one whose clusters have the best mean silhouette is taken."""
    spherical: bool = False
    """Compare directions only: centroids have length 1, and distances are 1 - cosine."""
    sample: int = 256
    """Documents a cluster that the centroids are found on."""
    iterations: int = 20
    """Of Lloyd's algorithm at most."""
    tries: int = 1
    """How often to begin anew; the clusters with the least sum of distances are taken."""

    def __post_init__(self) -> None:
        if isinstance(self.count, list):
            object.__setattr__(self, "count", tuple(self.count))
        least = {"sample": 1, "tries": 1, "count": 1, "iterations": 0}
        for name, at_least in least.items():
            value = min(self.counts, default=0) if name == "count" else getattr(self, name)
            if value < at_least:
                raise ConfigError(f"clusters: {name} is {value}, expected {at_least} or more")

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of clusters to choose from."""
        return self.count if isinstance(self.count, tuple) else (self.count,)

    @property
    def sample_size(self) -> int:
        """How many documents the centroids are found on."""
        return self.sample * max(self.counts)


EUCLIDEAN, SPHERICAL = Clustering(), Clustering(spherical=True)


class Place(NamedTuple):
    """Where the documents of a batch are."""

    x: npt.NDArray[np.float32]
    """Their vectors, of length 1."""
    valid: npt.NDArray[np.bool_]
    cluster: npt.NDArray[np.int64]
    """0 for a document without a vector."""
    distance: npt.NDArray[np.float64]
    """Squared Euclidean distance to the centroid, or 1 - cosine if spherical."""

    @property
    def distances(self) -> pa.Array:
        """The distances as a column of scores: null for a document without a vector."""
        return pa.array(self.distance, mask=~self.valid)

    def table(self, score: npt.NDArray[np.float64]) -> pa.Table:
        """Return these scores with `cluster` and `distance`; a document without a vector may not be chosen."""
        missing = ~self.valid
        reason = pa.array(np.where(missing, NO_VECTOR, ""), pa.string(), mask=self.valid)
        return pa.table(
            {
                "score": pa.array(score, mask=missing),
                "cluster": pa.array(self.cluster),
                "distance": self.distances,
                "reason": reason,
            }
        )


def vector_column(feature: Feature) -> str:
    """Return the column of batches with the vectors of `vectors`. Raises ConfigError where the feature has not one."""
    schema = feature.columns
    lists = [f.name for f in schema if _is_list(f.type) and pa.types.is_floating(f.type.value_type)]
    if len(lists) != 1:
        raise ConfigError(
            f"vectors: a feature of kind {feature.name!r} has {len(lists) or 'no'} columns of lists of floats "
            f"({', '.join(f'{f.name}: {f.type}' for f in list(schema)[:4])}{', …' if len(schema) > 4 else ''}); "
            "expected one, as `embeddings` and `static_embeddings` give"
        )
    return f"vectors.{lists[0]}"


def find_clusters(
    clustering: Clustering, feature: Feature, sample: pa.RecordBatch | None, draw: Draw,
    parent: ClusterState | None = None,
) -> ClusterState:  # fmt: skip
    """Return the clusters of a sample of the pool; none where it has no vectors.

    Lloyd's iterations begin at the centroids of `parent`, whose number stays, where it has any that fit.
    """
    column = vector_column(feature)
    x, keys = np.empty((0, 0), np.float32), np.empty(0, np.uint64)
    if sample is not None:
        x, valid = unit_rows(sample.column(column))
        x, keys = x[valid], sample.column("doc_key").to_numpy()[valid]
    start = parent.centroids if parent is not None and parent.centroids.shape[1:] == x.shape[1:] else None
    if start is not None and len(start) and len(x):
        count, silhouettes = len(start), dict[str, float]()
    else:
        start, (count, silhouettes) = None, _count(clustering, x, keys, draw)
    found = fit_clusters(
        x, keys, count, spherical=clustering.spherical, n_init=clustering.tries, max_iter=clustering.iterations,
        key=draw("clusters"), start=start,
    )  # fmt: skip
    return ClusterState(
        found.centroids,
        found.n_sample,
        clustering.spherical,
        found.inertia / max(1, len(x)),
        silhouettes,
        draw("score"),
    )


def _count(
    clustering: Clustering, x: npt.NDArray[np.float32], keys: npt.NDArray[np.uint64], draw: Draw
) -> tuple[int, dict[str, float]]:
    if len(clustering.counts) == 1:
        return clustering.counts[0], {}
    count, silhouettes = choose_n_clusters(
        x, keys, clustering.counts, spherical=clustering.spherical, n_init=clustering.tries,
        max_iter=clustering.iterations, key=draw("silhouette"),
    )  # fmt: skip
    return count, {str(k): value for k, value in silhouettes.items()}


def place(batch: pa.RecordBatch | pa.Table, feature: Feature, state: ClusterState) -> Place:
    """Return where the documents of a batch are."""
    found = len(state.centroids)
    x, valid = unit_rows(batch.column(vector_column(feature)), state.centroids.shape[1] if found else None)
    if not found:
        return Place(x, valid, np.zeros(len(x), np.int64), np.zeros(len(x)))
    cluster, value = nearest(x, state.centroids, spherical=state.spherical)
    distance = np.maximum(0.0, 1 - value) if state.spherical else value
    return Place(x, valid, np.where(valid, cluster, 0), np.where(valid, distance, 0.0))


def cluster_health(state: ClusterState, scores: Batches) -> dict[str, float]:
    """Return how many clusters there are and how many are empty, the largest one's share, and the mean distance."""
    sizes = np.zeros(max(1, len(state.centroids)), np.int64)
    sums = ExactSums(len(sizes))
    for table in scores():
        placed = table.filter(table.column("distance").is_valid())
        cluster = placed.column("cluster").to_numpy()
        sizes += np.bincount(cluster, minlength=len(sizes))
        sums.add(cluster, placed.column("distance").to_numpy())
    n = int(sizes.sum())
    return {
        "clusters": float(len(state.centroids)),
        "empty_clusters": float(np.count_nonzero(sizes == 0)),
        "largest_cluster_share": float(sizes.max() / n) if n else 0.0,
        "mean_distance": sums.total() / n if n else 0.0,
    } | {f"silhouette_{k}": value for k, value in state.silhouettes.items()}


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
