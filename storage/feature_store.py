"""Feature values on disk: parts of a shard's rows, each computed once.

A feature may have been asked for when only some documents were still in. The rows that are there are found in the
parts' `row` column; only missing rows are computed, and they make another part. Rows are positions in the shard, so a
lookup is an index, never a join on ids.
"""

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .fingerprint import fingerprint
from .lake import Lake, read_table
from .shards import Mask, Shard

Rows = npt.NDArray[np.int64]


def parts(lake: Lake, key: str, shard: Shard) -> list[Path]:
    """Return the files that hold values of a feature for rows of a shard."""
    return sorted((lake.feature(key) / shard.digest).glob("*.parquet"))


def missing_rows(lake: Lake, key: str, shard: Shard, wanted: Mask) -> Rows:
    """Return the wanted rows that no part has, ascending."""
    missing = wanted.copy()
    for part in parts(lake, key, shard):
        missing[lake.table(part, ["row"]).column(0).to_numpy()] = False
    return np.flatnonzero(missing).astype(np.int64)


def publish_part(lake: Lake, key: str, shard: Shard, rows: Rows, values: pa.Table) -> None:
    """Publish the values of these rows (ascending, none of them there yet)."""
    table = values.add_column(0, "row", pa.array(rows, pa.int64()))
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
    columns = schema.names
    files = tuple(str(p) for p in parts(lake, key, shard))
    where, table = _shard_values(files, tuple(columns), shard.rows)
    places = where[rows]
    if places.size and places.min() < 0:
        raise LookupError(f"feature {key} lacks rows of shard {shard.digest}")
    return table.take(pa.array(places))


@lru_cache(maxsize=8)
def _shard_values(files: tuple[str, ...], columns: tuple[str, ...], n_rows: int) -> tuple[Rows, pa.Table]:
    """Read all parts of a shard: the place of each row (-1: none), and the values. Parts never change, so keep them."""
    tables = [read_table(Path(f), ["row", *columns]) for f in files]
    table = pa.concat_tables(tables).combine_chunks() if tables else pa.table({"row": pa.array([], pa.int64())})
    where = np.full(n_rows, -1, dtype=np.int64)
    row = table.column("row").to_numpy()
    where[row] = np.arange(row.size)
    return where, table.drop_columns("row")
