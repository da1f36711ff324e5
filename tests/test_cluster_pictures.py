"""The table and the map that every clustered step leaves: what they say, when they are made, and odd corpora."""

import io
import json
import math
import struct
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from small_flow import documents, make_case, stages, write_jsonl
from tamis.pipelines import cluster_pictures
from tamis.pipelines.cli import app
from tamis.pipelines.cluster_map import Map, draw_map, fit_projection
from tamis.storage.lake import Lake
from tamis.storage.snapshots import newest
from tamis.storage.survivors import Survivors
from tamis.storage.verify import verify
from typer.testing import CliRunner

KMEANS = {"name": "spread", "select": "kmeans", "cut": {"budget": {"documents": "30%"}}}
STEPS = {
    "kmeans": KMEANS,
    "density_pruning": {**KMEANS, "select": "density_pruning"},
    "semdedup": {"name": "spread", "dedup": "semdedup"},
}
parametrized = pytest.mark.parametrize("name", STEPS)


def case(folder, name="kmeans", n=300, count=7, files=3, vectors=None, texts=None, keep=0.5, **changes):
    """A flow of one clustered step over vectors from a file; those of the last documents are missing."""
    folder.mkdir(exist_ok=True)
    ids = [record["id"] for record in documents(n)]
    if vectors is None:
        vectors = np.random.default_rng(3).normal(size=(n - n // 20, 6)) + np.eye(6)[np.arange(n - n // 20) % 6] * 4
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).reshape(-1)), vectors.shape[1])
    pq.write_table(
        pa.table({"id": pa.array(ids[: len(vectors)], pa.string()), "v": column}), folder / "vectors.parquet"
    )
    step = {**STEPS[name], "with": {"vectors": "vec", "clusters": {"count": count}}}
    if name == "semdedup":
        step["with"]["keep"] = keep
    features = {"stats": {"use": "text_stats"}, "vec": {"use": "external", "files": "vectors.parquet"}}
    config = make_case(folder, n=n, files=files, steps=[step], features=features, **changes)
    if texts:
        write_jsonl(folder / "raw" / "part-0.jsonl", [r | {"text": texts} for r in documents(n)])
    return config


def pictures(run):
    """The table, the points and the map of a run's only step, and where they are in its folder."""
    found = run.steps[0]["clusters"]
    table = json.loads((run.lake.root / found["table"]).read_text())
    points = pq.read_table(run.lake.clusters(run.steps[0]["selection"]) / "points.parquet")
    return table, points, (run.lake.root / found["map"]).read_bytes()


def size_of(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def scored_documents(run):
    """Every document with a vector, as the scores and verdicts have it."""
    facts = tamis.sql(
        run.lake,
        """select shard, row, doc_id, s.doc_key, kept, s.n_tokens, d.source, t.text
           from selection_steps s join documents d using (doc_id, shard, row) join text t using (doc_id, shard, row)""",
    ).pl()
    facts = {(f["shard"], f["row"]): f for f in facts.to_dicts()}
    found = []
    shards = {scored: shard for shard, scored in Survivors.of(newest(run.lake, run.record.corpus)).digests.items()}
    for path in run.lake.root.glob("scores/*/*.parquet"):
        for scores in pq.read_table(path).to_pylist():
            if scores["distance"] is not None:
                cluster = scores.get("cluster", scores.get("group"))
                distance = scores["distance"]
                found.append({**facts[shards[path.stem], scores["row"]], "cluster": cluster, "distance": distance})
    return found


@parametrized
def test_the_table_says_what_a_plain_count_says(tmp_path, name):
    run = tamis.run(case(tmp_path, name), "small")
    table, _, _ = pictures(run)
    all_of_them = scored_documents(run)
    assert len(all_of_them) == 285 == table["documents"] and table["documents_in_no_cluster"] == 15
    assert [row["cluster"] for row in table["clusters"]] == list(range(table["n_clusters"])) and table[
        "n_clusters"
    ] == 7
    for row in table["clusters"]:
        mine = sorted(
            (d for d in all_of_them if d["cluster"] == row["cluster"]), key=lambda d: (d["distance"], d["doc_key"])
        )
        chosen = [d for d in mine if d["kept"]]
        assert (row["documents"], row["chosen"]) == (len(mine), len(chosen)) and mine
        assert (row["tokens"], row["tokens_chosen"]) == tuple(
            sum(d["n_tokens"] for d in part) for part in (mine, chosen)
        )
        assert row["mean_distance"] == pytest.approx(sum(d["distance"] for d in mine) / len(mine), rel=1e-12)
        sources = sorted(Counter(d["source"] for d in mine).items(), key=lambda item: (-item[1], item[0]))[:3]
        assert [(s["source"], s["documents"], s["share"]) for s in row["sources"]] == [
            (source, n, n / len(mine)) for source, n in sources
        ]
        assert row["nearest"] == [
            {"doc_id": d["doc_id"], "distance": d["distance"], "text": d["text"][:80]} for d in mine[:3]
        ]
    sizes = [row["documents"] for row in table["clusters"]]
    assert table["entropy_bits"] == pytest.approx(-sum(n / 285 * math.log2(n / 285) for n in sizes))
    assert 0 < table["chosen"] < 285 and table["chosen"] == sum(d["kept"] for d in all_of_them)


@parametrized
def test_shards_files_and_workers_change_nothing(tmp_path, name):
    corpora = {"web": {"files": ["raw/*"], "shard_bytes": 4000}}
    one = tamis.run(case(tmp_path / "one", name), "small", workers=1)
    many = tamis.run(case(tmp_path / "many", name, files=7, corpora=corpora), "small", workers=3)
    assert len(one.record.counts) and tamis.sql(many.lake, "from shards").shape[0] > 5
    (table, points, png), (others, other_points, other_png) = pictures(one), pictures(many)
    assert table.pop("selection") != others.pop("selection")
    assert table == others and points.equals(other_points) and png == other_png


def test_the_points_are_a_sample_with_its_clusters_and_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_pictures, "SAMPLED", 40)
    run = tamis.run(case(tmp_path), "small")
    table, points, _ = pictures(run)
    truth = {d["doc_id"]: d for d in scored_documents(run)}
    assert 30 <= points.num_rows <= 40
    for point in points.to_pylist():
        document = truth[point["doc_id"]]
        assert (point["cluster"], point["chosen"]) == (document["cluster"], document["kept"])
    assert len(table["explained_variance"]) == 2 and 0 < sum(table["explained_variance"]) <= 1


def test_spherical_clusters_are_marked_inside_of_their_documents(tmp_path):
    config = case(tmp_path, "semdedup")
    run = tamis.run(config, "small", overrides=["flows.small.steps.spread.with.clusters.spherical=true"])
    table, points, _ = pictures(run)
    assert table["distance"] == "1 - cosine"
    for row in table["clusters"]:
        mine = points.filter(pa.compute.equal(points.column("cluster"), row["cluster"]))
        middle = [np.mean(mine.column(axis).to_numpy()) for axis in "xy"]
        assert [row["x"], row["y"]] == pytest.approx(middle, abs=0.02)


EQUAL = np.tile([[1.0, 2.0, 3.0]], (300, 1))


@pytest.mark.parametrize(
    ("changes", "n_clusters", "n_documents"),
    [
        ({"vectors": EQUAL}, 1, 300),
        ({"n": 1, "files": 1, "vectors": EQUAL[:1]}, 1, 1),
        ({"n": 5, "files": 1, "count": 50, "vectors": np.eye(5, 8)}, 5, 5),
        ({"vectors": EQUAL[:0]}, 0, 0),
        ({"n": 40, "files": 1, "count": 2, "vectors": np.repeat([[1.0], [-1.0]], 20, axis=0)}, 2, 40),
    ],
    ids=["all equal", "one document", "more clusters than documents", "no vectors", "one dimension"],
)
@parametrized
def test_odd_corpora(tmp_path, name, changes, n_clusters, n_documents):
    run = tamis.run(case(tmp_path, name, **changes), "small")
    table, points, png = pictures(run)
    assert (table["n_clusters"], table["documents"], points.num_rows) == (n_clusters, n_documents, n_documents)
    assert sum(row["documents"] for row in table["clusters"]) == n_documents
    assert np.isfinite(points.column("x").to_numpy()).all() and size_of(png) == (1200, 600)
    if n_clusters == 1:
        assert table["explained_variance"] == [0, 0] and not points.column("x").to_numpy().any()
        assert table["entropy_bits"] == 0


def test_the_map_has_its_size_and_shows_something_in_both_panels(tmp_path):
    _, _, png = pictures(tamis.run(case(tmp_path), "small"))
    assert size_of(png) == (1200, 600)
    image = (imread(io.BytesIO(png))[:, :, :3] * 255).round().astype(int)
    left, right = image[80:540, 80:600], image[80:540, 650:1180]
    assert len(np.unique(left.reshape(-1, 3), axis=0)) > 100
    blue = (right[:, :, 2] > right[:, :, 0] + 60).sum()
    grey = ((right.max(axis=2) - right.min(axis=2) == 0) & (right[:, :, 0] > 180) & (right[:, :, 0] < 220)).sum()
    assert blue > 500 and grey > 500


def test_nothing_is_drawn_again_on_a_second_run(tmp_path, monkeypatch):
    config = case(tmp_path)
    first = tamis.run(config, "small")
    monkeypatch.setattr(cluster_pictures, "draw_map", None)
    second = tamis.run(config, "small")
    assert pictures(first)[2] == pictures(second)[2] and first.steps[0]["clusters"] != second.steps[0]["clusters"]
    assert stages(second)["clusters spread"] == stages(second)["map spread"] == (0, 1)
    assert second.record.computed == 0 and list(verify(second.lake)) == []


def test_what_was_removed_is_made_again(tmp_path):
    config = case(tmp_path, "semdedup")
    first = tamis.run(config, "small")
    before = pictures(first)
    for path in first.lake.clusters(first.steps[0]["selection"]).iterdir():
        path.unlink()
    again = pictures(tamis.run(config, "small"))
    assert again[0] == before[0] and again[1].equals(before[1]) and again[2] == before[2]


def test_no_text_of_documents_is_in_the_drawing(tmp_path):
    odd = "$\\frac{ \u202e猫\U0001f600 </svg> \t{0} %s \x07 $ word " + "é" * 100
    plain = pictures(tamis.run(case(tmp_path / "plain", files=1, texts="word"), "small"))
    table, _, png = pictures(tamis.run(case(tmp_path / "odd", files=1, texts=odd), "small"))
    assert png == plain[2]
    assert table["clusters"][0]["nearest"][0]["text"] == odd[:80]


def test_a_step_without_clusters_has_no_pictures(tmp_path):
    run = tamis.run(make_case(tmp_path), "small")
    assert all("clusters" not in step for step in run.steps)
    assert not (run.lake.root / "clusters").exists()


def test_the_command_says_where_they_are(tmp_path):
    config = case(tmp_path)
    shown = CliRunner().invoke(app, ["run", "small", "-c", str(config), "--no-prefect", "-q"]).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("clusters ")]
    assert line.startswith("clusters  spread: 7, 0 empty; ")
    assert all((tmp_path / "lake" / "runs").glob(f"*/spread-{end}") for end in ("clusters.json", "map.png"))
    shown = CliRunner().invoke(app, ["run", "small", "-c", str(config), "--no-prefect", "-q", "--json"]).stdout
    found = json.loads(shown)["steps"][0]["clusters"]
    assert all((tmp_path / "lake" / found[name]).exists() for name in ("table", "map"))


def test_the_clusters_can_be_asked_for(tmp_path):
    config = case(tmp_path)
    run = tamis.run(config, "small")
    table, _, _ = pictures(run)
    tamis.run(config, "small")
    query = (
        "select cluster, documents, sources[1].source, nearest[1].text from clusters where run = $1 and step = 'spread'"
    )
    assert sorted(tamis.sql(run.lake, query, [run.id]).fetchall()) == [
        (row["cluster"], row["documents"], row["sources"][0]["source"], row["nearest"][0]["text"])
        for row in table["clusters"]
    ]
    assert tamis.sql(Lake.open(run.lake.root), "from clusters").shape[0] == 14


def test_the_projection_is_that_of_a_singular_value_decomposition():
    x = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32) * np.arange(1, 13)
    found = fit_projection(x)
    centred = x - x.mean(axis=0, dtype=np.float64)
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    assert found.explained == pytest.approx(sizes[:2] ** 2 / (sizes**2).sum())
    for component, row in zip(found.components, rows, strict=False):
        assert component[np.abs(component).argmax()] > 0
        assert np.abs(component @ row) == pytest.approx(1)
    assert found.of(x) == pytest.approx(centred @ found.components.T, abs=1e-6)


@pytest.mark.parametrize("n_clusters", [5, 100, 1000])
def test_numbers_on_the_map_do_not_overlap(n_clusters, monkeypatch):
    rng = np.random.default_rng(n_clusters)
    boxes, ends = [], []

    def seen(figure, *args, **kwargs):
        renderer = figure.canvas.get_renderer()
        for axes in figure.axes:
            boxes.append([t.get_window_extent(renderer) for t in axes.texts])
        texts = [t for t in figure.findobj(Text) if t.get_text()]
        ends.append(max(t.get_window_extent(renderer).x1 for t in texts))
        return save(figure, *args, **kwargs)

    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", seen)
    xy = rng.normal(size=(500, 2))
    cluster = rng.integers(0, n_clusters, 500)
    centroids = rng.normal(size=(n_clusters, 2)) / 4
    sizes = rng.integers(1, 10**9, n_clusters)
    png = draw_map(
        Map(xy, cluster, cluster % 2 == 0, centroids, sizes, (0.5, 0.25)),
        "flow_" * 30,
        "$step_" * 30,
        "density_pruning",
    )
    assert size_of(png) == (1200, 600) and len(boxes) == 2 and ends[0] < 1200
    for panel in boxes:
        assert len(panel) >= min(5, n_clusters)
        assert not any(a.overlaps(b) for i, a in enumerate(panel) for b in panel[:i])
