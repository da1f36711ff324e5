"""The table and the map of a clustered step, in the lake by its selection, and linked into the folder of the run.

The map needs a sample of the documents with their vectors, the table one pass over the scores and verdicts that the
lake has: nobody's place is looked for again.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.clustering import vector_column
from ..selectors.clusters import Clustered
from ..selectors.vectors import unit_rows
from ..storage.fingerprint import fingerprint
from ..storage.lake import read_json
from ..storage.shards import Shard
from .cluster_map import Map, Projection, draw_map, fit_projection
from .cluster_table import COUNTS, ClusterTable, Placed, entropy_bits
from .measuring import measure
from .runs import Stage
from .sampling import read_sample
from .scoring import Scored
from .work import Work

SAMPLED, SHOWN = 5_000, 80
FEW = 4
"""So many documents a cluster and more are worth to be called one."""
POINTS = pa.schema(
    [("doc_id", pa.string()), ("x", pa.float32()), ("y", pa.float32()), ("cluster", pa.int64()), ("chosen", pa.bool_())]
)


def picture_clusters(work: Work, step: str, scored: Scored, manifest: dict[str, Any]) -> dict[str, Any]:
    """Bring the table and the map of a clustered step into the lake; return the manifest with where they are.

    A selection without clusters is returned as it is. Paths are relative to the lake.
    """
    clustered = scored.selector.clustering(scored.state)
    if clustered is None:
        return manifest
    name = manifest["selection"]
    folder = work.lake.clusters(name)
    if not (folder / "clusters.json").exists():
        for column in scored.reader.columns:  # what expressions read is in the scores
            measure(work, scored.reader.survivors, column)
        work.stage(f"clusters {step}", partial(_publish_table, work, step, scored, clustered, name, folder))
    else:
        work.stage(f"clusters {step}", lambda stage: stage.reuse(1))
    table = read_json(folder / "clusters.json")
    title = (work.log.record.flow, step, scored.selector.name)
    drawing = folder / f"map-{fingerprint(title)}.png"
    work.stage(f"map {step}", partial(_publish_map, work, table, title, drawing))
    if table["n_clusters"] * FEW > table["documents"]:
        work.reporter.say(
            f"step {step}: {table['n_clusters']:,} clusters for {table['documents']:,} documents, fewer than {FEW} in "
            "each; set clusters: {count: ...}"
        )
    links = {"table": f"{step}-clusters.json", "map": f"{step}-map.png"}
    for link, source in zip(links.values(), (folder / "clusters.json", drawing), strict=True):
        work.lake.publish_link(work.lake.run(work.log.record.run) / link, source)
    there = work.lake.run(work.log.record.run).relative_to(work.lake.root)
    about = {n: table[n] for n in ("n_clusters", "empty_clusters", "entropy_bits", "entropy_bits_chosen")}
    return manifest | {"clusters": about | {name: (there / link).as_posix() for name, link in links.items()}}


def _publish_table(
    work: Work, step: str, scored: Scored, clustered: Clustered, selection: str, folder: Path, stage: Stage
) -> None:
    sample = _Sample(work, step, scored, clustered, stage)
    survivors, centroids = scored.reader.survivors, clustered.state.centroids
    place = partial(_placed, work, scored, selection)
    numbered = list(enumerate(survivors.shards)) if len(centroids) else []
    with ClusterTable(work.lake, len(centroids), survivors.n_documents) as table:
        for placed in work.map(f"clusters {step}", place, numbered):
            table.add(placed)
            sample.see(placed)
        rows, nearest = table.rows(), table.nearest()
    _add_nearest(work, step, scored, rows, nearest)
    for row, (x, y) in zip(rows, sample.projection.of(_means(clustered, rows)).tolist(), strict=True):
        row |= {"x": x, "y": y}
    counts = table.counts
    totals = dict(zip(COUNTS, counts.sum(axis=1).tolist(), strict=True))
    work.lake.publish_table(folder / "points.parquet", sample.points())
    work.lake.publish_json(
        folder / "clusters.json",
        {
            "selection": selection, "step": step, "selector": scored.selector.name, "n_clusters": len(centroids),
            "empty_clusters": int((counts[0] == 0).sum()), **totals,
            "documents_in_no_cluster": survivors.n_documents - totals["documents"],
            "entropy_bits": entropy_bits(counts[0]), "entropy_bits_chosen": entropy_bits(counts[2]),
            "distance": "1 - cosine" if clustered.state.spherical else "squared Euclidean",
            "silhouettes": clustered.state.silhouettes, "explained_variance": sample.projection.explained.tolist(),
            "clusters": rows,
        },
    )  # fmt: skip
    stage.computed, stage.reused = 1, 0


def _means(clustered: Clustered, rows: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
    """Return the middle of each cluster's documents: a spherical centroid, of length 1, is far outside of them.

    They are as long as the mean cosine of the documents with the centroid, which is their direction.
    """
    centroids = clustered.state.centroids.astype(np.float64)
    if not clustered.state.spherical:
        return centroids
    cosine: npt.NDArray[np.float64] = 1 - np.array([row["mean_distance"] for row in rows])
    return np.asarray(centroids * cosine.reshape(-1, 1))


def _placed(work: Work, scored: Scored, selection: str, item: tuple[int, Shard]) -> Placed:
    """Return the documents of a shard with their clusters."""
    number, shard = item
    scores = scored.table(shard)
    verdicts = work.lake.table(work.lake.selection(selection) / f"{shard.digest}.parquet", ["row", "kept", "n_tokens"])
    row = scores.column("row").to_numpy()
    assert np.array_equal(row, verdicts.column("row").to_numpy())
    there = scores.column("distance").is_valid().to_numpy(zero_copy_only=False)
    cluster = scores.column("group" if scored.selector.groups else "cluster").to_numpy()
    return Placed(
        shard=number,
        row=row[there],
        doc_key=scores.column("doc_key").to_numpy()[there],
        cluster=cluster[there].astype(np.int64),
        distance=scores.column("distance").to_numpy()[there],
        chosen=verdicts.column("kept").to_numpy()[there],
        n_tokens=verdicts.column("n_tokens").to_numpy()[there],
        source=shard.read_column("source").take(pa.array(row[there])).cast(pa.string()),
    )


class _Sample:
    """The documents of the map: their points, and what the pass over all documents says about them."""

    def __init__(self, work: Work, step: str, scored: Scored, clustered: Clustered, stage: Stage) -> None:
        column = vector_column(clustered.feature)
        reader = replace(scored.reader, reads=("doc_id",), expressions=(), asked=())
        found = read_sample(work, f"sample {step}", reader, SAMPLED, work.draw(step)("map"), stage)
        self._ids, x, keys = pa.array([], pa.string()), np.empty((0, 0), np.float32), np.empty(0, np.uint64)
        if found is not None:
            x, valid = unit_rows(found.column(column))
            self._ids, keys = found.column("doc_id").filter(pa.array(valid)), found.column("doc_key").to_numpy()[valid]
            x = x[valid]
        if not len(x):  # the lists of a batch without vectors may have no length
            x = np.empty((0, clustered.state.centroids.shape[1]), np.float32)
        self.projection: Projection = fit_projection(x)
        self._xy = self.projection.of(x).astype(np.float32)
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self._cluster, self._chosen = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.bool_)

    def see(self, placed: Placed) -> None:
        """Note the clusters of the sample's documents in a shard."""
        if not len(self._keys):
            return
        at = np.minimum(np.searchsorted(self._keys, placed.doc_key), len(self._keys) - 1)
        mine = np.flatnonzero(self._keys[at] == placed.doc_key)
        self._cluster[self._order[at[mine]]] = placed.cluster[mine]
        self._chosen[self._order[at[mine]]] = placed.chosen[mine]

    def points(self) -> pa.Table:
        """Return the points, in the order of their random numbers."""
        x, y = self._xy.T
        columns = [self._ids, pa.array(x), pa.array(y), pa.array(self._cluster), pa.array(self._chosen)]
        table = pa.table([pa.concat_arrays([c]) if isinstance(c, pa.Array) else c for c in columns], schema=POINTS)
        return table.filter(pc.greater_equal(table.column("cluster"), 0))


def _add_nearest(work: Work, step: str, scored: Scored, rows: list[dict[str, Any]], nearest: pa.Table) -> None:
    """Add to each cluster's row the id, distance and first characters of the documents nearest to its centroid."""
    shards = scored.reader.survivors.shards
    wanted: dict[tuple[int, int], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for row in rows:
        row["nearest"] = []
    for found in nearest.to_pylist():
        shard = shards[found["shard"]]
        starts = [start for start, _ in shard.row_groups]
        group = int(np.searchsorted(starts, found["row"], side="right")) - 1
        document = {"distance": found["distance"]}
        rows[found["cluster"]]["nearest"].append(document)
        wanted[found["shard"], group].append((found["row"] - starts[group], document))

    def read(place: tuple[int, int]) -> list[dict[str, Any]]:
        shard, group = place
        batch = shards[shard].read_group(group, ["doc_id", "text"]).take(pa.array([row for row, _ in wanted[place]]))
        text = pc.utf8_slice_codeunits(batch.column("text"), 0, SHOWN)
        found: list[dict[str, Any]] = pa.table({"doc_id": batch.column("doc_id"), "text": text}).to_pylist()
        return found

    for place, texts in zip(wanted, work.map(f"nearest {step}", read, list(wanted)), strict=True):
        for (_, document), text in zip(wanted[place], texts, strict=True):
            document |= text


def _publish_map(work: Work, table: dict[str, Any], title: tuple[str, str, str], target: Path, stage: Stage) -> None:
    """Draw the map where it is not there yet."""
    stage.reused = int(target.exists())
    if stage.reused:
        return
    stage.computed = 1
    points = work.lake.table(target.parent / "points.parquet")
    clusters: list[dict[str, Any]] = table["clusters"]
    numbers: npt.NDArray[np.float64] = np.array([[c["x"], c["y"], c["documents"]] for c in clusters]).reshape(-1, 3)
    xy = np.stack([points.column("x").to_numpy(), points.column("y").to_numpy()], axis=1).astype(np.float64)
    drawn = Map(
        xy, points.column("cluster").to_numpy(), points.column("chosen").to_numpy(), numbers[:, :2],
        numbers[:, 2].astype(np.int64), table["explained_variance"],
    )  # fmt: skip
    work.lake.publish_bytes(target, draw_map(drawn, *title))
