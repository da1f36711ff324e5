"""The select step: score, cut within the budget, rank, and say how far the result can be trusted."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..features.base import Feature
from ..selectors.base import Choice
from ..selectors.budget import Cut, CutRule, Part, Parts, group_codes
from ..selectors.ranks import Placed, ranks
from ..storage.errors import ConfigError
from ..storage.fingerprint import fingerprint
from ..storage.plugins import nearest
from ..storage.selections import SelectionWriter, Verdicts, load_selection
from ..storage.shards import Shard
from ..storage.survivors import Survivors, selected
from .cluster_pictures import picture_clusters
from .config import CutEntry, SelectStep
from .expressions import meta_values
from .health import length_correlation
from .measuring import measure, tokens_column, tokens_of
from .plugins import make_selector, naming
from .refining import Refined, Rounds, refine_recipe
from .round_scores import RoundScores, round_scores, scores_of_rounds
from .runs import Stage
from .scoring import Scored, score_step, score_tables
from .selector_inputs import SelectorInputs, selector_inputs
from .work import Work

GROUPS_OF_A_CUT = 1 << 32
NOT_ELIGIBLE = "not eligible"


def chooser(step: SelectStep, features: Mapping[str, Feature]) -> SelectorInputs:
    """Return the checked selector of a step, with what it reads. Raises ConfigError."""
    with naming(f"step {step.name!r}"):
        selector = make_selector("select", step.select, step.parameters, features)
    if selector.needs_target and not step.target:
        raise ConfigError(f"step {step.name!r}: {step.select} needs a `target`")
    if step.target and not selector.needs_target:
        raise ConfigError(f"step {step.name!r}: {step.select} takes no `target`")
    if selector.per and step.cut.per not in (None, selector.per):
        raise ConfigError(
            f"step {step.name!r}: cut: per is {step.cut.per!r}, but {step.select} divides the budget by its own column "
            f"{selector.per!r}; leave `per` out"
        )
    if selector.per and step.cut.shares:
        raise ConfigError(f"step {step.name!r}: cut: {step.select} gives out the shares itself; leave `shares` out")
    round_scores(step, selector, features)
    return selector_inputs(selector, features, f"step {step.name!r}: select: {step.select}")


def run_select(
    work: Work, step: SelectStep, survivors: Survivors, corpus: Survivors, targets: Mapping[str, Survivors]
) -> dict[str, Any]:
    """Apply a selector; return the manifest of the selection. `corpus` is what the flow began with."""
    inputs = chooser(step, work.features)
    wanted = {name: (weight, targets[name]) for name, weight in step.target.items()}
    scored = score_step(work, step.name, inputs, survivors, wanted)
    recipe: dict[str, Any] = {
        "corpus": survivors.corpus,
        "scores": scored.key,
        "cut": step.cut.model_dump(),
        "tokens": tokens_column(work).key,
        "of": corpus.digest if step.cut.budget and step.cut.budget.of == "corpus" else None,
    }
    scores = scores_of_rounds(work, step, inputs.selector)
    if step.refine and scores:
        recipe["refine"] = refine_recipe(step.refine, scores)
    key = fingerprint(recipe)
    if manifest := load_selection(work.lake, key):
        work.stage(f"cut {step.name}", lambda stage: stage.reuse(1))
    else:
        measure(work, corpus, tokens_column(work))
        refined = _refined(work, step, scores, scored, corpus, key)
        manifest = work.stage(f"cut {step.name}", partial(_cut, work, step, scored, corpus, refined, key, recipe))
    return picture_clusters(work, step.name, scored, manifest)


def _refined(
    work: Work, step: SelectStep, scores: RoundScores | None, scored: Scored, corpus: Survivors, key: str
) -> Refined | None:
    """Return what the rounds of a step chose, None where it has none."""
    if step.refine is None or scores is None:
        return None
    streams, survivors = _Streams(work, step.cut, scored), scored.reader.survivors

    def rule() -> CutRule:
        return resolve_rule(work, step.cut, survivors, corpus, scored.selector.per)[0]

    return Rounds(work, step.name, step.refine, scores, scored, streams.part, rule, key).run()


def _cut(
    work: Work, step: SelectStep, scored: Scored, corpus: Survivors, refined: Refined | None, key: str,
    recipe: Mapping[str, Any], stage: Stage,
) -> dict[str, Any]:  # fmt: skip
    stage.computed = 1
    survivors = scored.reader.survivors
    rule, asked = resolve_rule(work, step.cut, survivors, corpus, scored.selector.per)
    streams = _Streams(work, step.cut, scored)
    if refined:
        choice = Choice({"score": refined.cuts[-1]})
    else:
        choice = scored.selector.select(streams.parts, scored.state, rule, work.draw(step.name))
    writer = SelectionWriter(work.lake, key, step.name, survivors.corpus)
    for shard, verdicts in _verdicts(work, streams, choice, survivors):
        writer.write(shard, verdicts, tokens_of(work, shard, verdicts.row))
        if refined:
            refined.publish_numbers(work.lake, key, shard, streams.part(shard))
    chosen = replace(scored.reader, survivors=selected(work.lake, survivors.corpus, survivors.shards, key))
    health = length_correlation(scored) | scored.selector.health(
        scored.state, lambda: score_tables(scored), chosen.batches
    )
    if all(_without_numbers(scored, name) for name in choice.cuts):
        work.log.warn(
            f"step {step.name}: no document has a number as its score, so the choice goes by the order of the ids; "
            "look at the selector's parameters"
        )
    cuts = {name: _cut_json(cut) for name, cut in choice.cuts.items()}
    shortfall = sum(cut.shortfall for cut in choice.cuts.values())
    return writer.finish(
        recipe, kind="select", selector=scored.recipe["selector"], scored=dict(scored.recipe),
        budget=asked, divided=scored.selector.per is not None, cuts=cuts, shortfall=shortfall, health=health,
        **({"rounds": refined.about()} if refined else {}),
        **choice.stated,
    )  # fmt: skip


def _without_numbers(scored: Scored, column: str) -> bool:
    """Say whether documents have scores, and none of them is a number."""
    n_scores = n_numbers = 0
    for table in score_tables(scored):
        scores = table.column(column).drop_null()
        n_scores += len(scores)
        n_numbers += pc.sum(pc.invert(pc.is_nan(scores))).as_py() or 0
        if n_numbers:
            return False
    return n_scores > 0


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


class _Streams:
    """The scores of a step as the parts of a cut, in shard order."""

    def __init__(self, work: Work, cut: CutEntry, scored: Scored) -> None:
        self._work, self._scored = work, scored
        self._per = scored.selector.per or cut.per
        self._unit = cut.budget.unit if cut.budget else "documents"

    def parts(self, column: str) -> Parts:
        """Return what streams one score column again and again."""
        return lambda: (self.part(shard, column) for shard in self._scored.reader.survivors.shards)

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


@dataclass(frozen=True)
class _Decided:
    """What the cuts decided about the rows of a shard, and the order that each row was judged in."""

    placed: Placed
    copies: Any
    score: pa.Array
    cut_group: pa.Array | None


def _decided(streams: _Streams, choice: Choice) -> Iterator[_Decided]:
    """Yield each shard's decisions: a row belongs to the first cut that chose it, or to the last."""
    for parts in zip(*(streams.parts(column)() for column in choice.cuts), strict=True):
        shape = parts[0].row.size
        kept, copies = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int32)
        keys, score = np.full(shape, math.nan), np.full(shape, math.nan)
        group, has_score = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
        for number, (part, cut) in enumerate(zip(parts, choice.cuts.values(), strict=True)):
            left = replace(part, eligible=part.eligible & ~kept)
            new = cut.copies(left)
            mine = left.eligible
            keys[mine], score[mine] = cut.keys(left)[mine], part.score[mine]
            group[mine] = number * GROUPS_OF_A_CUT + _group_codes(part, cut)[mine]
            has_score |= part.eligible
            copies += new
            kept |= new > 0
        named = _group_names(parts[0], cut) if choice.stated else None
        yield _Decided(Placed(parts[0], keys, group), copies, pa.array(score, mask=~has_score), named)


def _group_codes(part: Part, cut: Cut) -> Any:
    """Return a small number for the group of each row."""
    return group_codes(part, cut.rule, {name: code for code, name in enumerate(cut.edges)})


def _group_names(part: Part, cut: Cut) -> pa.Array:
    """Return the name of each row's group; null for the code -1 of a row in none."""
    return pa.array([*cut.edges, None], pa.string()).take(pa.array(_group_codes(part, cut) % (len(cut.edges) + 1)))


def _verdicts(work: Work, streams: _Streams, choice: Choice, survivors: Survivors) -> Iterator[tuple[Shard, Verdicts]]:
    """Yield what the cuts decided, shard by shard."""
    placed = ranks(
        work.lake, lambda: (d.placed for d in _decided(streams, choice)), len(survivors.shards), survivors.n_documents
    )
    for shard, decided, rank in zip(survivors.shards, _decided(streams, choice), placed, strict=True):
        why_not = pc.if_else(decided.score.is_valid(), pa.scalar("below the cut"), streams.not_eligible(shard))
        kept = decided.copies > 0
        reason = pc.if_else(pa.array(kept), pa.scalar(None, pa.string()), why_not)
        yield shard, Verdicts(
            decided.placed.part.row, kept, reason=reason, score=decided.score, rank=rank, copies=decided.copies,
            cut_group=decided.cut_group,
        )  # fmt: skip


def _cut_json(cut: Cut) -> dict[str, Any]:
    """Return what people ask about a cut: what was asked, what there was, what was taken."""
    groups = [{k: v for k, v in asdict(g).items()} for g in cut.groups]
    whole = {n: getattr(cut, n) for n in ("n_seen", "n_eligible", "n_kept", "weight_kept", "weight_seen", "shortfall")}
    return {**whole, "groups": groups}
