"""Where a document stood when its step cut: among whom, how far from the edge.

A step cuts each of its score columns, and perhaps inside it each group: numbers of other columns or groups would say
nothing of this document. Scores are counted shard by shard, so the memory is that of one shard.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.budget import value_codes
from ..selectors.reasons import judged_by
from ..selectors.registry import REGISTRY as SELECTORS
from ..storage.shards import Shard
from .expressions import meta_values
from .opened_steps import OpenedStep, Place

Bools = npt.NDArray[np.bool_]


def budget_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a step was told to cut, and into how many groups it did."""
    return {"budget": record.get("budget"), "groups": sum(len(cut["groups"]) for cut in record["cuts"].values())}


def cut_of(step: OpenedStep, place: Place, score: float) -> dict[str, Any]:
    """Return the cut that a document with this score met, in its own group where the budget was divided.

    `column` is the score that the document was judged by, `group` the value of the column that divided the budget of
    that cut (None: nothing did). Of the documents there, `ranked` had a chance, `kept` were taken, `quota` is the
    group's part of the budget, and `percentile` the share of those ranked with lower scores (of equal ones half; NaN is
    below all numbers). With `by: gumbel` scores are drawn, and a kept one may be below a dropped one. Raises TamisError
    where the result or the scores are not in the lake any more.
    """
    mine = _group_of(step, place)
    entry = next(g for g in step.record["cuts"][mine.column]["groups"] if mine.name in (None, g["name"]))
    ranked = below = equal = 0
    lowest = highest = np.nan
    for shard in step.run.shards.values():
        scores, kept = mine.scores(step, shard)
        nan = np.isnan(scores)
        lower, same = (np.zeros_like(nan), nan) if math.isnan(score) else (nan | (scores < score), scores == score)
        ranked, below, equal = ranked + len(scores), below + int(lower.sum()), equal + int(same.sum())
        lowest = np.fmin.reduce(scores[kept], initial=lowest)
        highest = np.fmax.reduce(scores[~kept], initial=highest)
    return budget_of(step.record) | {
        "by": step.manifest["recipe"]["cut"]["by"], "column": mine.column, "group": mine.name,
        "ranked": entry["n_eligible"], "kept": entry["n_kept"], "quota": entry["quota"],
        "percentile": 100 * (below + equal / 2) / ranked if ranked else None,
        "lowest_kept_score": _number(lowest), "highest_dropped_score": _number(highest),
    }  # fmt: skip


@dataclass(frozen=True)
class _Group:
    """The documents that a cut ranked together."""

    column: str
    columns: tuple[str, ...]
    """All that the step cut by, in order."""
    per: str | None
    name: str | None

    def scores(self, step: OpenedStep, shard: Shard) -> tuple[npt.NDArray[np.float64], Bools]:
        """Return the scores of those of a shard, and which of them this cut kept."""
        table = _scores(step, shard, self.columns)
        score, kept = table.column(self.column), table.column("kept").to_numpy()
        there: Bools = score.is_valid().to_numpy()
        for column in self.columns[: self.columns.index(self.column)]:  # what an earlier cut took, this one never saw
            there &= ~(kept & _equal(table.column(column), table.column("judged")))
        if self.column != self.columns[-1]:  # the last one has whatever is left
            kept = kept & _equal(score, table.column("judged"))
        if self.per is not None and self.name is not None:
            there &= value_codes(_values(step, shard, self.per, table.column("row")), {self.name: 0}) == 0
        numbers = pc.fill_null(score, np.nan).to_numpy().astype(np.float64)
        return numbers[there], kept[there]


def _group_of(step: OpenedStep, place: Place) -> _Group:
    """Return the group that a document was cut in."""
    columns = tuple(step.record["cuts"])
    shard = step.run.shards[place[0]]
    table = _scores(step, shard, columns)
    one = table.filter(pc.equal(table.column("row"), place[1]))
    column = judged_by(one, columns)[0] if len(columns) > 1 else columns[0]
    assert column is not None  # it has a score
    if len(step.record["cuts"][column]["groups"]) == 1:
        return _Group(column, columns, None, None)
    per: str = step.manifest["recipe"]["cut"]["per"] or SELECTORS.find(step.made_by["selector"]).per or ""
    codes: dict[str, int] = {}
    value_codes(_values(step, shard, per, one.column("row")), codes, learn=True)
    return _Group(column, columns, per, *codes)


def _scores(step: OpenedStep, shard: Shard, columns: tuple[str, ...]) -> pa.Table:
    """Return `row`, `kept`, the columns and, of several, `judged` of the documents of a shard that entered.

    One column is read from the verdicts, which outlive the scores.
    """
    if len(columns) > 1:
        return step.scores(shard)
    return step.verdicts(shard).rename_columns({"score": columns[0]})


def _values(step: OpenedStep, shard: Shard, per: str, row: pa.ChunkedArray) -> pa.Array:
    """Return the values of the column that divides a budget for some rows of a shard."""
    rows = row.combine_chunks()
    if per == "source":
        return shard.read_column("source").take(rows)
    if per.startswith("meta."):
        return meta_values(shard.read_column("meta").take(rows), per)
    scores = step.scores(shard)
    return scores.column(per).take(pc.index_in(rows, scores.column("row").combine_chunks())).combine_chunks()


def _equal(column: pa.ChunkedArray, other: pa.ChunkedArray) -> Bools:
    found: Bools = pc.fill_null(pc.equal(column, other), False).to_numpy()
    return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
