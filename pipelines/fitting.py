"""Fit a selector, each artefact once.

Summaries are kept by shard and survivors, so a new file in the corpus only adds its own; the state is made again,
because the pool that it compares with has changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ..selectors.base import Selector, Target
from ..storage.fingerprint import fingerprint
from ..storage.state import load_state, publish_state
from ..storage.survivors import Survivors
from .measuring import Reader, documents_in, measure
from .plugins import summary_recipe
from .runs import Stage
from .sampling import read_sample
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


def fit_step(
    work: Work,
    step: str,
    inputs: SelectorInputs,
    survivors: Survivors,
    targets: Mapping[str, tuple[float | None, Survivors]],
) -> Fitted:
    """Return a fitted selector; the lake has its state afterwards."""
    data = {
        "survivors": survivors.digest,
        "targets": [[name, weight, found.digest] for name, (weight, found) in targets.items()],  # their order matters
        "seed": work.config.seed,
        "step": step,
    }
    path = work.lake.state(fingerprint(inputs.fit_recipe() | data)) / "state.safetensors"
    for column in (*inputs.columns, *inputs.asked):
        work.lake.feature(column.key)  # the step uses it, also where all that is made of it is there
    if inputs.selector.summary_type is not None:
        _summaries(work, inputs.selector)
    if not path.exists():
        _fit(work, step, inputs, survivors, targets, path)
    else:
        work.stage(f"fit {step}", lambda stage: stage.reuse(1))
    recipe = inputs.recipe() | data
    scores = fingerprint(inputs.score_recipe() | data)
    return Fitted(fingerprint(recipe), recipe, scores, load_state(path, inputs.selector.state_type))


def _fit(
    work: Work,
    step: str,
    inputs: SelectorInputs,
    survivors: Survivors,
    targets: Mapping[str, tuple[float | None, Survivors]],
    path: Path,
) -> None:
    selector, pool = inputs.selector, inputs.pool(work.lake, survivors)
    samples = []
    for name, (weight, found) in targets.items():
        for column in inputs.columns:
            measure(work, found, column)
        samples.append(Target(name, weight, inputs.target(work.lake, found).batches))
    for column in pool.measured if selector.summary_type or selector.sample_size else ():
        measure(work, survivors, column)
    summary = None
    if selector.summary_type:
        summary = work.stage(f"summarise {step}", partial(_summarise, work, step, selector, pool))
    elif size := selector.sample_size:
        key = work.draw(step)("sample")
        summary = work.stage(f"sample {step}", partial(read_sample, work, f"sample {step}", pool, size, key))

    def fit(stage: Stage) -> None:
        stage.computed = 1
        publish_state(work.lake, path, selector.fit(summary, samples, work.draw(step)))

    work.stage(f"fit {step}", fit)


def _summaries(work: Work, selector: Selector) -> Path:
    """Return the folder of a selector's summaries, by shard and survivors."""
    return work.lake.state(fingerprint({"summary": summary_recipe(selector)}))


def _summarise(work: Work, step: str, selector: Selector, reader: Reader, stage: Stage) -> Any:
    """Return the merged summary of all shards; each shard's own is kept."""
    assert selector.summary_type is not None
    survivors = reader.survivors
    folder = _summaries(work, selector)
    paths = {s: folder / f"{survivors.digests[s.digest]}.safetensors" for s in survivors.shards}
    todo = [s for s in survivors.shards if not paths[s].exists()]
    stage.reused = len(survivors.shards) - len(todo)
    stage.computed = len(todo)
    items = reader.items(todo)
    results = work.map(f"summarise {step}", lambda i: (i[0], selector.summarise(reader.read(i))), items, documents_in)
    for shard, pieces in groupby(results, key=lambda r: r[0]):
        publish_state(work.lake, paths[shard], selector.merge([summary for _, summary in pieces]))
    merged = None
    for shard in survivors.shards:
        loaded = load_state(paths[shard], selector.summary_type)
        merged = loaded if merged is None else selector.merge([merged, loaded])
    return merged
