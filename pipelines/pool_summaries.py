"""What a fit sees of the pool: the merged summary of all shards, or a keyed sample.

With `refit: merge` it is kept beside the state, with the names of what it is made of. The next fit adds the shards that
are new, and takes those away that are gone where the selector can, so that it reads nothing that is old: neither the
summaries of a hundred thousand shards nor the row groups of a sample. Both are exact, so the state is that of a fresh
fit, bit for bit; where they cannot be, it is one.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..selectors.base import Selector
from ..storage.fingerprint import fingerprint
from ..storage.lake import Lake, read_json
from ..storage.places import presence, stat_of_path
from ..storage.shards import Shard
from ..storage.state import load_state, publish_state
from .fit_keys import kinship
from .measuring import Reader, documents_in
from .plugins import summary_recipe
from .runs import Stage
from .sampling import merge_samples, read_sample
from .selector_inputs import SelectorInputs
from .work import Work

SUMMARY, SAMPLE, KEPT = "summary.safetensors", "sample.parquet", "kept.json"


@dataclass
class Learned:
    """The merged summary of a pool or its sample, and how it came about."""

    value: Any = None
    of: str = ""
    """What makes it, beside the pool."""
    shards: frozenset[str] = frozenset()
    """Digests of the survivors of each shard."""
    merged: dict[str, int] = field(default_factory=dict)
    """How many shards were added to an earlier one and taken away; empty where it was made anew."""
    why: str = ""
    """Why it was made anew, where it was to be merged."""


def summaries_key(selector: Selector) -> str | None:
    """Name the folder of the summaries of single shards; None: the selector has none."""
    return fingerprint({"summary": summary_recipe(selector)}) if selector.summary_type else None


def learn(work: Work, step: str, inputs: SelectorInputs, reader: Reader, earlier: Path | None) -> Learned:
    """Return what `fit` sees of the pool; `earlier` is the folder of a state that may have its own beside it."""
    selector, survivors = inputs.selector, reader.survivors
    learned = Learned(shards=frozenset(survivors.digests.values()))
    if of := summaries_key(selector):
        learned.of = of
        body = partial(_summarise, work, step, selector, reader, learned, earlier)
        learned.value = work.stage(f"summarise {step}", body)
    elif size := selector.sample_size:
        made_by = inputs.recipe() | {"targets": [], "seed": work.config.seed, "step": step, "survivors": ""}
        learned.of = fingerprint({"sample": kinship(selector, made_by), "size": size})
        learned.value = work.stage(f"sample {step}", partial(_sample, work, step, size, reader, learned, earlier))
    return learned


def keep(lake: Lake, folder: Path, selector: Selector, learned: Learned) -> None:
    """Publish what a fit saw of the pool beside its state."""
    if learned.value is None:
        return
    if selector.summary_type:
        publish_state(lake, folder / SUMMARY, learned.value)
    else:
        lake.publish_table(folder / SAMPLE, pa.Table.from_batches([learned.value]))
    lake.publish_json(folder / KEPT, {"of": learned.of, "shards": sorted(learned.shards)})


@dataclass(frozen=True)
class _Earlier:
    """What an earlier fit kept."""

    folder: Path
    added: frozenset[str]
    """Shards that it has not."""
    gone: frozenset[str]
    """Shards that it has and that are none of the pool any more."""


def _earlier(learned: Learned, earlier: Path | None) -> _Earlier | None:
    """Return what there is to go on; None, and why, where there is nothing."""
    if earlier is None:
        return None
    if not (earlier / KEPT).exists():
        learned.why = "the last fit kept no summary"
        return None
    found = read_json(earlier / KEPT)
    if found["of"] != learned.of:
        learned.why = "the last summary was made otherwise"
        return None
    old = frozenset(found["shards"])
    added, gone = learned.shards - old, old - learned.shards
    if len(added) + len(gone) >= len(learned.shards):
        learned.why = "most of the pool is other documents"
        return None
    return _Earlier(earlier, added, gone)


def _summarise(
    work: Work, step: str, selector: Selector, reader: Reader, learned: Learned, earlier: Path | None, stage: Stage
) -> Any:
    """Return the merged summary of all shards; each shard's own is kept."""
    kind = selector.summary_type
    assert kind is not None
    survivors, digests = reader.survivors, reader.survivors.digests
    folder = work.lake.state(learned.of)

    def path(digest: str) -> Path:
        return folder / f"{digest}.safetensors"

    with stage.looking():
        merged, added = None, learned.shards
        if found := _earlier(learned, earlier):
            merged = _without(selector, load_state(found.folder / SUMMARY, kind), [path(d) for d in found.gone])
            if merged is None:
                learned.why = f"{len(found.gone):,} shards are gone or have other documents"
            else:
                added = found.added
                learned.merged = {"added": len(found.added), "taken_away": len(found.gone)}
        fresh = [s for s in survivors.shards if digests[s.digest] in added]
        there = presence(folder)
        todo = [s for s in fresh if not there(path(digests[s.digest]))]
    stage.reused = len(survivors.shards) - len(todo)
    stage.computed = len(todo)

    def summarise(item: tuple[Shard, int]) -> Any:
        return selector.summarise(reader.read(item))

    def publish(shard: Shard, summaries: Iterator[Any]) -> None:
        publish_state(reader.lake, path(digests[shard.digest]), selector.merge(list(summaries)))

    groups = reader.groups(todo)
    done = work.together(f"summarise {step}", summarise, groups, publish, documents_in, loads=reader.loads)
    for _ in islice(done, 1):  # tells how large they are: of many selectors all alike
        work.expect(stage, (len(todo) - 1) * stat_of_path(path(digests[todo[0].digest])).size)
    deque(done, 0)
    for shard in fresh:
        loaded = load_state(path(digests[shard.digest]), kind)
        merged = loaded if merged is None else selector.merge([merged, loaded])
    return merged


def _without(selector: Selector, summary: Any, gone: list[Path]) -> Any:
    """Return a summary without those of shards that are gone; None where that cannot be told."""
    if not gone:
        return summary
    if type(selector).subtract is Selector.subtract or not all(path.exists() for path in gone):
        return None
    assert selector.summary_type is not None
    return selector.subtract(summary, [load_state(path, selector.summary_type) for path in gone])


def _sample(
    work: Work, step: str, size: int, reader: Reader, learned: Learned, earlier: Path | None, stage: Stage
) -> pa.RecordBatch | None:
    """Return the documents with the smallest keyed numbers; those of an earlier sample need not be looked for."""
    name, key = f"sample {step}", work.draw(step)("sample")
    found = _earlier(learned, earlier)
    if found and found.gone:
        learned.why = f"{len(found.gone):,} shards are gone or have other documents, and a sample cannot be refilled"
        found = None
    if found is None:
        return read_sample(work, name, reader, size, key, stage)
    with stage.looking():
        old = work.lake.table(found.folder / SAMPLE)
    learned.merged = {"added": len(found.added), "taken_away": 0}
    digests, survivors = reader.survivors.digests, reader.survivors
    fresh: tuple[Shard, ...] = tuple(s for s in survivors.shards if digests[s.digest] in found.added)
    more = read_sample(work, name, replace(reader, survivors=replace(survivors, shards=fresh)), size, key, stage)
    stage.reused = len(survivors.shards) - len(fresh)
    return merge_samples(old, more, size, key)
