"""Where a document stood when its step cut: among whom, how far from the edge."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.reasons import judged_by
from ..storage.errors import TamisError
from ..storage.shards import Shard
from .expressions import meta_values
from .opened_steps import OpenedStep, Place

Bools = npt.NDArray[np.bool_]


def cut_of(step: OpenedStep, place: Place, score: float) -> dict[str, Any]:
    """Return the cut that a document with this score met, in its own group where the budget was divided.

    `ranked` documents were in it, `percentile` is the share of them with lower scores (of equal ones half), `group` its
    name, `budget` that of the step and `quota` what of it was the group's. With `by: gumbel` scores are drawn, and a
    kept one may be below a dropped one. Raises TamisError where the result is not in the lake any more.
    """
    every = [_Numbers(step, shard) for shard in step.run.shards.values()]
    groups = [group for cut in step.record["cuts"].values() for group in cut["groups"]]
    said: dict[str, Any] = {
        "by": step.manifest["recipe"]["cut"]["by"], "budget": step.record.get("budget"), "groups": len(groups),
        "ranked": sum(group["n_eligible"] for group in groups),
    }  # fmt: skip
    try:
        names = [_groups(step, shard) for shard in step.run.shards.values()] if len(groups) > 1 else []
    except TamisError:  # the scores are gone: what is left is the whole
        names = []
    if names:
        at = [*step.run.shards].index(place[0])
        mine = names[at][int(np.searchsorted(every[at].row, place[1]))]
        for numbers, of_shard in zip(every, names, strict=True):
            numbers.keep(of_shard == mine)
        said |= _group(step, str(mine))
    scores = np.concatenate([numbers.score for numbers in every])
    kept = np.concatenate([numbers.kept for numbers in every])
    below, equal = np.count_nonzero(scores < score), np.count_nonzero(scores == score)
    said["lowest_kept_score"] = float(scores[kept].min()) if kept.any() else None
    said["highest_dropped_score"] = float(scores[~kept].max()) if not kept.all() else None
    said["percentile"] = 100 * (below + equal / 2) / len(scores) if len(scores) else None
    return said


class _Numbers:
    """The scores of a shard that are numbers."""

    def __init__(self, step: OpenedStep, shard: Shard) -> None:
        table = step.verdicts(shard)
        self.row = table.column("row").to_numpy()
        score = pc.fill_null(table.column("score"), float("nan")).to_numpy()
        self._there: Bools = ~np.isnan(score)
        self.score, self.kept = score[self._there], table.column("kept").to_numpy()[self._there]

    def keep(self, rows: Bools) -> None:
        """Narrow to some of the shard's rows that entered."""
        inside = rows[self._there]
        self.score, self.kept = self.score[inside], self.kept[inside]


def _group(step: OpenedStep, name: str) -> dict[str, Any]:
    """Return what the record says of a group."""
    cuts = step.record["cuts"]
    own = cuts[name]["groups"] if name in cuts and len(cuts) > 1 else []
    found = own or [g for cut in cuts.values() for g in cut["groups"] if g["name"] == name]
    if len(found) != 1:
        return {"group": name}
    return {"group": name, "ranked": found[0]["n_eligible"], "quota": found[0]["quota"], "of_group": found[0]["n_kept"]}


def _groups(step: OpenedStep, shard: Shard) -> npt.NDArray[Any]:
    """Return the group of each document of a shard that entered, or the score column that it was judged by."""
    cuts = [*step.record["cuts"]]
    if len(cuts) > 1:
        return np.array([name or "" for name in judged_by(step.scores(shard), cuts)], object)
    per = step.selector.per or step.manifest["recipe"]["cut"]["per"]
    rows = pa.array(step.verdicts(shard).column("row").to_numpy())
    if per == "source":
        column: Any = shard.read_column("source").take(rows)
    elif per.startswith("meta."):
        column = meta_values(shard.read_column("meta").take(rows), per)
    else:
        column = step.scores(shard).column(per)
    return np.array([str(value) for value in column.to_pylist()], object)
