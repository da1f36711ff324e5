"""Numbers that say whether a selection followed content or something else."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..selectors.keyed import stream_key, uniform
from .scoring import Scored

SAMPLED_DOCUMENTS = 100_000


def length_correlation(scored: Scored) -> dict[str, float]:
    """Return Spearman's rank correlation of each score and length in bytes, over a keyed sample of the documents."""
    survivors = scored.reader.survivors
    share = SAMPLED_DOCUMENTS / max(1, survivors.n_documents)
    key = stream_key(0, "health", "sample")
    sampled = []
    for shard in survivors.shards:
        table = scored.table(shard)
        inside = uniform(table.column("doc_key").to_numpy(), key) < share
        sizes = pa.array(shard.read_column("n_bytes").to_numpy()[table.column("row").to_numpy()])
        sampled.append(table.append_column("n_bytes", sizes).filter(pa.array(inside)))
    if not sampled:
        return {}
    whole = pa.concat_tables(sampled)
    names = [n for n in whole.column_names if n == "score" or n.startswith("score_")]
    return {f"correlation{n.removeprefix('score')}_with_length": _correlation(whole, n) for n in names}


def _correlation(table: pa.Table, column: str) -> float:
    score, size = table.column(column).to_numpy(), table.column("n_bytes").to_numpy()
    there = ~np.isnan(score)
    return spearman(score[there], size[there])


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
