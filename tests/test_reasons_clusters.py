"""The cluster behind a choice, checked against the table of clusters and the vectors."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
import tamis
from small_flow import make_case
from tamis.features.registry import REGISTRY
from tamis.pipelines.reasons import reasons
from tamis.selectors.vectors import unit_rows

CLUSTERS = {"vectors": "words", "clusters": {"count": 5}}
CUT = {"budget": {"documents": "30%"}}
STEPS = {
    "random_ones": {"select": "kmeans", "with": CLUSTERS, "cut": CUT},
    "quality": {
        "select": "kmeans", "with": CLUSTERS | {"sampler": "kmq", "quality": "stats.n_words"}, "cut": CUT,
        "refine": {"rounds": 2, "score": "stats.n_words"},
    },
    "dense": {"select": "density_pruning", "with": CLUSTERS, "cut": CUT},
    "prototypes": {"select": "ssl_prototypes", "with": CLUSTERS, "cut": CUT},
    "semantic": {"dedup": "semdedup", "with": CLUSTERS | {"epsilon": 0.2}},
}  # fmt: skip
OTHERS = {
    "chance": {"select": "random", "cut": CUT}, "rounds": {"select": "rs2", "with": {"rounds": 2}, "cut": CUT},
    "twins": {"dedup": "exact"}, "short": {"filter": {"long": "stats.n_words > 2"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    flows = {name: {"corpus": "web", "steps": [{"name": "pick", **step}]} for name, step in (STEPS | OTHERS).items()}
    features = {"words": {"use": "static_embeddings"}, "stats": {"use": "text_stats"}}
    config = make_case(tmp_path_factory.mktemp("clusters"), n=150, flows=flows, features=features, targets={})
    return {name: tamis.run(config, name) for name in flows}


def rows_of(run):
    query = "from selection_steps where run = $1 order by doc_id"
    return tamis.sql(run.lake, query, [run.id]).pl().rows(named=True)


def vectors(run):
    """Return the unit vectors of all documents, by id."""
    found = tamis.sql(run.lake, "select doc_id, text from text").fetchall()
    feature = REGISTRY_WORDS()
    batch = pa.record_batch({"text": pa.array([text for _, text in found], pa.large_string())})
    computed = feature.compute(batch, feature.load())
    x, _ = unit_rows(computed.column(0))
    return dict(zip([doc_id for doc_id, _ in found], x, strict=True))


REGISTRY_WORDS = REGISTRY.find("static_embeddings")


@pytest.mark.parametrize("name", STEPS)
def test_cluster_size_and_neighbours_are_those_of_the_tables(runs, name):
    run, rows = runs[name], rows_of(runs[name])
    found = reasons(run.lake, run.record, "pick", [(r["shard"], r["row"]) for r in rows], most=3)
    table = tamis.sql(run.lake, "select cluster, documents, chosen from clusters where run = $1", [run.id]).fetchall()
    sizes = {cluster: (documents, chosen) for cluster, documents, chosen in table}
    x, kept = vectors(run), {r["doc_id"]: r["kept"] for r in rows}
    cluster = {r["doc_id"]: int(f.about.split()[1]) for r, f in zip(rows, found, strict=True)}
    for row, reason in zip(rows, found, strict=True):
        number = cluster[row["doc_id"]]
        documents, chosen = sizes[number]
        assert reason.about.startswith(f"cluster {number} of 5: {documents:,} documents, {chosen:,} of them kept;")
        beside = [other for other, mine in cluster.items() if mine == number and other != row["doc_id"]]
        cosines = sorted((float(x[row["doc_id"]] @ x[other]) for other in beside), reverse=True)[:3]
        assert [part["cosine"] for part in reason.parts] == pytest.approx(cosines, abs=1e-5)
        for part in reason.parts:
            assert part["doc_id"] in beside and part["kept"] == kept[part["doc_id"]]
            assert float(x[row["doc_id"]] @ x[part["doc_id"]]) == pytest.approx(part["cosine"], abs=1e-5)
    assert len(set(cluster.values())) == 5 and np.isfinite([r["score"] for r in rows if r["score"]]).all()


def test_neighbours_have_the_beginning_of_their_texts(runs):
    run, rows = runs["dense"], rows_of(runs["dense"])[:5]
    texts = dict(tamis.sql(run.lake, "select doc_id, text from text").fetchall())
    for reason in reasons(run.lake, run.record, "pick", [(r["shard"], r["row"]) for r in rows]):
        assert reason.parts
        for part in reason.parts:
            assert part["text"] and texts[part["doc_id"]].startswith(part["text"])


def test_chance_is_said_and_a_score_alone_has_no_reason(runs):
    for name, expected in (("chance", "chance"), ("rounds", "chance"), ("twins", None), ("short", None)):
        run, rows = runs[name], rows_of(runs[name])[:4]
        found = reasons(run.lake, run.record, "pick", [(r["shard"], r["row"]) for r in rows])
        assert [reason and reason.kind for reason in found] == [expected] * 4
        if expected:
            assert [reason.total for reason in found] == [row["score"] for row in rows]


def test_order_and_repeats_are_those_of_the_places(runs):
    run, rows = runs["chance"], rows_of(runs["chance"])[:6]
    places = [(r["shard"], r["row"]) for r in [*rows, rows[0]]]
    scores = [r["score"] for r in [*rows, rows[0]]]
    unknown = [("never", 0), (places[0][0], 10**9)]
    found = reasons(run.lake, run.record, "pick", [*places[::-1], *unknown])
    assert [reason and reason.total for reason in found] == [*scores[::-1], None, None]
    assert reasons(run.lake, run.record, "pick", []) == []


@pytest.mark.parametrize(
    ("folder", "what"), [("states", "state"), ("scores", "score"), ("features", "features"), ("selections", "result")]
)
def test_what_was_removed_from_the_lake_is_said(runs, tmp_path, folder, what):
    run = runs["dense"]
    moved = shutil.copytree(run.lake.root, tmp_path / "lake")
    shutil.rmtree(moved / folder)
    row = rows_of(run)[0]
    (reason,) = reasons(tamis.Lake.open(moved), run.record, "pick", [(row["shard"], row["row"])])
    assert reason.kind == "missing" and what in reason.about and "not in the lake" in reason.about
