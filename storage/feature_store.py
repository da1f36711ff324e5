"""Feature values on disk: parts of a shard's rows, each computed once.

A feature may have been asked for when only some documents were still in. The rows that are there are found in the
parts' `row` column; only missing rows are computed, and they make another part. Rows are positions in the shard, so a
lookup is an index, never a join on ids.

Values of fixed size are read a shard at a time and kept for the next row group; lists are read by the row groups in
which they were computed, because a shard's n-grams are as long as its text (see `list_bytes`).
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .fingerprint import fingerprint
from .lake import Lake, open_parquet, read_table
from .list_bytes import has_lists, pack_lists, unpack_lists
from .places import is_local
from .shards import Mask, Shard

Rows = npt.NDArray[np.int64]


def parts(lake: Lake, key: str, shard: Shard) -> list[Path]:
    """Return the files that hold values of a feature for rows of a shard."""
    return sorted((lake.feature(key) / shard.digest).glob("*.parquet"))


def missing_rows(lake: Lake, key: str, shard: Shard, wanted: Mask) -> Rows:
    """Return the wanted rows that no part has, ascending."""
    there = parts(lake, key, shard)
    if any(_n_rows(part) == shard.rows for part in there):  # the usual case, of which the rows need not be read
        return np.empty(0, np.int64)
    missing = wanted.copy()
    for part in there:
        missing[lake.table(part, ["row"]).column(0).to_numpy()] = False
    return np.flatnonzero(missing).astype(np.int64)


def _n_rows(part: Path) -> int:
    with open_parquet(part) as parquet:
        return int(parquet.metadata.num_rows)


def kept_schema(lake: Lake, key: str) -> pa.Schema | None:
    """Return the columns that the lake has of a feature, its lists as bytes; None where it has no values."""
    part = next(lake.feature(key).glob("*/*.parquet"), None)
    if part is None:
        return None
    with open_parquet(part) as parquet:
        schema = parquet.schema_arrow
    return schema.remove(schema.get_field_index("row")).remove_metadata()


def publish_part(lake: Lake, key: str, shard: Shard, rows: Rows, values: pa.Table) -> None:
    """Publish the values of these rows (ascending, none of them there yet); lists keep the chunks of `values`."""
    table = pack_lists(values) if has_lists(values.schema) else values.combine_chunks()
    table = table.add_column(0, "row", pa.array(rows, pa.int64()))
    name = fingerprint([key, shard.digest, rows.tolist()])
    lake.publish_table(lake.feature(key) / shard.digest / f"{name}.parquet", table)


def publish_recipe(lake: Lake, key: str, recipe: Any) -> None:
    """Publish what a feature's key stands for, once."""
    target = lake.feature(key) / "feature.json"
    if not target.exists():
        lake.publish_json(target, recipe if isinstance(recipe, dict) else asdict(recipe))


def read_values(lake: Lake, key: str, shard: Shard, rows: Rows, schema: pa.Schema) -> pa.Table:
    """Return the columns of `schema` for rows (ascending) of a shard, in their order; all must have been computed."""
    if not rows.size:
        return schema.empty_table()
    lists = has_lists(schema)
    for files in _parts_known(lake, key, shard):
        where, table = _shard_values(files, () if lists else tuple(schema.names), shard.rows)
        places = where[rows]
        if places.min() >= 0:
            break
    else:
        raise LookupError(f"feature {key} lacks rows of shard {shard.digest}")
    return unpack_lists(_lists(files, places, schema.names), schema) if lists else table.take(pa.array(places))


def _parts_known(lake: Lake, key: str, shard: Shard) -> Iterator[tuple[Path, ...]]:
    """Yield the parts: of a store first those that were seen before, because a listing takes as long as a reading."""
    folder = lake.feature(key) / shard.digest
    if not is_local(folder):
        yield _parts_seen(folder)
        _parts_seen.cache_clear()
    yield tuple(parts(lake, key, shard))


@lru_cache(maxsize=64)
def _parts_seen(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.parquet")))


def _lists(files: tuple[Path, ...], places: Rows, columns: list[str]) -> pa.Table:
    """Return values by their place among those of all parts, from the row groups that have them and no other."""
    groups, starts = _row_groups(files)
    at = np.searchsorted(starts, places, "right") - 1
    wanted, which = np.unique(at, return_inverse=True)
    found = [_read_group(groups[i], columns) for i in wanted.tolist()]
    begins = np.cumsum([0, *(table.num_rows for table in found)])
    inside = places - starts[at] + begins[which]
    table = pa.concat_tables(found)
    whole_table = len(inside) == table.num_rows and bool((inside == np.arange(len(inside))).all())
    return table if whole_table else table.take(pa.array(inside))


def _read_group(place: tuple[Path, int], columns: list[str]) -> pa.Table:
    file, group = place
    with open_parquet(file) as parquet:
        return parquet.read_row_group(group, columns=columns, use_threads=False)


@lru_cache(maxsize=8)
def _row_groups(files: tuple[Path, ...]) -> tuple[list[tuple[Path, int]], Rows]:
    """Return the row groups of all parts (file and number), and where each begins among all of their values."""
    groups, sizes = [], [0]
    for file in files:
        with open_parquet(file) as parquet:
            meta = parquet.metadata
        groups += [(file, i) for i in range(meta.num_row_groups)]
        sizes += [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
    return groups, np.cumsum(sizes[:-1] if groups else [], dtype=np.int64)


@lru_cache(maxsize=8)
def _shard_values(files: tuple[Path, ...], columns: tuple[str, ...], n_rows: int) -> tuple[Rows, pa.Table]:
    """Read all parts of a shard: the place of each row (-1: none), and the values. Parts never change, so keep them."""
    tables = [read_table(f, ["row", *columns]) for f in files]
    table = pa.concat_tables(tables).combine_chunks() if tables else pa.table({"row": pa.array([], pa.int64())})
    where = np.full(n_rows, -1, dtype=np.int64)
    row = table.column("row").to_numpy()
    where[row] = np.arange(row.size)
    return where, table.drop_columns("row")
