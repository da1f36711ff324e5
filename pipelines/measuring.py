"""The stage that computes a feature: only the rows that are still in, only those that nobody computed before."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from ..storage.feature_store import Rows, missing_rows, publish_part, publish_recipe, read_values
from ..storage.fingerprint import fingerprint
from ..storage.lake import Lake
from ..storage.shards import Shard
from ..storage.survivors import MASKS_KEPT, Survivors
from .expressions import Expression, numbers
from .pure_sql import connect
from .runs import Stage
from .work import Work

ROW, KEY = "row", "doc_key"
COSTLY, COSTLY_ROWS = 2, 1_024
"""From this cost on a feature is published so many rows at a time, not a shard: a kill costs each worker no more."""
Piece = tuple[Shard, Rows, pa.RecordBatch]
"""Rows of a shard, and their values."""


def feature_recipe(feature: Feature) -> dict[str, Any]:
    """Return what the numbers of a feature are made by.

    Where its identity speaks of a parameter, that is taken: the content of a file and not its path.
    """
    identity = feature.identity()
    left_out = {*identity, *feature.no_numbers}
    parameters = {name: value for name, value in asdict(feature).items() if name not in left_out}
    return {"feature": feature.name, "version": feature.version, "parameters": parameters, "identity": identity}


def feature_key(feature: Feature) -> str:
    """Name the numbers of a feature."""
    return fingerprint(feature_recipe(feature))


@dataclass(frozen=True)
class Column:
    """A feature and the name before the dot under which its columns appear."""

    alias: str
    feature: Feature
    title: str = ""
    """What people are shown; default: the alias."""

    @cached_property
    def key(self) -> str:
        """Name of the feature's numbers."""
        return feature_key(self.feature)

    @cached_property
    def model(self) -> Any:
        """What the feature loads once."""
        return self.feature.load()


def measure(work: Work, survivors: Survivors, column: Column) -> None:
    """Compute a stored feature for the rows of `survivors` that have no value yet: one stage."""
    if column.feature.stored:
        work.stage(f"feature {column.title or column.alias}", partial(_measure, work, survivors, column))


def _measure(work: Work, survivors: Survivors, column: Column, stage: Stage) -> None:
    missing = lru_cache(MASKS_KEPT)(lambda s: missing_rows(work.lake, column.key, s, survivors.mask(s)))
    costly = column.feature.cost >= COSTLY
    most = COSTLY_ROWS if costly else None
    todo: dict[tuple[Shard, int, int], int] = {}  # how many rows; which is looked up when their turn comes
    with stage.looking():
        for shard in survivors.shards:
            todo |= {(shard, *place): len(rows) for place, rows in _pieces(shard, missing(shard), most)}
    n_shards = len({shard.digest for shard, _, _ in todo})
    stage.documents, stage.reused = sum(todo.values()), len(survivors.shards) - n_shards
    stage.computed = n_shards
    if not todo:
        return
    publish_recipe(work.lake, column.key, feature_recipe(column.feature))
    model = column.model

    def compute(item: tuple[Shard, int, int]) -> tuple[Shard, list[Piece]]:
        shard, group, number = item
        rows = dict(_pieces(shard, missing(shard), most))[group, number]
        batch = shard.read_group(group, column.feature.reads)
        batch = batch.take(pa.array(rows - shard.row_groups[group][0]))
        piece = shard, rows, column.feature.compute(batch, model)
        if costly:  # at once: in the order of the pieces, finished ones would wait for a slow one, and die with it
            _publish(work.lake, column, [piece])
        return shard, [] if costly else [piece]

    results = work.map(f"feature {column.title or column.alias}", compute, list(todo), todo.__getitem__)
    for _, together in groupby(results, key=lambda r: r[0]):
        if waiting := [piece for _, some in together for piece in some]:
            _publish(work.lake, column, waiting)


def _publish(lake: Lake, column: Column, pieces: list[Piece]) -> None:
    rows = np.concatenate([rows for _, rows, _ in pieces])
    publish_part(lake, column.key, pieces[0][0], rows, pa.Table.from_batches([b for _, _, b in pieces]))


def _pieces(shard: Shard, rows: Rows, most: int | None) -> Iterator[tuple[tuple[int, int], Rows]]:
    """Cut ascending rows of a shard by its row groups, and these every `most` rows: (group, number) names a piece.

    The cuts do not depend on the rows, so a piece has no other rows after other pieces were computed.
    """
    for group, (start, n) in enumerate(shard.row_groups):
        step = most or n
        for number, at in enumerate(range(start, start + n, max(1, step))):
            low, high = np.searchsorted(rows, [at, min(at + step, start + n)]).tolist()
            if high > low:
                yield (group, number), rows[low:high]


def documents_in(item: tuple[Shard, int]) -> int:
    """Return how many documents lie in a row group, those that are out included."""
    shard, group = item
    return shard.row_groups[group][1]


@dataclass(frozen=True)
class Reader:
    """Read surviving documents as batches: `row`, `doc_key`, columns of the shard, `<alias>.<column>`, expressions."""

    lake: Lake
    survivors: Survivors
    reads: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    expressions: tuple[Expression, ...] = ()
    asked: tuple[Column, ...] = ()
    """What expressions read, and only they see: its alias may be the name of a feature in `columns`."""

    @property
    def measured(self) -> tuple[Column, ...]:
        """All features that are read."""
        return (*self.columns, *self.asked)

    def items(self, shards: Sequence[Shard] | None = None) -> list[tuple[Shard, int]]:
        """Return the units of work: row groups, in row order."""
        shards = self.survivors.shards if shards is None else shards
        return [(shard, group) for shard in shards for group in range(len(shard.row_groups))]

    def read(self, item: tuple[Shard, int]) -> pa.RecordBatch:
        """Return the surviving rows of one row group, in row order."""
        shard, group = item
        start, n = shard.row_groups[group]
        inside = np.flatnonzero(self.survivors.mask(shard)[start : start + n])
        fresh = [c for c in self.measured if not c.feature.stored]
        names = dict.fromkeys([KEY, *self.reads, *(r for c in fresh for r in c.feature.reads)])
        batch = shard.read_group(group, list(names)).take(pa.array(inside))
        arrays = {ROW: pa.array(inside + start, pa.int64())}
        arrays |= {name: batch.column(name) for name in (KEY, *self.reads)}
        asked = dict(arrays)
        for column in self.columns:
            arrays |= self._values(column, shard, inside + start, batch)
        if self.expressions:
            for column in self.asked:
                asked |= self._values(column, shard, inside + start, batch)
            with connect() as connection:
                arrays |= numbers(self.expressions, pa.RecordBatch.from_pydict(asked), connection)
        return pa.RecordBatch.from_pydict(arrays)

    def _values(self, column: Column, shard: Shard, rows: Rows, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        names = column.feature.columns.names
        if column.feature.stored:
            found: Any = read_values(self.lake, column.key, shard, rows, column.feature.columns).combine_chunks()
            return {f"{column.alias}.{n}": _flat(found.column(n)) for n in names}
        found = column.feature.compute(batch, column.model)
        return {f"{column.alias}.{n}": found.column(n) for n in names}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all row groups, one after the other."""
        return (self.read(item) for item in self.items())


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def tokens_column(work: Work) -> Column:
    """Return the feature that counts tokens with the flow's tokenizer."""
    return Column("tokens", work.tokens)


def tokens_of(work: Work, shard: Shard, rows: Rows) -> npt.NDArray[np.int64]:
    """Return the number of tokens of rows of a shard; they must have been counted."""
    found = read_values(work.lake, tokens_column(work).key, shard, rows, work.tokens.columns)
    counts: npt.NDArray[np.int64] = found.column(0).to_numpy().astype(np.int64)
    return counts
