"""Clustered steps in whole flows: the same choice for any shards, workers and files, and what goes wrong is said."""

import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
import yaml
from letters import Letters
from small_flow import chosen, documents, make_case, stages, write_jsonl
from tamis.pipelines.plugins import make_selector
from tamis.selectors.clustering import Clustering
from tamis.selectors.semdedup import SemDeDup
from tamis.storage.errors import ConfigError, SelectionError

MINE = {"mine": {"use": "external", "files": ["vectors.parquet"], "join": "id", "values": ["vector"]}}
STATS = {"stats": {"use": "text_stats"}}
CLUSTERS = {"vectors": "mine", "clusters": {"count": 8}}
BUDGET = {"budget": {"tokens": "20%"}}
WHOLE = "flows.small.steps.step.cut={by: top, budget: {fraction: 1}}"
DIVIDED_WHOLE = WHOLE[:-1] + ", per: cluster, redistribute: true}"
STEPS = {
    "random": {"select": "kmeans", "with": CLUSTERS, "cut": BUDGET},
    "centroid": {
        "select": "kmeans",
        "with": CLUSTERS | {"sampler": "centroid"},
        "cut": {"by": "percentile", "percent": 20},
    },
    "kmq": {
        "select": "kmeans",
        "with": CLUSTERS | {"sampler": "kmq", "quality": "stats.n_words + 1 / (n_bytes + 1)", "shares": "equal"},
        "cut": BUDGET | {"per": "cluster", "redistribute": True},
    },
    "density": {"select": "density_pruning", "with": CLUSTERS, "cut": BUDGET},
    "prototypes": {"select": "ssl_prototypes", "with": CLUSTERS, "cut": BUDGET},
    "semdedup": {"dedup": "semdedup", "with": CLUSTERS | {"epsilon": 0.2}},
    "share": {"dedup": "semdedup", "with": CLUSTERS | {"keep": 0.4, "first": "random"}},
    "silhouette": {"select": "kmeans", "with": {"vectors": "mine", "clusters": {"count": [2, 5]}}, "cut": BUDGET},
    "near": {"select": "target_similarity", "target": "code", "with": {"vectors": "mine"}, "cut": BUDGET},
}  # fmt: skip


def vectors_of(records, seed=3):
    """Vectors of float32 that gather around six centres; some documents have the same one."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((6, 5))[[len(r["text"]) % 6 for r in records]].reshape(-1, 5)
    noise = 0.3 * generator.standard_normal((len(records), 5)) * (np.arange(len(records)) % 9 != 8)[:, None]
    return [r["id"] for r in records], (centres + noise).astype(np.float32)


def write_vectors(path, ids, rows):
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 5)
    pq.write_table(pa.table({"id": ids, "vector": column}), path)


def clustered_case(folder, step, records=None, **changes):
    """Write a flow of one step, with vectors for its documents and its target's."""
    config = make_case(folder, steps=[{"name": "step", **step}], features=MINE | STATS, **changes)
    if records is not None:
        rewrite(folder, records, 2, 0)
    targets = [json.loads(line) for line in (folder / "code.jsonl").read_text().splitlines()]
    write_vectors(
        folder / "vectors.parquet", *vectors_of([*(documents(300) if records is None else records), *targets])
    )
    return config


def rewrite(folder, records, files, seed):
    """Write the records into so many files, in an order of their own."""
    for old in (folder / "raw").glob("*"):
        old.unlink()
    mixed = records[:]
    random.Random(seed).shuffle(mixed)
    for i in range(files):
        write_jsonl(folder / "raw" / f"{seed}-{i}.jsonl", mixed[i::files])


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_shards_workers_and_files_do_not_change_the_choice(tmp_path, step):
    config = clustered_case(tmp_path, step)
    found = []
    for case, (shard_bytes, workers, files) in enumerate([("128MB", 1, 1), (20_000, 2, 3), (1_000, 3, 7)]):
        rewrite(tmp_path, documents(300), files, seed=case)
        overrides = [f"lake=lake-{case}", f"corpora.web.shard_bytes={shard_bytes}"]
        found.append(chosen(tamis.run(config, "small", overrides=overrides, workers=workers)))
    assert 0 < len(found[0]) < 300
    assert found[0] == found[1] == found[2]


def test_a_budget_is_spent_although_every_cluster_has_its_share(tmp_path):
    config = clustered_case(tmp_path, STEPS["random"] | {"with": {"vectors": "mine", "clusters": {"count": 60}}})
    run = tamis.run(config, "small")
    (step,) = run.steps
    budget = step["budget"]["amount"]
    assert budget - 80 < step["tokens_kept"] <= budget  # no document has more than 80
    assert run.exit_code == 0
    assert step["health"]["clusters"] == 60
    assert len(tamis.sql(run.lake, "select distinct score from selections").fetchall()) == 300


def test_equal_shares_that_small_clusters_cannot_take_are_said_in_one_line(tmp_path):
    step = {"select": "kmeans", "with": CLUSTERS | {"shares": "equal"}, "cut": {"budget": {"tokens": "90%"}}}
    run = tamis.run(clustered_case(tmp_path, step), "small")
    assert run.exit_code == 3
    assert [w for w in run.record.warnings if "budget" in w] == run.record.warnings[-1:]


def test_near_copies_name_a_document_that_stays(tmp_path):
    config = clustered_case(tmp_path, STEPS["semdedup"])
    run = tamis.run(config, "small")
    rows = dict(tamis.sql(run.lake, "select doc_id, ref from selections").fetchall())
    assert any(rows.values())
    assert all(rows[ref] is None for ref in rows.values() if ref)
    assert set(chosen(run)) == {doc_id for doc_id, ref in rows.items() if ref is None}


def test_a_share_of_the_documents_stays(tmp_path):
    run = tamis.run(clustered_case(tmp_path, STEPS["share"]), "small")
    assert len(chosen(run)) == 120


@pytest.mark.parametrize(("name", "change"), [
    ("random", "shares=equal"), ("density", "temperature=0.7"), ("semdedup", "epsilon=0.05"), ("share", "keep=0.5"),
])  # fmt: skip
def test_what_only_the_choice_depends_on_places_nothing_again(tmp_path, name, change):
    config = clustered_case(tmp_path, STEPS[name])
    first = chosen(tamis.run(config, "small"))
    run = tamis.run(config, "small", overrides=[f"flows.small.steps.step.with.{change}"])
    done = stages(run)
    assert done["fit step"] == (0, 1) and done["score step"][0] == 0 and "sample step" not in done
    assert chosen(run) != first


def test_another_sampler_does_not_look_for_the_clusters_again(tmp_path):
    config = clustered_case(tmp_path, STEPS["random"])
    first = chosen(tamis.run(config, "small"))
    run = tamis.run(config, "small", overrides=["flows.small.steps.step.with.sampler=centroid"])
    assert stages(run)["fit step"] == (0, 1) and stages(run)["score step"][0] > 0
    assert chosen(run) != first


def test_official_shares_that_are_less_than_one_are_refused(tmp_path):
    step = {"select": "kmeans", "with": CLUSTERS | {"mode": "official"}, "cut": {"budget": {"documents": 7}}}
    with pytest.raises(SelectionError, match="each of 8 clusters gets 7 // 8 = 0 of the budget"):
        tamis.run(clustered_case(tmp_path, step), "small")


def test_another_budget_only_cuts_again(tmp_path):
    config = clustered_case(tmp_path, STEPS["kmq"])
    tamis.run(config, "small")
    done = stages(tamis.run(config, "small", overrides=["flows.small.steps.step.cut.budget.tokens=10%"]))
    assert done["fit step"] == (0, 1) and done["score step"][0] == 0 and done["cut step"] == (1, 0)


def test_another_quality_chooses_others(tmp_path):
    config = clustered_case(tmp_path, STEPS["kmq"])
    first = chosen(tamis.run(config, "small"))
    overrides = ["flows.small.steps.step.with.quality=1 / stats.n_words"]
    assert chosen(tamis.run(config, "small", overrides=overrides)) != first


def test_what_the_quality_reads_may_have_any_name(tmp_path):
    found = []
    for name in ("other", "external"):  # the second is also what the feature of the vectors calls itself
        step = STEPS["kmq"] | {"with": CLUSTERS | {"sampler": "kmq", "quality": f"{name}.q"}}
        features = MINE | {name: {"use": "external", "files": ["other.parquet"]}}
        (tmp_path / name).mkdir()
        config = clustered_case(tmp_path / name, step)
        settings = yaml.safe_load(config.read_text()) | {"features": features}
        config.write_text(yaml.safe_dump(settings, sort_keys=False))
        ids, rows = vectors_of(documents(300), seed=4)
        table = pa.table({"id": ids, "q": np.arange(300.0), "vector": rows.tolist()})
        pq.write_table(table, tmp_path / name / "other.parquet")
        found.append(chosen(tamis.run(config, "small")))
    assert found[0] == found[1]


HOSTILE = {
    "none": [],
    "one": documents(1),
    "fewer than clusters": documents(5),
    "empty texts": [{"id": f"e{i}", "text": ""} for i in range(12)],
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("pool", HOSTILE)
def test_pools_with_hardly_anything(tmp_path, name, pool):
    if name == "silhouette" and pool != "one":
        name = "random"
    config = clustered_case(tmp_path, STEPS[name], HOSTILE[pool])
    whole = DIVIDED_WHOLE if name == "kmq" else WHOLE  # equal shares of a whole pool leave something of large clusters
    run = tamis.run(config, "small", overrides=[whole] if "select" in STEPS[name] else [])
    assert len(chosen(run)) == len(HOSTILE[pool]) or name in ("semdedup", "share")


@pytest.mark.parametrize("name", ["random", "centroid", "density", "semdedup", "near"])
def test_documents_with_equal_vectors(tmp_path, name):
    config = clustered_case(tmp_path, STEPS[name])
    ids = [r["id"] for r in documents(300)] + [f"t{i}" for i in range(20)]
    write_vectors(tmp_path / "vectors.parquet", ids, np.ones((len(ids), 5), np.float32))
    kept = chosen(tamis.run(config, "small"))
    assert len(kept) == 1 if name == "semdedup" else 20 < len(kept) < 120


@pytest.mark.parametrize("name", ["random", "density", "near"])
def test_a_document_without_a_vector_is_not_chosen_and_says_why(tmp_path, name):
    config = clustered_case(tmp_path, STEPS[name])
    ids, rows = vectors_of([*documents(300), *({"id": f"t{i}", "text": ""} for i in range(20))])
    rows[7] = np.nan
    write_vectors(tmp_path / "vectors.parquet", [*ids[:5], *ids[6:]], np.delete(rows, 5, axis=0))
    run = tamis.run(config, "small", overrides=[WHOLE])
    found = tamis.sql(run.lake, "select doc_id, reason from selections where not kept order by doc_id").fetchall()
    assert [row for row in found if row[1] == "no vector"] == [(ids[5], "no vector"), (ids[7], "no vector")]


@pytest.mark.parametrize("name", ["random", "density", "near", "semdedup"])
def test_row_groups_without_any_vector(tmp_path, name):
    config = clustered_case(tmp_path, STEPS[name])
    ids, rows = vectors_of([*documents(300), *({"id": f"t{i}", "text": ""} for i in range(20))])
    some = [i for i in range(len(ids)) if i % 3 == 0 or i >= 300]  # one file of three, and the target
    vectors = pa.table({"id": [ids[i] for i in some], "vector": rows[some].tolist()})
    pq.write_table(vectors, tmp_path / "vectors.parquet")
    kept = set(chosen(tamis.run(config, "small", overrides=[] if name == "semdedup" else [WHOLE])))
    without = set(ids[:300]) - {ids[i] for i in some}
    assert without <= kept if name == "semdedup" else kept == set(ids[:300]) - without


def test_vectors_of_another_length_are_refused(tmp_path):
    config = clustered_case(tmp_path, STEPS["near"])
    ids, rows = vectors_of([*documents(300), *({"id": f"t{i}", "text": ""} for i in range(20))])
    lists = [row[:4] if doc_id.startswith("t") else row for doc_id, row in zip(ids, rows.tolist(), strict=True)]
    pq.write_table(pa.table({"id": ids, "vector": lists}), tmp_path / "vectors.parquet")
    with pytest.raises(SelectionError, match="lists of 5 numbers, and is compared with vectors of 4"):
        tamis.run(config, "small")


def test_a_document_without_a_vector_is_no_copy(tmp_path):
    config = clustered_case(tmp_path, STEPS["semdedup"])
    ids, rows = vectors_of(documents(300))
    write_vectors(tmp_path / "vectors.parquet", ids[5:], rows[5:])
    assert set(ids[:5]) <= set(chosen(tamis.run(config, "small")))


def test_quality_that_is_not_a_number_comes_last(tmp_path):
    quality = "case when source = 'code' then 'nan'::double when n_bytes % 2 = 0 then null else 1 end"
    step = {"select": "kmeans", "with": CLUSTERS | {"clusters": {"count": 1}, "sampler": "kmq", "quality": quality},
            "cut": {"budget": {"documents": 20}}}  # fmt: skip
    run = tamis.run(clustered_case(tmp_path, step), "small")
    worse = "d.source = 'code' or d.n_bytes % 2 = 0"
    query = f"select s.doc_id from selections s join documents d using (doc_id) where s.kept and ({worse})"
    assert len(chosen(run)) == 20 and tamis.sql(run.lake, query).fetchall() == []


def test_a_quality_that_is_no_number_anywhere_is_said(tmp_path):
    step = STEPS["kmq"] | {"with": CLUSTERS | {"sampler": "kmq", "quality": "-stats.n_words"}}
    run = tamis.run(clustered_case(tmp_path, step), "small")
    assert any("no document has a number as its score" in warning for warning in run.record.warnings)


def test_a_target_without_vectors_is_refused(tmp_path):
    config = clustered_case(tmp_path, STEPS["near"])
    write_vectors(tmp_path / "vectors.parquet", *vectors_of(documents(300)))
    with pytest.raises(SelectionError, match="no document of the target 'code' has a vector"):
        tamis.run(config, "small")


@pytest.mark.parametrize(("step", "message"), [
    ({"with": {"vectors": "mien"}}, "'mien' is no entry of `features`; did you mean 'mine'"),
    ({"with": {}}, "step 'step': select: kmeans: 'vectors' is missing, expected the name of an entry of"),
    ({"with": {"vectors": "stats"}}, "has no columns of lists of floats"),
    ({"with": CLUSTERS | {"clusters": {"cuont": 3}}}, "unknown parameter 'cuont'; did you mean 'count'"),
    ({"with": CLUSTERS | {"clusters": {"count": 0}}}, "count is 0, expected 1 or more"),
    ({"with": CLUSTERS | {"clusters": {"count": []}}}, "count is 0, expected 1 or more"),
    ({"with": CLUSTERS | {"clusters": {"iterations": -1}}}, "iterations is -1, expected 0 or more"),
    ({"with": CLUSTERS | {"sampler": "kmq"}}, "quality belongs to `sampler: kmq`, which needs it"),
    ({"with": CLUSTERS | {"sampler": "kmq", "quality": "stats.n_wrods"}}, "unknown column 'stats.n_wrods'"),
    ({"with": CLUSTERS | {"sampler": "kmq", "quality": "source"}}, "gives VARCHAR, expected a number"),
    ({"with": CLUSTERS, "cut": BUDGET | {"per": "source"}}, "divides the budget by its own column 'cluster'"),
    ({"with": CLUSTERS, "cut": BUDGET | {"per": "cluster", "shares": {"1": 1}}}, "gives out the shares itself"),
])  # fmt: skip
def test_a_mistake_is_said_before_any_work(tmp_path, step, message):
    config = clustered_case(tmp_path, {"select": "kmeans", "cut": BUDGET, **step})
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        tamis.run(config, "small")
    assert not (tmp_path / "lake" / "corpora").exists()


def test_a_group_of_parameters_given_in_part_keeps_its_other_defaults():
    features = {"mine": Letters()}
    for name, spherical in [("kmeans", False), ("density_pruning", True)]:
        selector = make_selector("select", name, {"vectors": "mine", "clusters": {"count": 7}}, features)
        assert selector.clusters == Clustering(count=7, spherical=spherical)


def test_documents_without_vectors_are_not_brought_together():
    batch = pa.RecordBatch.from_pydict(
        {"doc_key": pa.array([3, 2**63, 5], pa.uint64()), "vectors.vector": pa.array([[1.0], None, None])}
    )
    selector = SemDeDup(vectors=Letters(), clusters=Clustering(count=1, spherical=True))
    state = selector.fit(batch.slice(0, 1), [], lambda purpose: 7)
    assert selector.score(batch, state).column("group").to_pylist() == [0, 2**63, 5]
