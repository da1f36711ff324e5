"""A random sample of the documents of a step, the same for any shards, workers and order of files.

The documents with the smallest keyed numbers: one pass over the keys to find them, one over the row groups that have
any to read them. Memory is the sample's.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..selectors.keyed import uniform
from ..storage.shards import Shard
from .measuring import Reader, documents_in
from .runs import Stage
from .work import Work

NUMBER = "sample number"


def read_sample(work: Work, name: str, reader: Reader, size: int, key: int, stage: Stage) -> pa.RecordBatch | None:
    """Return up to `size` documents in the order of their random numbers; None where there is none."""
    limit = _limit(reader, size, key)
    items = [item for shard in reader.survivors.shards for item in _with_some(reader, shard, key, limit)]
    stage.computed = len(items)

    def sampled(item: tuple[Shard, int]) -> pa.RecordBatch:
        batch = reader.read(item)
        number = uniform(batch.column("doc_key").to_numpy(), key)
        return batch.append_column(NUMBER, pa.array(number)).filter(pa.array(number <= limit))

    pieces = [piece for piece in work.map(name, sampled, items, documents_in, loads=reader.loads) if piece.num_rows]
    if not pieces:
        return None
    table = pa.Table.from_batches(pieces).sort_by([(NUMBER, "ascending"), ("doc_key", "ascending")])
    (batch,) = table.slice(0, size).drop_columns(NUMBER).combine_chunks().to_batches()
    return batch


def merge_samples(old: pa.Table, more: pa.RecordBatch | None, size: int, key: int) -> pa.RecordBatch:
    """Return the sample of two pools that share no document, from the samples of both: what `read_sample` gives."""
    table = old if more is None else pa.concat_tables([old.cast(more.schema), pa.Table.from_batches([more])])
    number = uniform(table.column("doc_key").to_numpy(), key)
    table = table.append_column(NUMBER, pa.array(number))
    table = table.sort_by([(NUMBER, "ascending"), ("doc_key", "ascending")])
    (batch,) = table.slice(0, size).drop_columns(NUMBER).combine_chunks().to_batches()
    return batch


def _limit(reader: Reader, size: int, key: int) -> float:
    """Return the largest number that belongs to the sample."""
    smallest = np.empty(0)
    for shard in reader.survivors.shards:
        smallest = np.concatenate([smallest, _numbers(reader, shard, key)])
        if smallest.size > size:
            smallest = np.partition(smallest, size - 1)[:size]
    return float(smallest.max(initial=0.0))


def _numbers(reader: Reader, shard: Shard, key: int) -> npt.NDArray[np.float64]:
    """Return the random number of each row of a shard, 2 for rows that are out."""
    inside = reader.survivors.mask(shard)
    return np.where(inside, uniform(shard.read_column("doc_key").to_numpy(), key), 2.0)


def _with_some(reader: Reader, shard: Shard, key: int, limit: float) -> Iterator[tuple[Shard, int]]:
    """Yield the row groups that have documents of the sample."""
    numbers = _numbers(reader, shard, key)
    for group, (start, n) in enumerate(shard.row_groups):
        if numbers[start : start + n].min(initial=2.0) <= limit:
            yield shard, group
