"""A user's own table of scores by document id: Parquet files, checked where they come in.

The schema comes from the files' footers, the rows are read once and sorted by the 64-bit hash of their id, so that a
batch of documents finds its rows by binary search. In memory a row costs 8 bytes, its id and its values, and twice that
while it is sorted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from .errors import ConfigError
from .fingerprint import file_sha256
from .inputs import InputFile, list_inputs
from .places import parquet_source
from .plugins import nearest


@dataclass(frozen=True)
class ScoreTable:
    """Rows in the order of `keys` (xxh3 of the id, ascending): the ids, and the values with their declared schema."""

    keys: npt.NDArray[np.uint64]
    ids: pa.Array
    values: pa.Table


@dataclass(frozen=True)
class ScoreFiles:
    """Which files hold the scores, in which column their ids stand, and which columns are wanted (None: all others)."""

    files: tuple[str, ...]
    join: str
    columns: tuple[str, ...] | None

    def schema(self) -> pa.Schema:
        """Return the wanted columns as every file has them, without reading rows. Raises ConfigError."""
        listed = self._listed()
        schema = self._schema_of(listed[0])
        for file in listed[1:]:
            other = self._schema_of(file)
            for field in schema:
                if field.name not in other.names:
                    known = nearest(field.name, other.names)
                    raise ConfigError(f'"{file.name}" has no column {field.name!r}, "{listed[0].name}" has one{known}')
                found = other.field(field.name).type
                if found != field.type:
                    expected = f'{field.type} as in "{listed[0].name}"'
                    raise ConfigError(f'"{file.name}": column {field.name!r} is {found}, expected {expected}')
        return schema

    def sha256(self) -> list[str]:
        """Return the SHA-256 of every file, in the order of their names. Raises ConfigError."""
        return [_sha256(file.path, file.mtime_ns, file.size) for file in self._listed()]

    def read(self) -> ScoreTable:
        """Read all rows. Raises ConfigError for an id that is given twice, and for a row without one."""
        schema = self.schema()
        ids, values = [], []
        for file in self._listed():
            table = _read(file, [self.join, *schema.names])
            ids.append(_as_text(table.column(self.join), file))
            values.append(table.select(schema.names).cast(schema))
        return _sorted(
            pa.chunked_array([c for i in ids for c in i.chunks], pa.large_string()), pa.concat_tables(values)
        )

    def _listed(self) -> list[InputFile]:
        if not self.files:
            raise ConfigError("external: `files` is empty, expected the paths of Parquet files")
        return list_inputs(self.files, Path())

    def _schema_of(self, file: InputFile) -> pa.Schema:
        found = _footer(file.path, file.mtime_ns, file.size)
        if self.join not in found.names:
            raise ConfigError(f'"{file.name}" has no column {self.join!r} to join by{nearest(self.join, found.names)}')
        kind = _plain(found.field(self.join).type)
        if not (pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
            raise ConfigError(
                f'"{file.name}": the ids in column {self.join!r} are {kind}, expected text or whole numbers'
            )
        others = [name for name in found.names if name != self.join]
        wanted = others if self.columns is None else list(self.columns)
        for name in wanted:
            if found.names.count(name) != 1 or name == self.join:
                raise ConfigError(f'"{file.name}" has no column {name!r} beside its ids{nearest(name, others)}')
        if not wanted:
            raise ConfigError(f'"{file.name}" has no columns beside {self.join!r}, expected at least one score')
        return pa.schema([pa.field(name, _plain(found.field(name).type)) for name in wanted])


def find_rows(table: ScoreTable, ids: pa.Array) -> pa.Array:
    """Return the row of each id in `table`, null where it has none. Of equal hashes the id itself decides."""
    ids = ids.cast(pa.large_string())
    wanted = _keys(ids)
    place = np.searchsorted(table.keys, wanted)
    rows = np.full(len(wanted), -1, np.int64)
    left = np.arange(len(wanted))
    while left.size:
        left = left[place[left] < table.keys.size]
        left = left[table.keys[place[left]] == wanted[left]]
        same = pc.equal(table.ids.take(pa.array(place[left])), ids.take(pa.array(left)))
        equal = same.to_numpy(zero_copy_only=False)
        rows[left[equal]] = place[left[equal]]
        left = left[~equal]
        place[left] += 1
    return pa.array(rows, mask=rows < 0)


def _sorted(ids: pa.ChunkedArray, values: pa.Table) -> ScoreTable:
    keys = np.concatenate([np.empty(0, np.uint64), *(_keys(chunk) for chunk in ids.chunks)])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    taken = pa.array(order)
    _refuse_repeated(keys, ids, order)
    return ScoreTable(keys, ids.take(taken).combine_chunks(), values.take(taken).combine_chunks())


def _refuse_repeated(keys: npt.NDArray[np.uint64], ids: pa.ChunkedArray, order: npt.NDArray[np.int64]) -> None:
    """Raise ConfigError for an id that stands in two rows."""
    seen: dict[str, int] = {}
    for start in np.flatnonzero(keys[1:] == keys[:-1]).tolist():
        for row in order[start : start + 2].tolist():
            doc_id = ids[row].as_py()
            if seen.setdefault(doc_id, row) != row:
                raise ConfigError(
                    f"external: the id {doc_id!r} stands in two rows, expected one a document; remove one of them"
                )


def _keys(ids: pa.Array) -> npt.NDArray[np.uint64]:
    texts = ids.to_pylist()
    return np.fromiter(
        (xxhash.xxh3_64_intdigest(t.encode()) if t is not None else 0 for t in texts), np.uint64, len(texts)
    )


def _as_text(ids: pa.ChunkedArray, file: InputFile) -> pa.ChunkedArray:
    if ids.null_count:
        raise ConfigError(f'"{file.name}": {ids.null_count:,} rows have no id, expected one in every row; remove them')
    return ids.cast(_plain(ids.type)).cast(pa.large_string())


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values: how they are encoded in one file says nothing about the next."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.large_string() if pa.types.is_string(kind) or pa.types.is_string_view(kind) else kind


def _read(file: InputFile, columns: Sequence[str]) -> pa.Table:
    try:
        with pq.ParquetFile(parquet_source(file.path)) as parquet:
            table = parquet.read(list(dict.fromkeys(columns)))
        table.validate(full=True)  # UTF-8
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f'"{file.name}" cannot be read as Parquet ({error}); make it again') from error


@lru_cache(maxsize=4096)
def _footer(path: Path, mtime_ns: int, size: int) -> pa.Schema:
    try:
        return pq.read_schema(parquet_source(path))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f'"{path}" cannot be read as Parquet ({error}), expected a Parquet file of scores') from error


@lru_cache(maxsize=4096)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    return file_sha256(path)
