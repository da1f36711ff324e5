"""The documents of a mixture in their order: shuffled by keyed numbers, or a curriculum by a score or an expression.

Every copy of a document has a number of its own, so copies stand apart, and the order of a smaller mixture is that of a
larger one without what it lacks. The texts go once through the scratch folder (`storage/sorting.py`) and memory is that
of a range of 32 MB or less; nothing that is written depends on shards or workers, not even where row groups end.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..features.base import Feature
from ..selectors.cut_kernels import NAN_RANK, rank_bits
from ..selectors.keyed import uniform
from ..storage.draws import draw_file
from ..storage.schema import DOCUMENT
from ..storage.shards import BYTES_A_ROW, ROW_GROUP_BYTES, Mask, Shard
from ..storage.sorting import NUMBER, RANK, Splits, evenly, in_order
from ..storage.survivors import MASKS_KEPT, Survivors
from .expressions import Expression, FeatureSchemas, compile_expression
from .forms import CHOSEN
from .measuring import Column, Reader, documents_in, measure
from .mixture_entries import Order
from .work import Work

SAMPLED_ROWS = 200_000
SCORE, BY = "score", "by"

_KEYS = (pa.field(RANK, pa.uint64()), pa.field(NUMBER, pa.float64()), pa.field("copy", pa.int32()))
_TIES = ("corpus", "doc_id", "copy")
_DRAWN = ("n_tokens", "score", "part")


def order_expression(name: str, order: Order, features: Mapping[str, Feature]) -> Expression | None:
    """Return the checked expression that a mixture is sorted by, None for a shuffle or `score`. Raises ConfigError."""
    if order.by is None or order.by == SCORE:
        return None
    return compile_expression(f"mixtures.{name}: order: by", BY, order.by, FeatureSchemas(features), "DOUBLE")


class _Batch(NamedTuple):
    """Drawn documents of one row group: what the reader and what the draw have of them, and the first sort key."""

    corpus: str
    shard: Shard
    read: pa.RecordBatch
    drawn: pa.Table
    rank: npt.NDArray[np.uint64]


@dataclass
class Ordered:
    """The copies of a draw in their order; `shards` are those of its corpora."""

    work: Work
    name: str
    order: Order
    draw: Mapping[str, Any]
    shards: Mapping[str, Sequence[Shard]]
    unordered: int = 0
    """Copies without a number to be sorted by, which stand last; counted while the tables are read."""

    @cached_property
    def _expression(self) -> Expression | None:
        return order_expression(self.name, self.order, self.work.features)

    @cached_property
    def _features(self) -> tuple[Column, ...]:
        aliases = self._expression.aliases if self._expression else ()
        return tuple(Column(alias, self.work.features[alias]) for alias in aliases)

    @cached_property
    def _drawn(self) -> list[Survivors]:
        """The drawn documents of each corpus."""
        return [
            Survivors(corpus, kept, lru_cache(MASKS_KEPT)(partial(self._mask, corpus)))
            for corpus, shards in self.shards.items()
            if (kept := tuple(shard for shard in shards if f"{corpus}/{shard.digest}" in self.draw["shards"]))
        ]

    def _mask(self, corpus: str, shard: Shard) -> Mask:
        mask = np.zeros(shard.rows, dtype=np.bool_)
        mask[self._table(corpus, shard).column("row").to_numpy()] = True
        return mask

    def recipe(self) -> dict[str, Any]:
        """Return what the order is made by, beside the draw."""
        sql = self._expression.sql if self._expression else self.order.by
        return {"by": sql, "ascending": self.order.ascending, "features": {c.alias: c.key for c in self._features}}

    def measure(self) -> None:
        """Compute the features that the order reads, for the drawn documents alone."""
        for column in self._features:
            for survivors in self._drawn:
                measure(self.work, survivors, column)

    def tables(self, columns: Sequence[str], most_bytes: int = ROW_GROUP_BYTES) -> Generator[pa.Table]:
        """Yield the copies in order, in tables of at most so many bytes of text and metadata.

        The columns are some of CHOSEN; corpus, id, text and metadata are among them.
        """
        schema = pa.schema([*(CHOSEN.field(name) for name in columns), *_KEYS])
        tables = in_order(self.work.lake, schema, self._copies(schema), self._splits(), _TIES)
        return (table.select(list(columns)) for table in evenly(tables, _sizes, most_bytes))

    def _splits(self) -> Splits:
        """Return ranges of such a size: even where the numbers are, else those of a keyed sample of the documents."""
        n_bytes = int(self.draw["bytes"]) + int(self.draw["meta_bytes"]) + BYTES_A_ROW * int(self.draw["copies"])
        n = max(1, -(-n_bytes // self.work.lake.memory.range_bytes))
        if n == 1 or self.order.by is None:
            return Splits.even(n)
        share, key = SAMPLED_ROWS / int(self.draw["documents"]), self._key("sample")
        found: list[tuple[Any, ...]] = []
        for batch in self._batches("n_bytes"):
            keys = batch.read.column("doc_key").to_numpy()
            weight = batch.read.column("n_bytes").to_numpy() * batch.drawn.column("multiplicity").to_numpy()
            taken = uniform(keys, key) < share
            found.append((batch.rank[taken], uniform(keys, self._key("sample number"))[taken], weight[taken]))
        rank, number, weights = (np.concatenate(column) for column in zip(*found, strict=True))
        return Splits.of_sample(rank, number, weights, n)

    def _copies(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield every copy of every drawn document, with what it is sorted by."""
        of_shard = [name for name in schema.names if name in DOCUMENT.names]
        for corpus, shard, read, drawn, rank in self._batches(*of_shard, "doc_key"):
            n, keys, times = len(rank), read.column("doc_key").to_numpy(), drawn.column("multiplicity").to_numpy()
            whole = {name: read.column(name) for name in of_shard} | {name: drawn.column(name) for name in _DRAWN}
            whole |= {"corpus": pa.repeat(corpus, n), "shard": pa.repeat(shard.digest, n), "row": drawn.column("row")}
            for copy in range(int(times.max())):
                number = uniform(keys, self._key(f"order {corpus} {copy}"))
                found = {**whole, RANK: rank, NUMBER: number, "copy": np.full(n, copy, np.int32)}
                table = pa.table({name: found[name] for name in schema.names}).cast(schema)
                table = table.filter(pa.array(times > copy))
                self.unordered += int(np.count_nonzero(table.column(RANK).to_numpy() == NAN_RANK))
                yield table

    def _batches(self, *reads: str) -> Iterator[_Batch]:
        """Yield the drawn documents row group by row group."""
        expressions = (self._expression,) if self._expression else ()
        names = tuple(dict.fromkeys([*reads, *(name for e in expressions for name in e.document_columns)]))
        readers = [Reader(self.work.lake, s, names, (), expressions, self._features) for s in self._drawn]

        def read(item: tuple[int, tuple[Shard, int]]) -> _Batch:
            number, (shard, group) = item
            reader = readers[number]
            corpus, batch = reader.survivors.corpus, reader.read((shard, group))
            drawn = self._table(corpus, shard)
            at = int(np.searchsorted(drawn.column("row").to_numpy(), batch.column("row")[0].as_py()))
            drawn = drawn.take(np.arange(at, at + batch.num_rows))  # a slice would travel with the whole shard's
            return _Batch(corpus, shard, batch, drawn, self._rank(batch, drawn))

        items = [(n, item) for n, r in enumerate(readers) for item in r.items() if _has_any(r.survivors, *item)]
        name, loads = f"order {self.name}", any(reader.loads for reader in readers)
        yield from self.work.map(name, read, items, lambda item: documents_in(item[1]), loads=loads)

    @cached_property
    def _table(self) -> Callable[[str, Shard], pa.Table]:
        """What the draw says of a shard; kept for its next row group."""
        wanted = ["row", "n_tokens", "score", "part", "multiplicity"]
        lake, key = self.work.lake, self.draw["draw"]

        def read(corpus: str, shard: Shard) -> pa.Table:
            return lake.table(draw_file(lake, key, corpus, shard.digest), wanted)

        return lru_cache(MASKS_KEPT)(read)

    def _rank(self, batch: pa.RecordBatch, drawn: pa.Table) -> npt.NDArray[np.uint64]:
        """Return what documents are sorted by first; without a number they come last."""
        if self.order.by is None:
            return np.zeros(batch.num_rows, np.uint64)
        values = drawn.column(SCORE) if self.order.by == SCORE else batch.column(BY)
        number = np.array(values.fill_null(np.nan), np.float64)
        rank: npt.NDArray[np.uint64] = rank_bits((-number if self.order.ascending else number).view(np.uint64))
        return rank

    def _key(self, purpose: str) -> int:
        return self.work.draw(f"mixture {self.name}")(purpose)


def _sizes(documents: pa.Table) -> npt.NDArray[np.int64]:
    lengths = (pc.binary_length(documents.column(name)).fill_null(0).to_numpy() for name in ("text", "meta"))
    return sum(lengths, np.zeros(documents.num_rows, np.int64))


def _has_any(survivors: Survivors, shard: Shard, group: int) -> bool:
    start, n = shard.row_groups[group]
    return bool(survivors.mask(shard)[start : start + n].any())
