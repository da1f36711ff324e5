"""The cluster of a document, and what else is in it: what a choice by clusters says of one document.

Cosines of neighbours are float32 products, to look at; what was decided by cosines was decided exactly (`nearest`).
"""

from collections.abc import Callable
from heapq import nlargest

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from .base import Around
from .clustering import vector_column
from .clusters import ClusterState
from .reasons import Parts, Reason, not_scored
from .vectors import unit_rows

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]


def cluster_reasons(
    batch: pa.RecordBatch, state: ClusterState, scores: pa.Table, around: Around, feature: Feature, by: str = "cluster"
) -> list[Reason | None]:
    """Return the cluster of each document and its nearest neighbours in it; `by` is the score column of the clusters.

    A part has `doc_id`, `shard`, `row`, `kept` and `cosine`, the nearest first. None has a share of the score.
    """
    distance = scores.column("distance").to_pylist()
    cluster = [None if d is None else int(c) for c, d in zip(scores.column(by).to_pylist(), distance, strict=True)]
    wanted = np.unique([number for number in cluster if number is not None]).astype(np.int64)
    counts = np.zeros((2, max(1, len(state.centroids))), np.int64)

    def where(table: pa.Table) -> Bools:
        there: Bools = np.asarray(table.column("distance").combine_chunks().is_valid())
        number, kept = table.column(by).to_numpy(), table.column("kept").to_numpy()
        for total, mask in zip(counts, (there, there & kept), strict=True):
            total += np.bincount(number[mask].astype(np.int64), minlength=len(total))
        return there & np.isin(number, wanted)

    near = _nearest(batch, cluster, around, where, feature, by)
    found: list[Reason | None] = []
    for row, number in enumerate(cluster):
        if number is None:
            found.append(not_scored("cluster", scores, row))
            continue
        found.append(Reason("cluster", _about(number, distance[row], counts[:, number].tolist(), state), near[row]))
    return found


def _nearest(
    batch: pa.RecordBatch, cluster: list[int | None], around: Around, where: Callable[[pa.Table], Bools],
    feature: Feature, by: str,
) -> list[Parts]:  # fmt: skip
    """Return for each document the others of its cluster with the largest cosines."""
    column = vector_column(feature)
    x, _ = unit_rows(batch.column(column))
    itself = list(zip(batch.column("shard").to_pylist(), batch.column("row").to_pylist(), strict=True))
    near: list[Parts] = [[] for _ in cluster]
    for shard, others, scores in around.pool(where):
        y, _ = unit_rows(others.column(column), x.shape[1])
        number, kept = scores.column(by).to_numpy(), scores.column("kept").to_numpy()
        rows = others.column("row").to_numpy()
        for document, mine in enumerate(cluster):
            if mine is None:
                continue
            beside = number == mine
            if itself[document][0] == shard:
                beside &= rows != itself[document][1]
            places = np.flatnonzero(beside)
            cosine = y[places] @ x[document]
            best = np.argsort(-cosine, kind="stable")[: around.most]
            fresh = [
                {
                    "doc_id": others.column("doc_id")[place].as_py(), "shard": shard, "row": int(rows[place]),
                    "kept": bool(kept[place]), "cosine": float(value),
                }
                for place, value in zip(places[best].tolist(), cosine[best].tolist(), strict=True)
            ]  # fmt: skip
            near[document] = nlargest(around.most, [*near[document], *fresh], key=lambda part: part["cosine"])
    return near


def _about(number: int, distance: float, counts: list[int], state: ClusterState) -> str:
    how = "1 - cosine" if state.spherical else "squared Euclidean"
    return (
        f"cluster {number} of {len(state.centroids):,}: {counts[0]:,} documents, {counts[1]:,} of them kept; it is "
        f"{distance:.4g} from the centre ({how}; on average, over all clusters, {state.mean_distance:.4g})"
    )
