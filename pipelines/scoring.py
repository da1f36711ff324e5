"""Fit a selector and score the documents, each artefact once.

Summaries are kept by shard and survivors, so a new file in the corpus only adds its own; the state and the scores are
made again, because the pool that they compare with has changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..selectors.base import Selector, Target
from ..storage.fingerprint import fingerprint
from ..storage.shards import Shard
from ..storage.state import load_state, publish_state
from ..storage.survivors import Survivors
from .measuring import Column, Reader, measure
from .plugins import selector_recipe, summary_recipe
from .runs import Stage
from .work import Work


@dataclass(frozen=True)
class Scored:
    """A fitted selector over the survivors of a step."""

    key: str
    recipe: Mapping[str, Any]
    selector: Selector
    state: Any
    reader: Reader
    folder: Path

    def table(self, shard: Shard) -> pa.Table:
        """Return `row` and what `score` returned for the survivors of a shard, in row order."""
        return self.reader.lake.table(self.folder / f"{shard.digest}.parquet")


def score_step(
    work: Work,
    step: str,
    selector: Selector,
    survivors: Survivors,
    targets: Mapping[str, tuple[float | None, Survivors]],
) -> Scored:
    """Bring the features, summaries, state and scores of a step into the lake."""
    columns = tuple(Column(f.name, f) for f in selector.needs)
    reader = Reader(work.lake, survivors, selector.reads, columns)
    recipe = {
        **selector_recipe(selector),
        "survivors": survivors.digest,
        "targets": [[name, weight, found.digest] for name, (weight, found) in targets.items()],  # their order matters
        "seed": work.config.seed,
        "step": step,
    }
    key = fingerprint(recipe)
    state_path = work.lake.state(key) / "state.safetensors"
    if not state_path.exists():
        _fit(work, step, selector, reader, targets, state_path)
    else:
        work.stage(f"fit {step}", lambda stage: stage.reuse(1))
    state = load_state(state_path, selector.state_type)
    scored = Scored(key, recipe, selector, state, reader, work.lake.scores(key))
    todo = [s for s in survivors.shards if not (scored.folder / f"{s.digest}.parquet").exists()]
    for column in columns if todo else ():
        measure(work, survivors, column)
    work.stage(f"score {step}", partial(_score, work, step, scored, todo))
    return scored


def _fit(
    work: Work,
    step: str,
    selector: Selector,
    reader: Reader,
    targets: Mapping[str, tuple[float | None, Survivors]],
    path: Path,
) -> None:
    samples = []
    for name, (weight, found) in targets.items():
        for column in reader.columns:
            measure(work, found, column)
        samples.append(Target(name, weight, Reader(work.lake, found, selector.reads, reader.columns).batches))
    for column in reader.columns if selector.summary_type else ():
        measure(work, reader.survivors, column)
    summary = None
    if selector.summary_type:
        summary = work.stage(f"summarise {step}", partial(_summarise, work, step, selector, reader))

    def fit(stage: Stage) -> None:
        publish_state(work.lake, path, selector.fit(summary, samples, work.draw(step)))
        stage.computed = 1

    work.stage(f"fit {step}", fit)


def _summarise(work: Work, step: str, selector: Selector, reader: Reader, stage: Stage) -> Any:
    """Return the merged summary of all shards; each shard's own is kept."""
    assert selector.summary_type is not None
    survivors = reader.survivors
    folder = work.lake.state(fingerprint({"summary": summary_recipe(selector)}))
    paths = {s: folder / f"{survivors.digests[s.digest]}.safetensors" for s in survivors.shards}
    todo = [s for s in survivors.shards if not paths[s].exists()]
    stage.reused = len(survivors.shards) - len(todo)
    stage.computed = len(todo)
    results = work.map(f"summarise {step}", lambda i: (i[0], selector.summarise(reader.read(i))), reader.items(todo))
    for shard, pieces in groupby(results, key=lambda r: r[0]):
        publish_state(work.lake, paths[shard], selector.merge([summary for _, summary in pieces]))
    merged = None
    for shard in survivors.shards:
        loaded = load_state(paths[shard], selector.summary_type)
        merged = loaded if merged is None else selector.merge([merged, loaded])
    return merged


def _score(work: Work, step: str, scored: Scored, todo: list[Shard], stage: Stage) -> None:
    """Write the scores of the shards that have none yet."""
    reader = scored.reader
    stage.computed, stage.reused = len(todo), len(reader.survivors.shards) - len(todo)

    def score(item: tuple[Shard, int]) -> tuple[Shard, pa.Table]:
        batch = reader.read(item)
        table = scored.selector.score(batch, scored.state).add_column(0, "row", batch.column("row"))
        return item[0], table.add_column(1, "doc_key", batch.column("doc_key"))

    for shard, pieces in groupby(work.map(f"score {step}", score, reader.items(todo)), key=lambda r: r[0]):
        table = pa.concat_tables([t for _, t in pieces]).combine_chunks()
        work.lake.publish_table(scored.folder / f"{shard.digest}.parquet", table)


def score_tables(scored: Scored) -> Iterator[pa.Table]:
    """Yield the scores of all shards, in shard order."""
    return (scored.table(shard) for shard in scored.reader.survivors.shards)
