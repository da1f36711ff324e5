"""SemDeDup: of documents that mean the same, the one that is farthest from the centre of its cluster stays.

Abbas et al. 2023, https://arxiv.org/abs/2303.09540. Within each cluster the documents are put in an order; one goes
where its cosine with an earlier one is above 1 - epsilon, whether that one stays or not. So a document has one number,
its largest cosine with an earlier one, and epsilon is a threshold on it: `keep` asks for a share of the documents
instead, and the cut finds the threshold. (The authors interpolate epsilon between two trials on a tenth of the
clusters.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..features.base import Feature
from ..storage.errors import ConfigError
from .base import Around, Draw, Selector, Target
from .blas_threads import usable_threads
from .budget import CutRule
from .cluster_reasons import cluster_reasons
from .clustering import SPHERICAL, Clustering, find_clusters, place, vector_column
from .clusters import Clustered, ClusterState
from .keyed import uniform
from .nearest import nearest_earlier
from .reasons import Reason
from .vectors import unit_rows

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SemDeDup(Selector):
    """Keep one of the documents of a cluster whose vectors are nearly equal.

    `vectors` names a feature with vectors. A document without one stays.
    """

    name = "semdedup"
    version = 1
    groups = True
    fit_parameters = ("clusters",)
    score_parameters = ("clusters", "first")
    state_type = ClusterState

    vectors: Feature
    """Name of the feature whose vectors are compared."""
    clusters: Clustering = SPHERICAL
    """How they are clustered: {count, spherical, sample, iterations, tries}; only documents of one cluster meet."""
    epsilon: float | None = None
    """A document goes whose cosine with an earlier one is above 1 - epsilon; 0.05 unless `keep` is given."""
    keep: float | None = None
    """Share of the documents that stay, instead of `epsilon`: those least like an earlier one."""
    first: Literal["hard", "easy", "random"] = "hard"
    """Which come first and stay: the farthest from the centroid, the nearest, or by chance."""

    def __post_init__(self) -> None:
        if self.epsilon is not None and self.keep is not None:
            raise ConfigError(f"semdedup: epsilon is {self.epsilon} and keep is {self.keep}; expected one of them")
        if self.epsilon is not None and not 0 <= self.epsilon <= 1:
            raise ConfigError(f"semdedup: epsilon is {self.epsilon}, expected a number from 0 to 1")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise ConfigError(f"semdedup: keep is {self.keep}, expected a share above 0 and up to 1")
        vector_column(self.vectors)

    @property
    def sample_size(self) -> int:
        """Documents that the centroids are found on."""
        return self.clusters.sample_size

    @property
    def verdict(self) -> CutRule | None:
        """The share that stays, where that is given."""
        return None if self.keep is None else CutRule(by="percentile", percent=round(100 * self.keep, 9))

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> ClusterState:
        """Return the clusters of the sample."""
        return find_clusters(self.clusters, self.vectors, summary, draw)

    def score(self, batch: pa.RecordBatch, state: ClusterState) -> pa.Table:
        """Return `group`, the cluster (without a vector: the key), `distance`, and `turn`: the smallest comes first."""
        found = place(batch, self.vectors, state)
        turn, keys = found.distance, batch.column("doc_key").to_numpy()
        if self.first == "random":
            turn = uniform(keys, state.key)
        cluster = found.cluster.astype(np.uint64)
        return pa.table(
            {
                "group": np.where(found.valid, cluster, keys),  # without vectors they meet nobody: not in one memory
                "turn": -turn if self.first == "hard" else turn,
                "distance": found.distances,
            }
        )

    def reasons(
        self, batch: pa.RecordBatch, state: ClusterState, scores: pa.Table, around: Around
    ) -> list[Reason | None]:
        """Say which cluster a document is in, and what is next to it there."""
        return cluster_reasons(batch, state, scores, around, self.vectors, "group")

    def clustering(self, state: ClusterState) -> Clustered:
        """Return the clusters inside which documents are compared."""
        return Clustered(self.vectors, state)

    def within(self, block: pa.Table, state: ClusterState) -> pa.Table:
        """Return `keep`, or minus the largest cosine with an earlier document as `score`, and `ref`.

        With `epsilon`, `ref` is a document that stays; with `keep`, the earlier one with that cosine, which may go too.
        """
        order = _in_turn(block)
        x, valid = unit_rows(block.column(vector_column(self.vectors)))
        order = order[valid[order]]
        cosine, nearest_one = np.full(block.num_rows, -np.inf), np.full(block.num_rows, -1, np.int64)
        for rows in np.split(order, _ends(block.column("group").to_numpy()[order])):
            value, earlier = nearest_earlier(x[rows], threads=usable_threads())
            cosine[rows] = value
            nearest_one[rows] = np.where(earlier >= 0, rows[earlier], -1)
        ids = block.column("doc_id").combine_chunks()
        if self.keep is not None:
            return pa.table({"score": -cosine, "ref": _taken(ids, nearest_one)})
        keep = ~(cosine > 1 - (0.05 if self.epsilon is None else self.epsilon))
        return pa.table({"keep": keep, "ref": _taken(ids, _that_stay(order, keep, nearest_one))})


def _in_turn(block: pa.Table) -> Int64s:
    """Return the rows by group and turn, ties by key and id."""
    names = ["group", "turn", "doc_key", "doc_id"]
    order: Int64s = pc.sort_indices(block.select(names), [(n, "ascending") for n in names]).to_numpy()
    return order.astype(np.int64)


def _ends(groups: npt.NDArray[Any]) -> Int64s:
    """Return where each group but the last ends."""
    return np.flatnonzero(groups[1:] != groups[:-1]) + 1


def _that_stay(order: Int64s, keep: npt.NDArray[np.bool_], earlier: Int64s) -> Int64s:
    """Return for each dropped row one that stays, going from earlier to earlier; -1 for those that stay themselves."""
    stands_for = np.arange(len(keep))
    for row in order[~keep[order]].tolist():
        stands_for[row] = stands_for[earlier[row]]
    stands_for[keep] = -1
    return stands_for


def _taken(ids: pa.Array, rows: Int64s) -> pa.Array:
    return ids.take(pa.array(rows, mask=rows < 0))
