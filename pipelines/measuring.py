"""The stage that computes a feature: only the rows that are still in, only those that nobody computed before."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache, partial
from itertools import groupby
from threading import RLock
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
from .room import table_bytes
from .runs import Stage
from .work import Work

ROW, KEY = "row", "doc_key"
COSTLY, COSTLY_ROWS = 2, 1_024
"""From this cost on a feature is published so many rows at a time, not a shard: a kill costs each worker no more."""
Item = tuple[Shard, int, int]
"""A part of a row group."""
Piece = tuple[Rows, pa.RecordBatch]
"""Rows of a shard, and their values."""
_LOADING = RLock()


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

    @property
    def loads(self) -> bool:
        """Whether it loads a model that is worth a process of its own: starting one costs some seconds."""
        return self.feature.cost >= COSTLY and type(self.feature).load is not Feature.load

    @property
    def model(self) -> Any:
        """What the feature loads, once a process: it is not sent to others."""
        with _LOADING:
            return self._model

    @cached_property
    def _model(self) -> Any:
        return self.feature.load()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the model."""
        return Column, tuple(getattr(self, field.name) for field in fields(self))


def measure(work: Work, survivors: Survivors, column: Column) -> None:
    """Compute a stored feature for the rows of `survivors` that have no value yet: one stage."""
    if column.feature.stored:
        work.stage(f"feature {column.title or column.alias}", partial(_measure, work, survivors, column))


def _measure(work: Work, survivors: Survivors, column: Column, stage: Stage) -> None:
    missing = _Missing(work.lake, survivors, column)
    todo: dict[Item, int] = {}  # how many rows; which is looked up when their turn comes
    with stage.looking():
        for shard in survivors.shards:
            todo |= missing.items(shard)
    groups = [(shard, list(items)) for shard, items in groupby(todo, key=lambda item: item[0])]
    stage.documents, stage.reused = sum(todo.values()), len(survivors.shards) - len(groups)
    stage.computed = len(groups)
    if todo or work.mending:
        publish_recipe(work.lake, column.key, feature_recipe(column.feature))
    if not todo:
        return
    work.expect(stage, table_bytes(column.feature.columns, stage.documents, len(groups)))
    name, documents = f"feature {column.title or column.alias}", todo.__getitem__
    if missing.is_costly:  # at once: in the order of the pieces, finished ones would wait for a slow one
        done = work.map(name, missing.compute_and_publish, list(todo), documents, loads=column.loads)
    else:
        done = work.together(name, missing.compute, groups, missing.publish, documents, loads=column.loads)
    for _ in done:
        pass


@dataclass(frozen=True)
class _Missing:
    """The rows of a feature that nobody computed before."""

    lake: Lake
    survivors: Survivors
    column: Column

    @property
    def is_costly(self) -> bool:
        """Whether a piece is published as soon as it is there, and would else die with those that it waits for."""
        return self.column.feature.cost >= COSTLY

    def items(self, shard: Shard) -> dict[Item, int]:
        """Return the pieces of a shard, and how many rows of each are missing."""
        return {(shard, *place): len(rows) for place, rows in self._pieces(shard)}

    def compute(self, item: Item) -> Piece | None:
        """Return a piece; None where a worker published it that died before it said so."""
        shard, group, number = item
        rows = dict(self._pieces(shard)).get((group, number))
        if rows is None:
            return None
        batch = shard.read_group(group, self.column.feature.reads)
        batch = batch.take(pa.array(rows - shard.row_groups[group][0]))
        return rows, self.column.feature.compute(batch, self.column.model)

    def publish(self, shard: Shard, pieces: Iterable[Piece | None]) -> None:
        """Publish pieces of a shard as one part."""
        if found := [piece for piece in pieces if piece is not None]:
            rows, batches = zip(*found, strict=True)
            table = pa.Table.from_batches(batches)
            publish_part(self.lake, self.column.key, shard, np.concatenate(rows), table)

    def compute_and_publish(self, item: Item) -> None:
        """Make a part of a piece."""
        self.publish(item[0], [self.compute(item)])

    def _pieces(self, shard: Shard) -> Iterator[tuple[tuple[int, int], Rows]]:
        return _pieces(shard, self._rows(shard), COSTLY_ROWS if self.is_costly else None)

    @cached_property
    def _rows(self) -> Callable[[Shard], Rows]:
        def rows(shard: Shard) -> Rows:
            return missing_rows(self.lake, self.column.key, shard, self.survivors.mask(shard))

        return lru_cache(MASKS_KEPT)(rows)


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

    def groups(self, shards: Sequence[Shard]) -> list[tuple[Shard, list[tuple[Shard, int]]]]:
        """Return the units of work of each shard."""
        return [(shard, self.items([shard])) for shard in shards]

    @property
    def loads(self) -> bool:
        """Whether reading computes a feature that loads a model."""
        return any(column.loads and not column.feature.stored for column in self.measured)

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
