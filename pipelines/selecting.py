"""The select step: score, cut within the budget, rank, and say how far the result can be trusted."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from ..features.base import Feature
from ..selectors.base import Choice
from ..selectors.budget import Cut, CutRule
from ..storage.errors import ConfigError
from ..storage.fingerprint import fingerprint
from ..storage.selections import SelectionWriter, load_selection, selection_bytes
from ..storage.survivors import Survivors, selected
from .cluster_pictures import picture_clusters
from .cut_inputs import Streams, resolve_rule
from .fitting import fit_step
from .health import effective_size, length_correlation, score_counts
from .measuring import measure, tokens_column, tokens_of
from .plugins import make_selector, naming
from .refining import Refined, Rounds, refine_recipe
from .refit_entry import check_refit
from .round_scores import RoundScores, round_scores, scores_of_rounds
from .runs import Stage
from .scoring import Scored, score_fitted, score_tables
from .selector_inputs import SelectorInputs, selector_inputs
from .step_entries import SelectStep
from .verdicts import decide
from .work import Work


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
    check_refit(selector, step.refit, f"step {step.name!r}")
    round_scores(step, selector, features)
    return selector_inputs(selector, features, f"step {step.name!r}: select: {step.select}")


def run_select(
    work: Work, step: SelectStep, survivors: Survivors, corpus: Survivors, targets: Mapping[str, Survivors]
) -> dict[str, Any]:
    """Apply a selector; return the manifest of the selection. `corpus` is what the flow began with."""
    inputs = chooser(step, work.features)
    wanted = {name: (weight, targets[name]) for name, weight in step.target.items()}
    fitted = fit_step(work, step.name, inputs, survivors, wanted, step.refit)
    scored = score_fitted(work, step.name, inputs, survivors, fitted)
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
    manifest = load_selection(work.lake, key)
    if not manifest or work.mending:
        measure(work, corpus, tokens_column(work))
        refined = _refined(work, step, scores, scored, corpus, key)
    if manifest:
        work.stage(f"cut {step.name}", lambda stage: stage.reuse(1))
    else:
        manifest = work.stage(f"cut {step.name}", partial(_cut, work, step, scored, corpus, refined, key, recipe))
    return {**picture_clusters(work, step.name, scored, manifest), "fit": dict(fitted.about)}


def _refined(
    work: Work, step: SelectStep, scores: RoundScores | None, scored: Scored, corpus: Survivors, key: str
) -> Refined | None:
    """Return what the rounds of a step chose, None where it has none."""
    if step.refine is None or scores is None:
        return None
    streams, survivors = Streams(work, step.cut, scored), scored.reader.survivors

    def rule() -> CutRule:
        return resolve_rule(work, step.cut, survivors, corpus, scored.selector.per)[0]

    return Rounds(work, step.name, step.refine, scores, scored, streams.part, rule, key).run()


def _cut(
    work: Work, step: SelectStep, scored: Scored, corpus: Survivors, refined: Refined | None, key: str,
    recipe: Mapping[str, Any], stage: Stage,
) -> dict[str, Any]:  # fmt: skip
    stage.computed = 1
    survivors = scored.reader.survivors
    work.expect(stage, selection_bytes(survivors))
    rule, asked = resolve_rule(work, step.cut, survivors, corpus, scored.selector.per)
    streams = Streams(work, step.cut, scored)
    if refined:
        choice = Choice({"score": refined.cuts[-1]})
    else:
        choice = scored.selector.select(streams.parts, scored.state, rule, work.draw(step.name))
    writer = SelectionWriter(work.lake, key, step.name, survivors.corpus)
    for shard, verdicts in decide(work, streams, choice, survivors):
        writer.write(shard, verdicts, tokens_of(work, shard, verdicts.row))
        if refined:
            refined.publish_numbers(work.lake, key, shard, streams.part(shard))
    chosen = replace(scored.reader, survivors=selected(work.lake, survivors.corpus, survivors.shards, key))
    health = length_correlation(scored)
    for name, cut in choice.cuts.items():
        if (found := effective_size(streams.parts(name), cut, scored.selector.log_weights)) is not None:
            health[f"effective_sample{name.removeprefix('score')}_size"] = found
    health |= scored.selector.health(scored.state, lambda: score_tables(scored), chosen.batches)
    cuts = {name: _cut_json(cut) for name, cut in choice.cuts.items()}
    shortfall = sum(cut.shortfall for cut in choice.cuts.values())
    return writer.finish(
        recipe, kind="select", selector=scored.recipe["selector"], scored=dict(scored.recipe),
        budget=asked, divided=scored.selector.per is not None, cuts=cuts, shortfall=shortfall, health=health,
        scores={name: score_counts(score_tables(scored), name) for name in choice.cuts},
        **({"rounds": refined.about()} if refined else {}),
        **choice.stated,
    )  # fmt: skip


def _cut_json(cut: Cut) -> dict[str, Any]:
    """Return what people ask about a cut: what was asked, what there was, what was taken."""
    groups = [{k: v for k, v in asdict(g).items()} for g in cut.groups]
    whole = {n: getattr(cut, n) for n in ("n_seen", "n_eligible", "n_kept", "weight_kept", "weight_seen", "shortfall")}
    return {**whole, "groups": groups}
