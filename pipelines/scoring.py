"""Score the documents of a step with a fitted selector, each shard once for a state and what is left of the shard."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..selectors.base import Selector
from ..storage.places import presence
from ..storage.shards import Shard
from ..storage.survivors import Survivors
from .fitting import Fitted
from .measuring import Reader, documents_in, measure
from .room import table_bytes
from .runs import Stage
from .selector_inputs import SelectorInputs
from .work import Work

_SCORED = pa.schema([("row", pa.int64()), ("doc_key", pa.uint64()), ("score", pa.float64())])


@dataclass(frozen=True)
class Scored:
    """A fitted selector over the survivors of a step."""

    key: str
    recipe: Mapping[str, Any]
    selector: Selector
    state: Any
    reader: Reader
    folder: Path

    def path(self, shard: Shard) -> Path:
        """Return the file of a shard's scores, which is named by the rows that were scored."""
        return self.folder / f"{self.reader.survivors.digests[shard.digest]}.parquet"

    def table(self, shard: Shard) -> pa.Table:
        """Return `row` and what `score` returned for the survivors of a shard, in row order."""
        return self.reader.lake.table(self.path(shard))

    def of_batch(self, shard: Shard, batch: pa.RecordBatch) -> pa.Table:
        """Return what `score` returned for a batch that the reader read of a shard."""
        table = self.table(shard)
        if not batch.num_rows:
            return table.slice(0, 0).drop_columns(["row", "doc_key"])
        start = np.searchsorted(table.column("row").to_numpy(), batch.column("row")[0].as_py())
        return table.slice(int(start), batch.num_rows).drop_columns(["row", "doc_key"])


def score_fitted(
    work: Work, step: str, inputs: SelectorInputs, survivors: Survivors, fitted: Fitted, *more: str
) -> Scored:
    """Bring the scores of what `fit_step` returned into the lake; `more` are columns of the shard for later readers."""
    reader = inputs.pool(work.lake, survivors, *more)
    scored = Scored(fitted.key, fitted.recipe, inputs.selector, fitted.state, reader, work.lake.scores(fitted.scores))
    there = presence(scored.folder)
    todo = [s for s in survivors.shards if not there(scored.path(s))]
    for column in reader.measured if todo or work.mending else ():
        measure(work, survivors, column)
    work.stage(f"score {step}", partial(_score, work, step, scored, todo))
    return scored


def _score(work: Work, step: str, scored: Scored, todo: list[Shard], stage: Stage) -> None:
    """Write the scores of the shards that have none yet."""
    reader = scored.reader
    stage.computed, stage.reused = len(todo), len(reader.survivors.shards) - len(todo)

    rows = sum(int(reader.survivors.mask(shard).sum()) for shard in todo)
    work.expect(stage, table_bytes(_SCORED, rows, len(todo)))

    def score(item: tuple[Shard, int]) -> pa.Table:
        batch = reader.read(item)
        table = scored.selector.score(batch, scored.state).add_column(0, "row", batch.column("row"))
        return table.add_column(1, "doc_key", batch.column("doc_key"))

    def publish(shard: Shard, tables: Iterator[pa.Table]) -> None:
        table = pa.concat_tables(tables).combine_chunks()
        scored.reader.lake.publish_table(scored.path(shard), table)

    groups = reader.groups(todo)
    for _ in work.together(f"score {step}", score, groups, publish, documents_in, loads=reader.loads):
        pass


def score_tables(scored: Scored) -> Iterator[pa.Table]:
    """Yield the scores of all shards, in shard order."""
    return (scored.table(shard) for shard in scored.reader.survivors.shards)
