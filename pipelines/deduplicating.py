"""The dedup step: bring the documents of a group together, let the selector decide within, bring the verdicts home.

Two shuffles on disk: by group, so that whole groups are in memory a partition at a time, and back by shard. Neither
needs more memory for a larger corpus.
"""

from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.base import Selector
from ..storage.fingerprint import fingerprint
from ..storage.selections import SelectionWriter, Verdicts, load_selection
from ..storage.shards import Shard
from ..storage.shuffle import MOST_PARTITIONS, Shuffle, partitions_for
from ..storage.survivors import Survivors
from .config import DedupStep
from .measuring import Column, Reader, measure, tokens_column, tokens_of
from .plugins import make_selector, selector_recipe
from .runs import Stage
from .work import Work

_VERDICT = pa.schema([("shard", pa.int64()), ("row", pa.int64()), ("ref", pa.string())])


def run_dedup(work: Work, step: DedupStep, survivors: Survivors) -> dict[str, Any]:
    """Apply a deduplication; return the manifest of the selection."""
    selector = make_selector("dedup", step.dedup, step.parameters)
    recipe = {
        **selector_recipe(selector),
        "corpus": survivors.corpus,
        "survivors": survivors.digest,
        "tokens": tokens_column(work).key,
        "step": step.name,
    }
    key = fingerprint(recipe)
    if found := load_selection(work.lake, key):
        work.stage(f"dedup {step.name}", lambda stage: stage.reuse(len(survivors.shards)))
        return found
    columns = tuple(Column(f.name, f) for f in selector.needs)
    for column in columns:
        measure(work, survivors, column)
    reader = Reader(work.lake, survivors, ("doc_id", *selector.reads), columns)

    def apply(stage: Stage) -> dict[str, Any]:
        stage.computed = len(survivors.shards)
        state = selector.fit(None, [], work.draw(step.name))
        writer = SelectionWriter(work.lake, key, step.name, survivors.corpus)
        n_shards = max(1, len(survivors.shards))
        with Shuffle(work.lake, _VERDICT, min(n_shards, MOST_PARTITIONS)) as home:
            _decide(work, selector, state, reader, home, n_shards)
            _write(work, writer, survivors, step.dedup, home)
        return writer.finish(recipe, kind="dedup")

    return work.stage(f"dedup {step.name}", apply)


def _decide(work: Work, selector: Selector, state: Any, reader: Reader, home: Shuffle, n_shards: int) -> None:
    """Shuffle by group, and send the row and `ref` of every dropped document to its shard's partition."""
    place = {s.digest: i for i, s in enumerate(reader.survivors.shards)}

    def grouped(item: tuple[Shard, int]) -> pa.Table:
        batch = reader.read(item)
        found = selector.score(batch, state)
        shard = pa.array(np.full(batch.num_rows, place[item[0].digest]), pa.int64())
        table = pa.Table.from_batches([batch]).append_column("shard", shard)
        return table.append_column("group", found.column("group"))

    n = partitions_for(reader.survivors.n_documents)
    tables = work.map("group", grouped, reader.items())
    first = next(tables, None)
    if first is None:
        return
    with Shuffle(work.lake, first.schema, n) as by_group:
        for table in chain([first], tables):
            by_group.add(table, (table.column("group").to_numpy() % np.uint64(n)).astype(np.int64))
        by_group.close()
        for number in range(n):
            block = by_group.partition(number)
            verdict = selector.within(block, state)
            gone = pc.invert(verdict.column("keep"))
            dropped = (
                block.select(["shard", "row"]).filter(gone).append_column("ref", verdict.column("ref").filter(gone))
            )
            home.add(dropped.cast(_VERDICT), _home(dropped.column("shard").to_numpy(), home, n_shards))


def _home(shard: Any, home: Shuffle, n_shards: int) -> Any:
    """Return the partition of a shard's number, ascending with it."""
    return shard * home.partitions // n_shards


def _write(work: Work, writer: SelectionWriter, survivors: Survivors, reason: str, home: Shuffle) -> None:
    """Write each shard's verdicts; the shards of one partition follow each other."""
    home.close()
    read_partition = lru_cache(1)(home.partition)
    for number, shard in enumerate(survivors.shards):
        there = read_partition(_home(number, home, len(survivors.shards)))
        dropped = there.filter(pc.equal(there.column("shard"), number)).sort_by("row")
        row = np.flatnonzero(survivors.mask(shard)).astype(np.int64)
        place = np.searchsorted(row, dropped.column("row").to_numpy())
        kept = np.ones(row.size, dtype=np.bool_)
        kept[place] = False
        takes = np.full(row.size, -1, dtype=np.int64)
        takes[place] = np.arange(place.size)
        ref = dropped.column("ref").combine_chunks().take(pa.array(takes, mask=takes < 0))
        reasons = pc.if_else(pa.array(kept), pa.scalar(None, pa.string()), pa.scalar(f"{reason} duplicate"))
        writer.write(shard, Verdicts(row, kept, reason=reasons, ref=ref), tokens_of(work, shard, row))
