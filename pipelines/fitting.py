"""Fit a selector, each artefact once.

Summaries are kept by shard and survivors, so a new file in the corpus only adds its own; the state is made again,
because the pool that it compares with has changed, unless `refit` says otherwise.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..selectors.base import Target
from ..storage.errors import LakeError
from ..storage.fingerprint import fingerprint
from ..storage.state import load_state, publish_state
from ..storage.survivors import Survivors
from .fit_keys import POOL, STATE, kinship, scores_key, state_key, warm_key
from .measuring import measure
from .parents import Parent, find_parent
from .pool_summaries import Learned, keep, learn, summaries_key
from .refit_entry import Refit
from .runs import Stage
from .selector_inputs import SelectorInputs
from .work import Work


@dataclass(frozen=True)
class Fitted:
    """A fitted selector, and what names its choice and its scores."""

    key: str
    recipe: Mapping[str, Any]
    """What the choice is made by, beside the budget."""
    scores: str
    state: Any
    about: Mapping[str, Any]
    """For the record of the run: the state's name and those of its scores and of the shards' summaries, where it comes
    from, and what a later fit must share to use it."""


@dataclass(frozen=True)
class _Asked:
    """A fit, and the one before it."""

    step: str
    inputs: SelectorInputs
    survivors: Survivors
    targets: Mapping[str, tuple[float | None, Survivors]]
    refit: Refit
    parent: Parent | None


def fit_step(
    work: Work,
    step: str,
    inputs: SelectorInputs,
    survivors: Survivors,
    targets: Mapping[str, tuple[float | None, Survivors]],
    refit: Refit = "fresh",
) -> Fitted:
    """Return a fitted selector; the lake has its state afterwards."""
    selector = inputs.selector
    made_by = inputs.recipe() | {
        POOL: survivors.digest,
        "targets": [[name, weight, found.digest] for name, (weight, found) in targets.items()],  # their order matters
        "seed": work.config.seed,
        "step": step,
    }
    for column in (*inputs.columns, *inputs.asked):
        work.lake.feature(column.key)  # the step uses it, also where all that is made of it is there
    if summaries := summaries_key(selector):
        work.lake.state(summaries)
    fresh, kin = state_key(selector, made_by), kinship(selector, made_by) | {"corpus": survivors.corpus}
    parent, why = (None, "") if refit == "fresh" else _parent(work, step, kin)
    key = fresh
    if parent and (refit == "frozen" or (refit == "warm" and parent.pool == made_by[POOL])):
        key = parent.state
    elif parent and refit == "warm":
        key = warm_key(selector, made_by, parent.state)
    if key != fresh:
        made_by[STATE] = key
    path, learned = work.lake.state(key) / "state.safetensors", Learned()
    asked = _Asked(step, inputs, survivors, targets, refit, parent)
    if path.exists():
        if work.mending:
            _seen(work, asked)
        work.stage(f"fit {step}", lambda stage: stage.reuse(1))
        how = "frozen" if parent and refit == "frozen" else "found"
    else:
        learned = _fit(work, asked, path)
        how = "merged" if learned.merged else "warm" if parent and refit == "warm" else "fitted"
    scores = scores_key(selector, made_by)
    about = {
        "refit": refit, "how": how, "why": why or learned.why, "merged": learned.merged, "state": key,
        "parent": asdict(parent) if parent else None, "pool": made_by[POOL], "kin": kin, "scores": scores,
        "summaries": summaries,
    }  # fmt: skip
    return Fitted(fingerprint(made_by), made_by, scores, load_state(path, selector.state_type), about)


def _fit(work: Work, asked: _Asked, path: Path) -> Learned:
    """Publish the state; return what was learned of the pool for it."""
    step, selector, parent = asked.step, asked.inputs.selector, asked.parent
    samples, learned = _seen(work, asked)
    merging = asked.refit == "merge"
    earlier = None
    if parent and asked.refit == "warm":
        earlier = load_state(work.lake.state(parent.state) / "state.safetensors", selector.state_type)

    def fit(stage: Stage) -> None:
        stage.computed = 1
        if merging:
            keep(work.lake, path.parent, selector, learned)
        if earlier is None:
            state = selector.fit(learned.value, samples, work.draw(step))
        else:
            state = selector.fit_from(earlier, learned.value, samples, work.draw(step))
        publish_state(work.lake, path, state)

    work.stage(f"fit {step}", fit)
    return learned


def _seen(work: Work, asked: _Asked) -> tuple[list[Target], Learned]:
    """Return what a fit sees: of the targets and of the pool, measured and summarised."""
    selector, parent = asked.inputs.selector, asked.parent
    pool = asked.inputs.pool(work.lake, asked.survivors)
    samples = []
    for name, (weight, found) in asked.targets.items():
        for column in asked.inputs.columns:
            measure(work, found, column)
        samples.append(Target(name, weight, asked.inputs.target(work.lake, found).batches))
    for column in pool.measured if selector.learns else ():
        measure(work, asked.survivors, column)
    earlier = work.lake.state(parent.state) if asked.refit == "merge" and parent else None
    return samples, learn(work, asked.step, asked.inputs, pool, earlier)


def _parent(work: Work, step: str, kin: Mapping[str, str]) -> tuple[Parent | None, str]:
    """Return the fit that a step may take over; of a run that is mended the one that it had."""
    if work.mending is None:
        return find_parent(work.lake, work.flow, step, kin)
    found = next(s["fit"]["parent"] for s in work.mending.steps if s["name"] == step)
    parent = Parent(**found) if found else None
    if parent and not (work.lake.state(parent.state) / "state.safetensors").exists():
        raise LakeError(f"step {step}: the state of run {parent.run}, which it took over, is not in the lake any more")
    return parent, ""
