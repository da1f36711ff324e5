"""The documents of a target whose vectors are nearest to a document's: what `target_similarity` compares with."""

from typing import Any

import numpy as np
import pyarrow as pa

from .base import Around, Target
from .reasons import Parts, Reason
from .vectors import unit_rows

SHOWN = 300
"""Characters of a target document."""


def nearest_of(x: Any, targets: tuple[Target, ...], column: str, most: int) -> list[Parts]:
    """Return for each row of x the target documents with the largest cosines (float32 products, to look at)."""
    best: list[Parts] = [[] for _ in x]
    for target in targets:
        for batch in target.batches():
            y, valid = unit_rows(batch.column(column), x.shape[1])
            cosine = np.where(valid, x @ y.T, -np.inf)
            order = np.argsort(-cosine, axis=1, kind="stable")[:, :most]
            for row, places in enumerate(order.tolist()):
                fresh = [_part(target, batch, place, float(cosine[row, place])) for place in places if valid[place]]
                best[row] = sorted([*best[row], *fresh], key=lambda part: -part["cosine"])[:most]
    return best


def _part(target: Target, batch: pa.RecordBatch, place: int, cosine: float) -> dict[str, Any]:
    text, doc_id = batch.column("text")[place].as_py(), batch.column("doc_id")[place].as_py()
    return {"text": text[:SHOWN], "doc_id": doc_id, "target": target.name, "cosine": cosine}


def neighbour_reason(
    parts: Parts, score: float, to_target: float, n: int, named: str, centroids: int | None, around: Around
) -> Reason:
    """Return the reason of a document with the nearest of the target's documents.

    `score` is its mean cosine to the target's n nearest, `to_target`, less that to the pool's sample, if there is one.
    A part's `weight` is its share of the score, cosine / n; without centroids those of all n and the pool's sum to it.
    """
    about = f"score {score:.4g} for {named}: mean cosine {to_target:.4g} to the nearest {n:,} of its "
    about += "documents" if centroids is None else f"{centroids:,} centroids (the documents are shown beside)"
    if score != to_target:
        about += f", less {to_target - score:.4g} to as many of the pool"
    if centroids is not None:
        return Reason("targets", about, parts)
    parts = [part | {"weight": part["cosine"] / n} for part in parts[: min(n, around.most)]]
    return Reason("targets", about, parts, [], score, score - sum(part["weight"] for part in parts))
