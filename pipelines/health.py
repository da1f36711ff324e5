"""Numbers that say whether a selection followed content or something else."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..selectors.keyed import stream_key, uniform
from .scoring import Scored

SAMPLED_DOCUMENTS = 100_000


def length_correlation(scored: Scored) -> dict[str, float]:
    """Return Spearman's rank correlation of score and length in bytes, over a keyed sample of the scored documents."""
    survivors = scored.reader.survivors
    share = SAMPLED_DOCUMENTS / max(1, survivors.n_documents)
    key = stream_key(0, "health", "sample")
    scores, sizes = [np.empty(0)], [np.empty(0)]
    for shard in survivors.shards:
        table = scored.table(shard)
        if "score" not in table.column_names:
            return {}
        score = table.column("score").to_numpy()
        inside = ~np.isnan(score) & (uniform(table.column("doc_key").to_numpy(), key) < share)
        scores.append(score[inside])
        sizes.append(shard.read_column("n_bytes").to_numpy()[table.column("row").to_numpy()[inside]])
    return {"correlation_with_length": spearman(np.concatenate(scores), np.concatenate(sizes))}


def spearman(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> float:
    """Return Spearman's rho, ties at their mean rank; NaN where one side is constant or there are fewer than two."""
    if left.size < 2:
        return math.nan
    a, b = _mean_ranks(left), _mean_ranks(right)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def _mean_ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = (ends - (counts - 1) / 2)[place]
    return ranks
