"""Documents whose vectors are near those of the target: the mean cosine to its nearest documents, or centroids.

The score that users of embeddings reach for first. The mean over a few nearest documents follows a target of several
parts; one centroid would fall between them. Centroids bound the cost for a large target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from ..storage.errors import ConfigError, SelectionError
from .base import Choice, Draw, Selector, Target
from .budget import CutRule, Parts
from .clustering import NO_VECTOR, Clustering, vector_column
from .keyed import uniform
from .kmeans_fit import fit_clusters
from .nearest import mean_of_nearest
from .target_shares import cut_by_target, proportions, score_columns
from .vectors import unit_rows


@dataclass(frozen=True)
class TargetVectors:
    """The vectors of the targets, or of their centroids, one target after the other."""

    names: tuple[str, ...]
    proportions: tuple[float, ...]
    vectors: npt.NDArray[np.float32]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class TargetSimilarity(Selector):
    """Choose the documents whose vectors are nearest to the target's.

    `vectors` names a feature with vectors.
    """

    name = "target_similarity"
    version = 1
    needs_target = True
    state_type = TargetVectors

    vectors: Feature
    """Name of the feature whose vectors are compared."""
    neighbours: int = 10
    """Nearest documents of the target, or centroids, that the score is the mean over."""
    centroids: int | None = None
    """Compare with so many centroids of the target (spherical k-means) instead of its documents."""
    targets: Literal["separate", "joint"] = "separate"
    """Several targets: a score and a share of the budget each; or one score over the documents of all."""

    def __post_init__(self) -> None:
        if self.neighbours < 1 or (self.centroids is not None and self.centroids < 1):
            raise ConfigError(
                f"target_similarity: neighbours is {self.neighbours} and centroids is {self.centroids}; "
                "expected 1 or more"
            )
        vector_column(self.vectors)

    @property
    def needs(self) -> tuple[Feature, ...]:
        """The vectors."""
        return (self.vectors,)

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> TargetVectors:
        """Return the targets' vectors. Raises SelectionError where a target has none."""
        found = [self._of(target, draw) for target in targets]
        sizes = [len(x) for x in found]
        if self.targets == "joint":
            return TargetVectors(("all",), (1.0,), np.concatenate(found), (sum(sizes),))
        shares = proportions(self.name, [t.weight for t in targets], sizes)
        ends = tuple(np.cumsum(sizes).tolist())
        return TargetVectors(tuple(t.name for t in targets), shares, np.concatenate(found), ends)

    def _of(self, target: Target, draw: Draw) -> npt.NDArray[np.float32]:
        pieces, keys = [], []
        for batch in target.batches():
            x, valid = unit_rows(batch.column(vector_column(self.vectors)))
            pieces.append(x[valid])
            keys.append(batch.column("doc_key").to_numpy()[valid])
        x, key = np.concatenate(pieces), np.concatenate(keys)
        if not len(x):
            raise SelectionError(f"target_similarity: no document of the target {target.name!r} has a vector")
        order = np.lexsort((key, uniform(key, draw(f"sample/{target.name}"))))
        if self.centroids is None:
            return x[order]
        settings = Clustering(count=self.centroids, spherical=True)
        order = order[: settings.sample_size]
        return fit_clusters(
            x[order], key[order], self.centroids, spherical=True, max_iter=settings.iterations,
            key=draw(f"clusters/{target.name}"),
        ).centroids  # fmt: skip

    def score(self, batch: pa.RecordBatch, state: TargetVectors) -> pa.Table:
        """Return one score a target: the mean cosine to its nearest vectors."""
        x, valid = unit_rows(batch.column(vector_column(self.vectors)))
        starts = (0, *state.ends[:-1])
        columns = {
            name: pa.array(mean_of_nearest(x, state.vectors[start:end], self.neighbours), mask=~valid)
            for name, start, end in zip(score_columns(state.names), starts, state.ends, strict=True)
        }
        return pa.table({**columns, "reason": pa.array(np.where(valid, "", NO_VECTOR), pa.string(), mask=valid)})

    def select(self, parts: Callable[[str], Parts], state: TargetVectors, rule: CutRule, draw: Draw) -> Choice:
        """Cut once for each target with its share of the budget; a document goes to the first target that takes it."""
        return cut_by_target(parts, state.names, state.proportions, rule, draw)
