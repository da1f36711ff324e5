"""The dedup step: bring the documents of a group together, let the selector decide within, bring the verdicts home.

Two shuffles on disk: by group, so that whole groups are in memory a partition at a time, and back by shard. Neither
needs more memory for a larger corpus than its largest group. Where the selector scores within its groups, one cut over
all of them follows.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..features.base import Feature
from ..selectors.base import Selector
from ..selectors.budget import Part, make_cut
from ..storage.fingerprint import fingerprint
from ..storage.selections import SelectionWriter, Verdicts, load_selection, selection_bytes
from ..storage.shards import Shard
from ..storage.shuffle import MOST_PARTITIONS, Shuffle, partitions_for
from ..storage.survivors import Survivors
from .cluster_pictures import picture_clusters
from .fitting import fit_step
from .measuring import Reader, documents_in, measure, tokens_column, tokens_of
from .plugins import make_selector, naming
from .runs import Stage
from .scoring import Scored, score_fitted
from .selector_inputs import SelectorInputs, selector_inputs
from .step_entries import DedupStep
from .work import Work

_VERDICT = pa.schema([("shard", pa.int64()), ("row", pa.int64()), ("score", pa.float64()), ("ref", pa.string())])


def deduper(step: DedupStep, features: Mapping[str, Feature]) -> SelectorInputs:
    """Return the checked selector of a step, with what it reads. Raises ConfigError."""
    with naming(f"step {step.name!r}"):
        selector = make_selector("dedup", step.dedup, step.parameters, features)
    return selector_inputs(selector, features, f"step {step.name!r}: dedup: {step.dedup}")


def run_dedup(work: Work, step: DedupStep, survivors: Survivors) -> dict[str, Any]:
    """Apply a deduplication; return the manifest of the selection."""
    inputs = deduper(step, work.features)
    fitted = fit_step(work, step.name, inputs, survivors, {})
    recipe = {"corpus": survivors.corpus, "fitted": fitted.key, "tokens": tokens_column(work).key, **fitted.recipe}
    scored = None
    if inputs.selector.clustering(fitted.state):  # costly to find, and wanted again for the picture
        scored = score_fitted(work, step.name, inputs, survivors, fitted, "doc_id")
    manifest = _deduplicated(work, step, inputs, survivors, recipe, fitted.state, scored)
    manifest = picture_clusters(work, step.name, scored, manifest) if scored else manifest
    return {**manifest, "fit": dict(fitted.about)}


def _deduplicated(
    work: Work, step: DedupStep, inputs: SelectorInputs, survivors: Survivors, recipe: Mapping[str, Any], state: Any,
    scored: Scored | None,
) -> dict[str, Any]:  # fmt: skip
    key = fingerprint(recipe)
    found, reader = load_selection(work.lake, key), inputs.pool(work.lake, survivors, "doc_id")
    for column in reader.measured if not found or work.mending else ():
        measure(work, survivors, column)
    if found:
        work.stage(f"dedup {step.name}", lambda stage: stage.reuse(len(survivors.shards)))
        return found

    def score(shard: Shard, batch: pa.RecordBatch) -> pa.Table:
        return scored.of_batch(shard, batch) if scored else inputs.selector.score(batch, state)

    def apply(stage: Stage) -> dict[str, Any]:
        stage.computed = len(survivors.shards)
        writer = SelectionWriter(work.lake, key, step.name, survivors.corpus)
        with Shuffle(work.lake, _VERDICT, max(1, min(len(survivors.shards), MOST_PARTITIONS))) as home:
            _decide(work, step.name, inputs.selector, state, score, reader, home, stage)
            home.close()
            for shard, verdicts in _verdicts(inputs.selector, survivors, f"{step.dedup} duplicate", home):
                writer.write(shard, verdicts, tokens_of(work, shard, verdicts.row))
        return writer.finish(recipe, kind="dedup")

    return work.stage(f"dedup {step.name}", apply)


def _decide(
    work: Work, step: str, selector: Selector, state: Any, score: Callable[[Shard, pa.RecordBatch], pa.Table],
    reader: Reader, home: Shuffle, stage: Stage,
) -> None:  # fmt: skip
    """Shuffle by group, and send the verdicts to their shard's partition: of dropped or, with scores, of all rows."""
    place = {s.digest: i for i, s in enumerate(reader.survivors.shards)}

    def grouped(item: tuple[Shard, int]) -> pa.Table:
        batch = reader.read(item)
        shard = pa.array(np.full(batch.num_rows, place[item[0].digest]), pa.int64())
        table = pa.Table.from_batches([batch]).append_column("shard", shard)
        found = score(item[0], batch)
        for name in found.column_names:
            table = table.append_column(name, found.column(name))
        return table

    tables = work.map(f"dedup {step}", grouped, reader.items(), documents_in, loads=reader.loads)
    first = next(tables, None)
    if first is None:
        return
    n_documents, row_bytes = reader.survivors.n_documents, first.nbytes // max(1, first.num_rows)
    work.expect(stage, selection_bytes(reader.survivors), scratch=n_documents * _fixed_bytes(first))
    n = partitions_for(work.lake.memory, n_documents, row_bytes)
    with Shuffle(work.lake, first.schema, n) as by_group:
        for table in chain([first], tables):
            by_group.add(table, (table.column("group").to_numpy() % np.uint64(n)).astype(np.int64))
        by_group.close()
        for number in range(n):
            verdicts = _within(selector, by_group.partition(number), state)
            home.add(verdicts, _home(verdicts.column("shard").to_numpy(), home, len(place)))


def _fixed_bytes(table: pa.Table) -> int:
    """Return what a row takes without its texts, of which those of other rows may be shorter."""
    return sum(field.type.bit_width // 8 for field in table.schema if pa.types.is_primitive(field.type))


def _within(selector: Selector, block: pa.Table, state: Any) -> pa.Table:
    """Return what the selector decided about a block, as rows of `_VERDICT`."""
    found = selector.within(block, state)
    table = block.select(["shard", "row"]).append_column("ref", found.column("ref"))
    if selector.verdict:
        return table.append_column("score", found.column("score")).select(_VERDICT.names).cast(_VERDICT)
    table = table.append_column("score", pa.nulls(block.num_rows, pa.float64())).select(_VERDICT.names)
    return table.filter(pc.invert(found.column("keep"))).cast(_VERDICT)


def _home(shard: Any, home: Shuffle, n_shards: int) -> Any:
    """Return the partition of a shard's number, ascending with it."""
    return shard * home.partitions // max(1, n_shards)


def _verdicts(selector: Selector, survivors: Survivors, reason: str, home: Shuffle) -> Iterator[tuple[Shard, Verdicts]]:
    """Yield the verdicts about each shard; the shards of one partition follow each other."""
    shards = survivors.shards
    read_partition = lru_cache(1)(home.partition)

    def there(number: int) -> pa.Table:
        found = read_partition(_home(number, home, len(shards)))
        return found.filter(pc.equal(found.column("shard"), number)).sort_by("row").combine_chunks()

    def parts() -> Iterator[Part]:
        return (_part(shard, there(number)) for number, shard in enumerate(shards))

    cut = make_cut(parts, selector.verdict) if selector.verdict else None
    for number, shard in enumerate(shards):
        table = there(number)
        row = np.flatnonzero(survivors.mask(shard)).astype(np.int64)
        if cut:
            kept, ref, score = cut.kept(_part(shard, table)), _column(table, "ref"), _column(table, "score")
        else:
            kept, ref, score = *_dropped(row, table), None
        gone = pa.array(~kept)
        yield shard, Verdicts(
            row, kept, score=score,
            reason=pc.if_else(gone, pa.scalar(reason), pa.scalar(None, pa.string())),
            ref=pc.if_else(gone, ref, pa.scalar(None, pa.string())),
        )  # fmt: skip


def _part(shard: Shard, table: pa.Table) -> Part:
    """Return the scores of a shard's survivors for the cut."""
    row = table.column("row").to_numpy()

    def doc_ids(places: Any) -> list[str]:
        ids: list[str] = shard.read_column("doc_id").take(pa.array(row[places])).to_pylist()
        return ids

    return Part(
        shard=shard.digest,
        row=row,
        doc_key=shard.read_column("doc_key").to_numpy()[row],
        score=table.column("score").to_numpy(),
        eligible=np.ones(row.size, dtype=np.bool_),
        weight=np.ones(row.size, dtype=np.int64),
        group=None,
        doc_ids=doc_ids,
    )


def _dropped(row: Any, table: pa.Table) -> tuple[Any, pa.Array]:
    """Return which of the rows stay, and the `ref` of those that a table of dropped rows names."""
    place = np.searchsorted(row, table.column("row").to_numpy())
    kept = np.ones(row.size, dtype=np.bool_)
    kept[place] = False
    takes = np.full(row.size, -1, dtype=np.int64)
    takes[place] = np.arange(place.size)
    return kept, _column(table, "ref").take(pa.array(takes, mask=takes < 0))


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
