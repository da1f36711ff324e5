"""Numbers that say whether a selection followed content or something else."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.budget import Cut, Parts, group_codes, in_pool
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


def effective_size(parts: Parts, cut: Cut, log_weights: bool) -> float | None:
    """Return (sum w)^2 / sum w^2 (Kish): how many documents the whole weight lies on, 0 where there is none.

    A Gumbel cut draws with the weights w = exp(score / temperature). Of other cuts w = exp(score) where the selector
    says that its scores are logarithms of weights (`log_weights`), else None. Of a cut per group it is the groups' sum,
    because each is drawn by itself.
    """
    rule = cut.rule
    if rule.by != "gumbel" and not log_weights:
        return None
    temperature = rule.temperature if rule.by == "gumbel" else 1.0
    codes = {name: code for code, name in enumerate(cut.edges)}
    top = np.full(len(codes), -math.inf)
    total, squares = np.zeros(len(codes)), np.zeros(len(codes))
    for part in parts():
        code = group_codes(part, rule, codes)
        there = in_pool(part, rule) & np.isfinite(part.score) & (code >= 0)
        score, code = part.score[there], code[there]
        new = top.copy()
        np.maximum.at(new, code, score)
        with np.errstate(over="ignore"):  # a difference divided by a tiny temperature: its weight is 0
            w = np.exp((score - new[code]) / temperature)
            fall = np.exp(np.subtract(top, new, out=np.zeros_like(top), where=top > -math.inf) / temperature)
        total = total * fall + np.bincount(code, w, len(codes))
        squares = squares * fall**2 + np.bincount(code, w * w, len(codes))
        top = new
    seen = squares > 0
    return float((total[seen] ** 2 / squares[seen]).sum())


def score_counts(tables: Iterable[pa.Table], column: str) -> dict[str, int]:
    """Return how many documents have a score, and of how many it is NaN."""
    documents = nan = 0
    for table in tables:
        scores = table.column(column).drop_null()
        documents += len(scores)
        nan += pc.sum(pc.is_nan(scores)).as_py() or 0
    return {"documents": documents, "nan": nan}
