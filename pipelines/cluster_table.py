"""What the clusters of a step hold and what of it was chosen: sizes, sources, the documents nearest to each centroid.

One pass over the scores and verdicts, shard by shard. Sums and the three nearest documents a cluster are kept in
memory; sources are counted a shard at a time and added up on disk, because there may be as many as documents. Sums are
whole numbers and ties have an order, so the table is the same for any shards and workers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.exact_sums import ExactSums
from ..storage.lake import Lake
from ..storage.shuffle import Shuffle, partitions_for

NEAREST, SOURCES = 3, 3
COUNTS = ("documents", "tokens", "chosen", "tokens_chosen")

Int64s = npt.NDArray[np.int64]

_SOURCES = pa.schema([("cluster", pa.int64()), ("source", pa.string()), ("documents", pa.int64())])
_NEAREST = pa.schema(
    [("cluster", pa.int64()), ("distance", pa.float64()), ("doc_key", pa.uint64()), ("shard", pa.int64()),
     ("row", pa.int64())]
)  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """The documents of a shard, each with its cluster; those that are in none are left out."""

    shard: int
    row: Int64s
    doc_key: npt.NDArray[np.uint64]
    cluster: Int64s
    distance: npt.NDArray[np.float64]
    chosen: npt.NDArray[np.bool_]
    n_tokens: Int64s
    source: pa.Array

    def sources(self) -> pa.Table:
        """Return how many documents of each source are in each cluster."""
        table = pa.table({"cluster": self.cluster, "source": self.source})
        counted = table.group_by(["cluster", "source"], use_threads=False).aggregate([([], "count_all")])
        return counted.rename_columns(_SOURCES.names).cast(_SOURCES)


class ClusterTable:
    """Add up shards; a context manager that removes what it kept on disk."""

    def __init__(self, lake: Lake, n_clusters: int, n_documents: int) -> None:
        self.counts: Int64s = np.zeros((len(COUNTS), n_clusters), np.int64)
        """The rows are `COUNTS`."""
        self._sums = ExactSums(n_clusters)
        self._nearest = _NEAREST.empty_table()
        self._sources = Shuffle(lake, _SOURCES, partitions_for(lake.memory, n_documents))

    def __enter__(self) -> "ClusterTable":
        self._sources.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._sources.__exit__(*error)

    def add(self, placed: Placed) -> None:
        """Add a shard."""
        n = self.counts.shape[1]
        chosen, cluster = placed.chosen, placed.cluster
        for total, mine, weight in zip(
            self.counts,
            (cluster, cluster, cluster[chosen], cluster[chosen]),
            (None, placed.n_tokens, None, placed.n_tokens[chosen]),
            strict=True,
        ):
            total += np.bincount(mine, weight, n).astype(np.int64)
        self._sums.add(cluster, placed.distance)
        self._add_nearest(placed)
        sources = placed.sources()
        self._sources.add(sources, sources.column("cluster").to_numpy() % self._sources.partitions)

    def _add_nearest(self, placed: Placed) -> None:
        last = np.full(self.counts.shape[1], np.inf)
        full = np.arange(2, self._nearest.num_rows)
        kept = self._nearest.column("cluster").to_numpy()
        full = full[kept[full] == kept[full - 2]]
        last[kept[full]] = self._nearest.column("distance").to_numpy()[full]
        near = np.flatnonzero(placed.distance <= last[placed.cluster])
        fresh = [placed.cluster[near], placed.distance[near], placed.doc_key[near]]
        fresh += [np.full(near.size, placed.shard), placed.row[near]]
        table = pa.concat_tables([self._nearest, pa.table([pa.array(c) for c in fresh], schema=_NEAREST)])
        order = [(name, "ascending") for name in ("cluster", "distance", "doc_key")]
        self._nearest = _first(table.sort_by(order), NEAREST)

    def nearest(self) -> pa.Table:
        """Return the nearest documents (cluster, distance, doc_key, shard, row), by cluster and distance."""
        return self._nearest

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a cluster: its counts, mean distance and most frequent sources."""
        mean = self._sums.mean(self.counts[0]).tolist()
        counts = [dict(zip(COUNTS, column, strict=True)) for column in self.counts.T.tolist()]
        rows: list[dict[str, Any]] = [
            {"cluster": c, **counts[c], "mean_distance": mean[c], "sources": []} for c in range(len(mean))
        ]
        for found in self._top_sources():
            row = rows[found.pop("cluster")]
            row["sources"].append(found | {"share": found["documents"] / row["documents"]})
        return rows

    def _top_sources(self) -> Iterator[dict[str, Any]]:
        self._sources.close()
        for number in range(self._sources.partitions):
            table = self._sources.partition(number).group_by(["cluster", "source"], use_threads=False)
            summed = table.aggregate([("documents", "sum")]).rename_columns(_SOURCES.names)
            order = [("cluster", "ascending"), ("documents", "descending"), ("source", "ascending")]
            yield from _first(summed.sort_by(order), SOURCES).to_pylist()


def _first(table: pa.Table, n: int) -> pa.Table:
    """Return the first `n` rows of each cluster of a table that is sorted by cluster."""
    cluster = table.column("cluster").to_numpy()
    later = np.zeros(cluster.size, np.bool_)
    later[n:] = cluster[n:] == cluster[: cluster.size - n] if cluster.size > n else False
    return table.filter(pc.invert(pa.array(later))).combine_chunks()


def entropy_bits(counts: npt.NDArray[np.int64]) -> float:
    """Return the entropy in bits of a document's cluster: log2 k where all k are equally large; 0 without documents."""
    total = int(counts.sum())
    return -math.fsum(n / total * math.log2(n / total) for n in counts.tolist() if n) if total else 0.0
