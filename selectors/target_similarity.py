"""Documents whose vectors are nearer to the target's than to the pool's.

The score that users of embeddings reach for first is the mean cosine to the nearest documents of the target
(`score: cosine`). But some documents are near to everything. So by default (`contrast`) what counts is that mean less
the mean cosine to as many nearest documents of a random sample of the pool: of what was chosen at 5% of the tokens for
four targets, 0.83 of the tokens were of the target's domain with all-MiniLM's vectors, 0.69 without the contrast
(`tests/benchmarks/selector_shares.py`; `neighbours` was chosen there).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from ..storage.errors import ConfigError, SelectionError
from .base import Around, Choice, Draw, Selector, Target
from .budget import CutRule, Parts
from .clustering import NO_VECTOR, Clustering, vector_column
from .keyed import uniform
from .kmeans_fit import fit_clusters
from .nearest import mean_of_nearest
from .nearest_kernels import squared_lengths
from .neighbour_reasons import nearest_of, neighbour_reason
from .reasons import Reason, judged_by, not_scored
from .target_shares import cut_by_target, proportions, score_columns
from .vectors import unit_rows

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TargetVectors:
    """The vectors of the targets, or of their centroids, one target after the other, and those of the pool's sample."""

    names: tuple[str, ...]
    proportions: tuple[float, ...]
    vectors: npt.NDArray[np.float32]
    ends: tuple[int, ...]
    """Where each target's vectors end; what follows is the pool's."""
    pool_keys: npt.NDArray[np.uint64]
    """Of the documents of the pool's sample, ascending."""


@dataclass(frozen=True)
class TargetSimilarity(Selector):
    """Choose the documents whose vectors are near to the target's.

    `vectors` names a feature with vectors.
    """

    name = "target_similarity"
    version = 1
    needs_target = True
    fit_parameters = ("score_by", "centroids", "pool_sample", "targets")
    state_type = TargetVectors

    vectors: Feature
    """Name of the feature whose vectors are compared."""
    score_by: Literal["contrast", "cosine"] = "contrast"
    """cosine: the mean cosine to the nearest documents of the target; contrast: less that to as many of the pool."""
    neighbours: int = 100
    """So many nearest documents of the target; all, if it has fewer."""
    centroids: int | None = None
    """Compare with so many centroids (spherical k-means) of the target, and of the pool, instead of documents."""
    pool_sample: int = 2_000
    """contrast: documents of the pool that the others are compared with."""
    targets: Literal["separate", "joint"] = "separate"
    """Several targets: a score and a share of the budget each; or one score over the documents of all."""

    def __post_init__(self) -> None:
        counts = {"neighbours": self.neighbours, "centroids": self.centroids, "pool_sample": self.pool_sample}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ConfigError(f"target_similarity: {name} is {value}, expected 1 or more")
        vector_column(self.vectors)

    @property
    def sample_size(self) -> int:
        """Documents of the pool that the others are compared with."""
        return self.pool_sample if self.score_by == "contrast" else 0

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> TargetVectors:
        """Return the vectors of targets and pool. Raises SelectionError where a target has none."""
        found: list[Float32s] = []
        for target in targets:
            x = self._of(target.name, target.batches(), draw, found[0].shape[1] if found else None)
            if not len(x):
                raise SelectionError(f"target_similarity: no document of the target {target.name!r} has a vector")
            found.append(x)
        names, d = tuple(t.name for t in targets), found[0].shape[1]
        shares = proportions(self.name, [t.weight for t in targets], [len(x) for x in found])
        if self.targets == "joint":
            names, shares, found = ("all",), (1.0,), [np.concatenate(found)]
        pool, keys = np.empty((0, d), np.float32), np.empty(0, np.uint64)
        if summary is not None:
            pool, keys = self._of("", [summary], draw, d), np.sort(summary.column("doc_key").to_numpy())
        ends = tuple(np.cumsum([len(x) for x in found]).tolist())
        return TargetVectors(names, shares, np.concatenate([*found, pool]), ends, keys)

    def _of(self, name: str, batches: Iterable[pa.RecordBatch], draw: Draw, d: int | None) -> Float32s:
        """Return the vectors of some documents in an order by their keys, or their centroids; none where none has."""
        pieces, key = [], np.empty(0, np.uint64)
        for batch in batches:
            x, valid = unit_rows(batch.column(vector_column(self.vectors)), d)
            if valid.any():
                pieces.append(x[valid])
                key = np.concatenate([key, batch.column("doc_key").to_numpy()[valid]])
                d = x.shape[1]
        if not pieces:
            return np.empty((0, d or 0), np.float32)
        x = np.concatenate(pieces)
        order = np.lexsort((key, uniform(key, draw(f"order/{name}"))))
        if self.centroids is None:
            return x[order]
        settings = Clustering(count=self.centroids, spherical=True)
        order = order[: settings.sample_size]
        return fit_clusters(
            x[order], key[order], self.centroids, spherical=True, max_iter=settings.iterations,
            key=draw(f"clusters/{name}"),
        ).centroids  # fmt: skip

    def score(self, batch: pa.RecordBatch, state: TargetVectors) -> pa.Table:
        """Return one score a target."""
        x, valid = unit_rows(batch.column(vector_column(self.vectors)), state.vectors.shape[1])
        columns = {}
        for name, start, end in zip(score_columns(state.names), (0, *state.ends[:-1]), state.ends, strict=True):
            n = min(self.neighbours, end - start)
            score = mean_of_nearest(x, state.vectors[start:end], n)
            if len(state.vectors) > state.ends[-1]:
                score = score - self._to_the_pool(x, batch.column("doc_key").to_numpy(), state, n)
            columns[name] = pa.array(score, mask=~valid)
        return pa.table({**columns, "reason": pa.array(np.where(valid, "", NO_VECTOR), pa.string(), mask=valid)})

    def reasons(
        self, batch: pa.RecordBatch, state: TargetVectors, scores: pa.Table, around: Around
    ) -> list[Reason | None]:
        """Say which documents of the target are nearest."""
        column, columns = vector_column(self.vectors), score_columns(state.names)
        x, _ = unit_rows(batch.column(column), state.vectors.shape[1])
        found: list[Reason | None] = [not_scored("targets", scores, row) for row in range(len(x))]
        judged, given = judged_by(scores, columns), around.targets()
        for name, own, start, end in zip(state.names, columns, (0, *state.ends[:-1]), state.ends, strict=True):
            rows = [row for row, other in enumerate(judged) if other == own]
            n = min(self.neighbours, end - start)
            near = mean_of_nearest(x[rows], state.vectors[start:end], n).tolist()
            targets = tuple(t for t in given if len(state.names) == 1 or t.name == name)
            parts = nearest_of(x[rows], targets, column, around.most)
            for place, row in enumerate(rows):
                score = scores.column(own)[row].as_py()
                found[row] = neighbour_reason(parts[place], score, near[place], n, name, self.centroids, around)
        return found

    def _to_the_pool(self, x: Float32s, keys: npt.NDArray[np.uint64], state: TargetVectors, n: int) -> Float64s:
        """Return the mean cosine to the n nearest of the pool's sample, which for its own documents are others."""
        pool = state.vectors[state.ends[-1] :]
        found = mean_of_nearest(x, pool, n)
        mine = np.isin(keys, state.pool_keys)
        if self.centroids is None and mine.any() and len(pool) > 1:
            n = min(n, len(pool) - 1)
            itself = np.empty(np.count_nonzero(mine))
            squared_lengths(x[mine], itself)
            found[mine] = (mean_of_nearest(x[mine], pool, n + 1) * (n + 1) - itself) / n
        return found

    def select(self, parts: Callable[[str], Parts], state: TargetVectors, rule: CutRule, draw: Draw) -> Choice:
        """Cut once for each target with its share of the budget; a document goes to the first target that takes it."""
        return cut_by_target(parts, state.names, state.proportions, rule, draw)
