"""Documents of a mixture with the same text, in whatever corpora and parts: one of them stays.

It is one of the first part in the list that has any; of several there the one with the smallest key, as `dedup: exact`
has it. Two shuffles on disk, by text and back by shard, so memory is that of a partition.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.shuffle import MOST_PARTITIONS, Shuffle, partitions_for
from .mixture_parts import Place, Pool, Repeats
from .runs import Stage
from .work import Work

_TEXT = pa.schema(
    [
        ("high", pa.uint64()), ("low", pa.uint64()), ("part", pa.int64()), ("key", pa.uint64()),
        ("corpus", pa.string()), ("doc_id", pa.string()), ("place", pa.int64()), ("row", pa.int64()),
    ]
)  # fmt: skip
_HOME = pa.schema([("place", pa.int64()), ("row", pa.int64())])
_ORDER = ("high", "low", "part", "key", "corpus", "doc_id")


@contextmanager
def repeated_texts(work: Work, name: str, pool: Pool) -> Iterator[Repeats]:
    """Yield what says which rows of a shard are out because of their text, as long as the context lasts."""
    numbers = {place: number for number, place in enumerate(pool.places)}
    n_rows = sum(place.shard.rows for place in pool.places)
    with Shuffle(work.lake, _HOME, max(1, min(len(numbers), MOST_PARTITIONS))) as home:
        n = partitions_for(work.lake.memory, n_rows, 100)
        work.stage(f"dedup {name}", lambda stage: _find(work, name, pool, home, n, stage))
        read = lru_cache(1)(home.partition)

        def repeats(place: Place) -> npt.NDArray[np.int64]:
            table = read(numbers[place] % home.partitions)
            rows: npt.NDArray[np.int64] = (
                table.filter(pc.equal(table.column("place"), numbers[place])).column("row").to_numpy()
            )
            return rows

        yield repeats


def _find(work: Work, name: str, pool: Pool, home: Shuffle, n_partitions: int, stage: Stage) -> None:
    """Bring the rows with the same text together, and send home those that do not stay."""
    stage.computed = len(pool.places)
    items = list(enumerate(pool.places))
    with Shuffle(work.lake, _TEXT, n_partitions) as by_text:
        for table in work.map(f"dedup {name}", partial(_read, pool), items, lambda item: item[1].shard.rows):
            by_text.add(table, (table.column("high").to_numpy() % np.uint64(n_partitions)).astype(np.int64))
        by_text.close()
        for number in range(n_partitions):
            table = by_text.partition(number)
            table = table.take(pc.sort_indices(table, [(name, "ascending") for name in _ORDER]))
            high, low = table.column("high").to_numpy(), table.column("low").to_numpy()
            again = np.zeros(len(high), dtype=np.bool_)
            again[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
            out = table.filter(pa.array(again)).select(_HOME.names)
            home.add(out, out.column("place").to_numpy() % home.partitions)
    home.close()


def _read(pool: Pool, item: tuple[int, Place]) -> pa.Table:
    """Return the documents of a shard with the hashes of their texts."""
    number, place = item
    row, part, _ = pool.owned(place)
    hashes, key, doc_id = (place.shard.read_column(c).take(pa.array(row)) for c in ("text_hash", "doc_key", "doc_id"))
    halves = np.frombuffer(b"".join(hashes.to_pylist()), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    corpus = pa.repeat(pa.scalar(place.corpus), len(row))
    columns = [*halves.T.copy(), part, key, corpus, doc_id, np.full(len(row), number, np.int64), row]
    return pa.table([pa.array(column) for column in columns], schema=_TEXT)
