"""`refit` of a select step: what a fit becomes when the corpus has grown, and that the run says so."""

import json

import pytest
import tamis
from safetensors import safe_open
from small_flow import chosen, documents, make_case, stages, write_jsonl
from tamis.pipelines.engine_entry import Engine
from tamis.pipelines.flows import finished_run
from tamis.pipelines.loading import load_config
from tamis.pipelines.plugins import make_feature
from tamis.pipelines.recorded import begin
from tamis.pipelines.refit_entry import check_refit
from tamis.selectors.registry import REGISTRY
from tamis.storage.errors import ConfigError
from tamis.storage.lake import read_json
from tamis.storage.verify import verify
from test_flow_clusters import CLUSTERS, MINE, STATS, vectors_of, write_vectors

CUT = {"cut": {"budget": {"tokens": "30%"}}}
DSIR = {"name": "step", "select": "dsir", "target": "code", **CUT}
ZIP = {"name": "step", "select": "zip_fit", "target": "code", "with": {"n_targets": 3}, **CUT}
KMEANS = {"name": "step", "select": "kmeans", "with": {**CLUSTERS, "clusters": {"count": 8, "sample": 10}}, **CUT}
N = 150
STEPS = {"dsir": DSIR, "zip_fit": ZIP, "kmeans": KMEANS}


def case(folder, step, **more):
    """Write a flow of one step over small shards, with vectors of the documents that are there and of those to come."""
    corpora = {"web": {"files": ["raw/*"], "shard_bytes": 10_000}}
    config = make_case(folder, n=N, steps=[{**step, **more}], corpora=corpora, features=MINE | STATS)
    write_vectors(folder / "vectors.parquet", *vectors_of(documents(N) + documents(10, seed=9)))
    return config


def grow(folder):
    write_jsonl(folder / "raw" / "part-9.jsonl", documents(10, seed=9))


def run(config, *overrides):
    return tamis.run(config, "small", overrides=list(overrides))


def fit(done):
    return done.steps[0]["fit"]


def state_digest(done):
    """Of the content: the order of a file's header is by chance."""
    with safe_open(done.lake.state(fit(done)["state"]) / "state.safetensors", framework="numpy") as stored:
        return stored.metadata()["digest"]


def scores(done):
    query = "select doc_id, score from selection_steps where run = $1 and step = 'step'"
    return dict(tamis.sql(done.lake, query, [done.id]).fetchall())


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_merged_fit_is_a_fresh_one_that_reads_nothing_old(tmp_path, step):
    config = case(tmp_path, step, refit="merge")
    first = run(config)
    assert fit(first)["how"] == "fitted" and "no run of this flow" in fit(first)["why"]
    n_shards = stages(first)["score step"][0]
    for old in (tmp_path / "lake" / "states").glob("*/*.safetensors"):
        if old.name not in ("summary.safetensors", "state.safetensors"):
            old.unlink()  # the summaries of single shards
    grow(tmp_path)
    merged = run(config)
    assert fit(merged)["how"] == "merged" and fit(merged)["parent"]["run"] == first.id
    assert fit(merged)["merged"] == {"added": 1, "taken_away": 0}
    looked = stages(merged)["sample step" if "kmeans" in step["select"] else "summarise step"]
    assert looked[1] == n_shards and looked[0] <= 2
    assert state_digest(merged) != state_digest(first)
    is_as_if_fresh(merged, config)


def test_what_went_away_is_subtracted_where_that_is_exact(tmp_path):
    config = case(tmp_path, DSIR, refit="merge")
    run(config)
    grow(tmp_path)
    (tmp_path / "raw" / "part-0.jsonl").unlink()
    merged = run(config)
    assert fit(merged)["how"] == "merged" and all(n > 0 for n in fit(merged)["merged"].values())
    is_as_if_fresh(merged, config)


def test_a_sample_that_lost_documents_is_drawn_again(tmp_path):
    config = case(tmp_path, KMEANS, refit="merge")
    run(config)
    (tmp_path / "raw" / "part-0.jsonl").unlink()
    fitted = run(config)
    assert fit(fitted)["how"] == "fitted" and "shards are gone or have other documents" in fit(fitted)["why"]
    is_as_if_fresh(fitted, config)


def is_as_if_fresh(merged, config):
    fresh = run(config, "lake=other", "flows.small.steps.step.refit=fresh")
    assert fit(fresh)["how"] == "fitted" and state_digest(fresh) == state_digest(merged)
    assert chosen(fresh) == chosen(merged) and scores(fresh) == scores(merged)


@pytest.mark.parametrize("step", [DSIR, KMEANS], ids=["dsir", "kmeans"])
def test_frozen_gives_old_documents_their_scores_and_scores_new_shards_only(tmp_path, step):
    config = case(tmp_path, step, refit="frozen")
    first = run(config)
    before, n_shards = scores(first), stages(first)["score step"][0]
    grow(tmp_path)
    frozen = run(config)
    assert fit(frozen)["how"] == "frozen" and fit(frozen)["state"] == fit(first)["state"]
    assert fit(frozen)["parent"]["run"] == first.id
    assert stages(frozen)["score step"] == (1, n_shards) and "summarise step" not in stages(frozen)
    after = scores(frozen)
    assert {doc_id: after[doc_id] for doc_id in before} == before and len(after) == N + 10
    again = run(config)
    assert again.record.computed == 0 and fit(again)["state"] == fit(first)["state"]
    if step is DSIR:  # the order in a cluster is the documents' own
        fresh = scores(run(config, "flows.small.steps.step.refit=fresh"))
        assert {doc_id: fresh[doc_id] for doc_id in before} != before


def test_from_fresh_to_frozen_no_old_shard_is_scored_again(tmp_path):
    config = case(tmp_path, DSIR)
    first = run(config)
    grow(tmp_path)
    frozen = run(config, "flows.small.steps.step.refit=frozen")
    assert stages(frozen)["score step"] == (1, stages(first)["score step"][0])


def test_a_selector_that_learns_nothing_scores_new_shards_only(tmp_path):
    config = case(tmp_path, {"name": "step", "select": "random", **CUT})
    first = run(config)
    grow(tmp_path)
    assert stages(run(config))["score step"] == (1, stages(first)["score step"][0])


def test_where_more_than_the_pool_changed_it_is_fitted_anew_and_that_is_said(tmp_path):
    config = case(tmp_path, DSIR, refit="frozen")
    first = last = run(config)
    changes = {
        "parameters": "flows.small.steps.step.with.mix=0.5",
        "targets": "targets.code.holdout=0.5",
        "seed": "seed=18",
    }
    for what, change in changes.items():
        other = run(config, change)
        assert fit(other)["how"] == "fitted" and fit(other)["parent"] is None and what in fit(other)["why"]
        assert fit(other)["state"] not in (fit(first)["state"], fit(last)["state"])
        last = other
    back = run(config)  # the newest run with this recipe is the first one
    assert (fit(back)["state"], fit(back)["parent"]["run"]) == (fit(first)["state"], first.id)


def test_only_another_budget_leaves_the_state_alone(tmp_path):
    config = case(tmp_path, KMEANS, refit="frozen")
    first = run(config)
    grow(tmp_path)
    less = run(config, "flows.small.steps.step.cut.budget.tokens=5%")
    assert fit(less)["state"] == fit(first)["state"]


def test_a_state_that_was_removed_is_fitted_again(tmp_path):
    config = case(tmp_path, DSIR, refit="frozen")
    first = run(config)
    (first.lake.state(fit(first)["state"]) / "state.safetensors").unlink()
    grow(tmp_path)
    other = run(config)
    assert fit(other)["how"] == "fitted" and "not in the lake any more" in fit(other)["why"]


def test_warm_clusters_depend_on_history(tmp_path):
    config = case(tmp_path, KMEANS, refit="warm")
    first = run(config)
    assert run(config).record.computed == 0, "the same pool has nothing to go on to"
    grow(tmp_path)
    warm = run(config)
    assert fit(warm)["how"] == "warm" and fit(warm)["parent"]["state"] == fit(first)["state"]
    fresh = run(config, "lake=other")
    assert fit(fresh)["how"] == "fitted" and state_digest(fresh) != state_digest(warm)
    assert fresh.record.fingerprint != warm.record.fingerprint, "the same files and flow, another history"
    again = run(config)
    assert again.record.computed == 0 and state_digest(again) == state_digest(warm)
    (tmp_path / "raw" / "part-9.jsonl").unlink()
    assert fit(run(config))["parent"]["run"] == again.id


def test_what_ran_in_between_is_part_of_what_is_finished(tmp_path):
    config = case(tmp_path, DSIR, refit="frozen")
    first = run(config)
    grow(tmp_path)
    fresh = run(config, "flows.small.steps.step.refit=fresh")
    (tmp_path / "raw" / "part-9.jsonl").unlink()
    later = run(config)
    assert fit(later)["state"] == fit(fresh)["state"] != fit(first)["state"]
    assert later.record.fingerprint != first.record.fingerprint and scores(later) != scores(first)


@pytest.mark.parametrize(("step", "refit"), [(DSIR, "frozen"), (KMEANS, "warm")])
def test_the_other_commands_see_the_state_that_was_used(tmp_path, step, refit):
    config = case(tmp_path, step, refit=refit)
    first = run(config)
    grow(tmp_path)
    second = run(config)
    for done, doc_id in ((first, "doc-0-0001"), (second, "doc-0-0001"), (second, "doc-9-0001")):
        (told,) = tamis.explain(done.lake, doc_id, run=done.id, reasons="all")["runs"]
        (said,) = told["steps"]
        assert said["score"] == scores(done)[doc_id] and "not in the lake" not in json.dumps(said)
        assert said["why"] is not None and said["gone"] == []
    assert list(verify(second.lake)) == []
    assert tamis.plan(config, "small").nothing_to_do
    write_jsonl(tmp_path / "raw" / "part-8.jsonl", documents(5, seed=8))
    features = {alias: make_feature(alias, e, tmp_path) for alias, e in load_config(config).config.features.items()}
    work = begin(load_config(config), "looks", features, Engine(workers=1), None)
    assert finished_run(work, "small", work.config.flows["small"]) is None


def test_a_damaged_summary_is_found(tmp_path):
    done = run(case(tmp_path, KMEANS, refit="merge"))
    (sample,) = (done.lake.root / "states").glob("*/sample.parquet")
    assert read_json(sample.with_name("kept.json"))["shards"]
    sample.write_bytes(sample.read_bytes()[:-20] + b"\0" * 20)
    assert [damage.file for damage in verify(done.lake)] == [str(sample)]


def test_what_cannot_be_is_an_error_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match=r"step 'step': refit: warm is for selectors that find clusters.*`frozen`"):
        run(case(tmp_path, DSIR, refit="warm"))
    assert not (tmp_path / "lake").exists()

    class WholePool(REGISTRY.find("random")):
        name = "whole_pool"
        merges = False

    with pytest.raises(ConfigError, match=r"refit: merge is never exact for whole_pool.*use `fresh`, or `frozen`"):
        check_refit(WholePool(), "merge", "step 's'")
    check_refit(WholePool(), "frozen", "step 's'")
