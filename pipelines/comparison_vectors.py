"""How near to the targets and how varied each choice is by meaning: measures over vectors of its documents.

They are taken of equally many documents of each choice, because all of them depend on the number. Vectors that the lake
has are used; where some are missing, they are computed if that is cheap or the feature was asked for by its name.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..features.base import Feature
from ..selectors.keyed import stream_key, uniform
from ..selectors.kmeans_fit import fit_clusters
from ..selectors.vectors import unit_rows
from ..storage.errors import ConfigError
from ..storage.feature_store import missing_rows, read_values
from ..storage.plugins import nearest
from ..storage.snapshots import Snapshot
from ..storage.survivors import Survivors
from .comparison_documents import PLACE_BITS, Documents
from .comparison_measures import Kind, measure_row
from .comparison_texts import CORPUS, Groups, TargetTexts
from .diversity import clusters_hit, effective_clusters, neighbour_distance
from .mauve import mauve
from .measuring import COSTLY, Column, measure
from .target_coverage import facility_location
from .work import Work

MOST, OF_CORPUS = 2_000, 5_000
"""Documents of each choice, and of the corpus, whose vectors are taken."""
FEW = 50
"""Where the unseen part of a target has fewer documents, the whole target is taken."""
DOCUMENTS_A_CLUSTER = 50

Float32s = npt.NDArray[np.float32]

_MAUVE = Kind(
    "mauve", "MAUVE",
    "how near the choice's vectors are to the target's as a distribution, from 0 to 1",
    "Pillutla et al. 2021: the area under the curve of divergences between the two sets of vectors, quantised by "
    "k-means into a tenth as many clusters as there are documents in the smaller set. The value depends on the vectors "
    "and on how many there are: compare it within one table only.", "higher", glance=True,
)  # fmt: skip
_REACH = Kind(
    "target_reach", "nearest to the target",
    "mean over the target's documents of the cosine to the nearest document of the choice",
    "Facility location: high where the choice has something like each of the target's documents.", "higher",
)  # fmt: skip
_SPREAD = Kind(
    "nearest_distance", "distance to the nearest",
    "mean over the choice's documents of the cosine distance to the nearest other one",
    "Low where a choice repeats itself; between choices of equally many documents.",
)  # fmt: skip
_CLUSTERS = Kind(
    "clusters_hit", "clusters hit",
    "share of the corpus's clusters that the choice has documents of",
    f"k-means over up to {OF_CORPUS:,} documents of the corpus, one cluster for {DOCUMENTS_A_CLUSTER} of them.",
    form="percent", glance=True,
)  # fmt: skip
_EFFECTIVE = Kind(
    "effective_clusters", "effective clusters",
    "exp of the entropy of the choice's documents over the corpus's clusters",
    "As many clusters of equal share would be as varied.",
)  # fmt: skip


def vector_column(work: Work, wanted: str | None, groups: Groups, snapshot: Snapshot) -> Column | None:
    """Return the feature of vectors to compare by, None where there is none whose vectors are there or cheap.

    Raises ConfigError where `wanted` is no feature of vectors.
    """
    found = check_vectors(work, wanted)
    if wanted is not None:
        return Column(wanted, found[wanted])
    sampled = _rows(_sampled(groups), snapshot)
    columns = [Column(alias, feature) for alias, feature in found.items()]
    for column in sorted(columns, key=lambda column: -column.feature.cost):
        if not any(missing_rows(work.lake, column.key, s, sampled.mask(s)).size for s in snapshot.shards):
            return column
    used = (c for c in columns if c.feature.cost < COSTLY and (work.lake.feature(c.key) / "feature.json").exists())
    return next(used, None)


def check_vectors(work: Work, wanted: str | None) -> dict[str, Feature]:
    """Return the features of vectors, by alias. Raises ConfigError where `wanted` is given and none of them."""
    found = {alias: feature for alias, feature in work.features.items() if _has_vectors(feature)}
    if wanted is not None and wanted not in found:
        raise ConfigError(f"no feature of vectors {wanted!r} in the runs' configurations{nearest(wanted, list(found))}")
    return found


def _has_vectors(feature: Feature) -> bool:
    try:
        return bool(feature.columns.names == ["vector"])
    except ConfigError:  # its model or package is not there
        return False


class VectorMeasures:
    """Measures over the vectors of one feature."""

    def __init__(self, work: Work, column: Column, groups: Groups, snapshot: Snapshot) -> None:
        self._work, self._column, self._groups, self._threads = work, column, groups, work.engine.workers
        sampled = _sampled(groups)
        survivors = _rows(sampled, snapshot)
        measure(work, survivors, column)
        place, vectors = _vectors(work, column, survivors)
        self._vectors = {name: vectors[np.searchsorted(place, d.places)] for name, d in sampled.items()}
        self.documents = min((len(v) for name, v in self._vectors.items() if name != CORPUS), default=0)

    def rows(self, targets: Sequence[TargetTexts]) -> Iterator[dict[str, Any]]:
        """Yield the measures against each target, then those of the choices alone."""
        for target in targets:
            chosen = target.unseen_rows if target.unseen_rows.n_documents >= FEW else Survivors.of(target.snapshot)
            part = "unseen" if chosen is target.unseen_rows else "all"
            measure(self._work, chosen, self._column)
            _, wanted = _vectors(self._work, self._column, chosen)
            if not len(wanted):
                continue
            note = (
                f"{len(wanted):,} of its documents ({part}), {self.documents:,} of each choice, by {self._column.alias}"
            )
            yield measure_row(_MAUVE, self._groups, partial(self._mauve, wanted), target.name, note)
            yield measure_row(_REACH, self._groups, partial(self._reach, wanted), target.name, note)
        note = f"{self.documents:,} documents of each choice, by {self._column.alias}"
        yield measure_row(_SPREAD, self._groups, self._spread, note=note)
        counts = self._by_cluster()
        yield measure_row(_CLUSTERS, self._groups, lambda name: clusters_hit(counts[name]), note=note)
        yield measure_row(_EFFECTIVE, self._groups, lambda name: effective_clusters(counts[name]), note=note)

    def _mauve(self, target: Float32s, name: str) -> float | None:
        vectors = self._vectors[name]
        return mauve(target, vectors).mauve if len(vectors) else None

    def _reach(self, target: Float32s, name: str) -> float | None:
        vectors = self._vectors[name]
        return facility_location(target, vectors, threads=self._threads) if len(vectors) else None

    def _spread(self, name: str) -> float | None:
        vectors = self._vectors[name]
        return neighbour_distance(vectors, threads=self._threads) if len(vectors) > 1 else None

    def _by_cluster(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """Return how many documents of each set are in each cluster of the corpus."""
        corpus = self._vectors[CORPUS]
        n = max(1, len(corpus) // DOCUMENTS_A_CLUSTER)
        clusters = fit_clusters(corpus, np.arange(len(corpus), dtype=np.uint64), n, spherical=True, key=0)
        return {
            name: np.bincount(clusters.assign(vectors)[0], minlength=len(clusters.centroids))
            for name, vectors in self._vectors.items()
        }


def _sampled(groups: Groups) -> dict[str, Documents]:
    """Return equally many documents of each choice and draw, and more of the corpus."""
    n = min([MOST, *(len(d) for name, d in groups.documents.items() if name != CORPUS)])
    return {name: _some(d, OF_CORPUS if name == CORPUS else n) for name, d in groups.documents.items()}


def _some(documents: Documents, n: int) -> Documents:
    order = np.lexsort((documents.doc_key, uniform(documents.doc_key, stream_key(0, "compare", "vectors"))))
    return documents.taken(order[:n])


def _rows(sampled: Mapping[str, Documents], snapshot: Snapshot) -> Survivors:
    """Return all sampled documents as rows of the corpus."""
    masks = {}
    for place, shard in enumerate(snapshot.shards):
        mask = np.zeros(shard.rows, np.bool_)
        for documents in sampled.values():
            mask[documents.of_shard(place)] = True
        masks[shard.digest] = mask
    return Survivors(snapshot.corpus, snapshot.shards, lambda shard: masks[shard.digest])


def _vectors(work: Work, column: Column, survivors: Survivors) -> tuple[npt.NDArray[np.int64], Float32s]:
    """Return the places of the documents, ascending, and their vectors, each of length 1 or 0."""
    places, found = [np.empty(0, np.int64)], []
    for place, shard in enumerate(survivors.shards):
        rows = np.flatnonzero(survivors.mask(shard)).astype(np.int64)
        table = read_values(work.lake, column.key, shard, rows, column.feature.columns)
        places.append((np.int64(place) << PLACE_BITS) | rows)
        found.append(unit_rows(table.column("vector"))[0])
    return np.concatenate(places), np.concatenate(found) if found else np.empty((0, 0), np.float32)
