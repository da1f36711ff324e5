"""What the stages of a whole flow have before them, projected from trials, and what of it a stage goes by.

A stage goes by the bytes of text that enter its step. Where its work is bounded, it goes by that bound: a selector is
fitted on a sample, a map of clusters shows a sample, a tokenizer is learned from so much text, and a model is trained
on its budget.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .aux_models import TOKENIZER_BYTES, plan
from .cluster_pictures import SAMPLED
from .config import FlowEntry
from .deduplicating import deduper
from .plan_sample import Amount
from .plan_trials import Trial
from .selecting import chooser
from .step_entries import DedupStep, SelectStep
from .token_samples import BYTES_A_TOKEN
from .work import Work


@dataclass(frozen=True)
class Bounds:
    """What bounds the work of stages, by the name of a step or model."""

    samples: Mapping[str, int]
    """Documents that a selector is fitted on."""

    @classmethod
    def of(cls, work: Work, flow: FlowEntry) -> "Bounds":
        """Return the bounds of a flow's stages."""
        samples = {}
        for step in flow.steps:
            if isinstance(step, SelectStep | DedupStep):
                inputs = deduper(step, work.features) if isinstance(step, DedupStep) else chooser(step, work.features)
                samples[step.name] = inputs.selector.sample_size
        return cls(samples)

    def basis(self, stage: str, before: Amount, trained: Mapping[str, float]) -> float:
        """Return how much a stage has to do where so much enters its step; `trained`: tokens of such stages."""
        kind, _, name = stage.partition(" ")
        if stage in trained:
            return trained[stage]
        if kind == "tokenizer":
            return min(before.bytes, TOKENIZER_BYTES)
        most = SAMPLED if kind == "map" else self.samples.get(name, 0) if kind in ("sample", "fit") else 0
        if most and before.documents > most:
            return before.bytes * most / before.documents
        return before.bytes


def whole_amounts(
    whole: Amount, trials: Sequence[Trial], known: Sequence[Mapping[str, Any]], flow: FlowEntry,
    first: Sequence[Amount] = (),
) -> list[Amount]:  # fmt: skip
    """Return what enters each step and is chosen at the end: exact as far as steps are known, else projected.

    `first` is what other trials have found of the steps that come first.
    """
    seen = [_sum([trial.entered[at] for trial in trials]) for at in range(len(trials[0].entered))]
    amounts = [Amount(whole.documents, whole.bytes, whole.bytes * seen[0].tokens / max(1.0, seen[0].bytes))]
    if known:
        amounts[0] = Amount(known[0]["entered"], whole.bytes, known[0]["tokens_entered"])
    budgets = {step.name: step.cut.budget for step in flow.steps if isinstance(step, SelectStep)}
    for at, step in enumerate(trials[0].steps):
        if at + 1 < len(first):
            amounts.append(first[at + 1])
            continue
        if at < len(known):
            amounts.append(Amount(known[at]["kept"], known[at]["bytes_kept"], known[at]["tokens_kept"]))
            continue
        before, kept, entered = amounts[-1], seen[at + 1], seen[at]
        found = {
            unit: getattr(before, unit) * getattr(kept, unit) / max(1.0, getattr(entered, unit))
            for unit in ("documents", "bytes", "tokens")
        }
        budget = budgets.get(step["name"])
        if budget is not None and isinstance(budget.amount, int):
            found[budget.unit] = min(found[budget.unit], budget.amount)
        amounts.append(Amount(**found))
    return amounts


def _sum(amounts: Sequence[Amount]) -> Amount:
    return Amount(
        sum(a.documents for a in amounts), sum(a.bytes for a in amounts), sum(a.tokens for a in amounts)
    )  # fmt: skip


def tried_tokens(trial: Trial) -> dict[str, float]:
    """Return how many tokens the stages of a trial trained on and read, by their names."""
    found: dict[str, float] = {}
    for model in trial.models:
        found |= {f"train {model['model']}": model["tokens"], f"tokens {model['model']}": model["tokens_a_pass"]}
    return found


def trained_tokens(work: Work, trial: Trial, position: int, amounts: Sequence[Amount]) -> dict[str, float]:
    """Return the same of the whole flow: a budget, or some passes over what there is.

    Of a target that is known, because a trial reads all of it; of the pool it is `BYTES_A_TOKEN`.
    """
    found = {}
    for model in trial.models:
        name, entry = model["model"], work.config.models[model["model"]]
        a_pass = model["tokens_a_pass"] if entry.target else amounts[position].bytes / BYTES_A_TOKEN
        budget = entry.tokens or math.inf
        found[f"train {name}"] = min(plan(work.config, work.root, name).epochs * a_pass, budget)
        found[f"tokens {name}"] = a_pass if entry.target else min(a_pass, budget)
    return found
