"""What a cut reads: its rule with the budget as a number, and the scores of a step as parts, shard by shard."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.budget import CutRule, Part, Parts
from ..storage.errors import ConfigError
from ..storage.plugins import nearest
from ..storage.shards import Shard
from ..storage.survivors import Survivors
from .engine import Threads
from .expressions import meta_values
from .measuring import tokens_of
from .scoring import Scored
from .step_entries import CutEntry
from .work import Work

NOT_ELIGIBLE = "not eligible"


def resolve_rule(
    work: Work, cut: CutEntry, survivors: Survivors, corpus: Survivors, per: str | None = None
) -> tuple[CutRule, dict[str, Any] | None]:
    """Return the rule with its budget as a number, and that budget as people read it; `per` is the selector's own."""
    budget = asked = None
    if cut.budget:
        unit, amount = cut.budget.unit, cut.budget.amount
        if isinstance(amount, float):
            whole = _total(work, unit, survivors if cut.budget.of == "step" else corpus)
            amount = math.floor(whole * amount + 1e-9)
        budget, asked = amount, {"unit": unit, "amount": amount}
    rule = CutRule(
        by=cut.by, temperature=cut.temperature, min_score=cut.min_score, percent=cut.percent, budget=budget,
        shares=cut.shares, per=(per or cut.per) is not None, redistribute=cut.redistribute,
    )  # fmt: skip
    return rule, asked


def _total(work: Work, unit: str, survivors: Survivors) -> int:
    """Return the documents, tokens or bytes of a set."""
    return sum(
        int(_weights(work, unit, s, np.flatnonzero(survivors.mask(s)).astype(np.int64)).sum()) for s in survivors.shards
    )


def _weights(work: Work, unit: str, shard: Shard, rows: Any) -> Any:
    if unit == "tokens":
        return tokens_of(work, shard, rows)
    if unit == "bytes":
        return shard.read_column("n_bytes").to_numpy()[rows]
    return np.ones(rows.size, dtype=np.int64)


class Streams:
    """The scores of a step as the parts of a cut, in shard order."""

    def __init__(self, work: Work, cut: CutEntry, scored: Scored) -> None:
        self._work, self._scored = work, scored
        self._per = scored.selector.per or cut.per
        self._unit = cut.budget.unit if cut.budget else "documents"

    def parts(self, column: str) -> Parts:
        """Return what streams one score column again and again.

        A pass takes the time of reading, which threads share; two parts a worker are read ahead.
        """
        reading = Threads(self._work.engine.workers)
        return lambda: reading.map(lambda shard: self.part(shard, column), self._scored.reader.survivors.shards)

    def part(self, shard: Shard, column: str = "score") -> Part:
        """Return one score column of a shard."""
        table = self._scored.table(shard)
        if column not in table.column_names:
            raise ConfigError(f"no score column {column!r}{nearest(column, table.column_names)}")
        rows = table.column("row").to_numpy()
        score = table.column(column).combine_chunks()

        def doc_ids(places: Any) -> list[str]:
            ids: list[str] = shard.read_column("doc_id").take(pa.array(rows[places])).to_pylist()
            return ids

        return Part(
            shard=shard.digest,
            row=rows,
            doc_key=table.column("doc_key").to_numpy(),
            score=pc.fill_null(score, math.nan).to_numpy(zero_copy_only=False).astype(np.float64),
            eligible=score.is_valid().to_numpy(zero_copy_only=False),
            weight=_weights(self._work, self._unit, shard, rows),
            group=self._groups(shard, table, rows),
            doc_ids=doc_ids,
        )

    def not_eligible(self, shard: Shard) -> pa.Array:
        """Return why the selector would not have a document, where it said so."""
        table = self._scored.table(shard)
        given = table.column("reason").combine_chunks() if "reason" in table.column_names else None
        return (
            pa.repeat(pa.scalar(NOT_ELIGIBLE), table.num_rows) if given is None else pc.fill_null(given, NOT_ELIGIBLE)
        )

    def _groups(self, shard: Shard, table: pa.Table, rows: Any) -> pa.Array | None:
        per = self._per
        if per is None:
            return None
        if per == "source":
            return shard.read_column("source").take(pa.array(rows))
        if per.startswith("meta."):
            return meta_values(shard.read_column("meta").take(pa.array(rows)), per)
        if per in table.column_names:
            return table.column(per).combine_chunks()
        known = ["source", "meta.<key>", *table.column_names]
        raise ConfigError(f"cut: per: {per!r} is no column{nearest(per, known)}")
