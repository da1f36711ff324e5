"""Losses in whole flows: computed for the documents that are still in, once for all selectors that ask."""

import pytest
import tamis
from small_flow import chosen, make_case, stages
from tiny_model import write_causal

CODE = {"name": "near", "select": "dsir", "target": "code", "cut": {"budget": {"documents": "20%"}}}
TWO = {"prior": "before", "conditional": "after"}


@pytest.fixture
def models(tmp_path):
    for name, seed in (("before", 0), ("after", 1)):
        write_causal(tmp_path / name, seed=seed)
    return {n: {"use": "losses", "model": n, "precision": "fp32"} for n in ("before", "after")}


def case(folder, models, steps):
    return make_case(folder, n=120, files=2, steps=steps, features=models)


def test_a_cascade_computes_losses_for_the_survivors_alone(tmp_path, models):
    pick = {"name": "pick", "select": "color_filter", "with": TWO, "cut": {"budget": {"documents": 5}}}
    run = tamis.run(case(tmp_path, models, [CODE, pick]), "small")
    survivors = run.steps[0]["kept"]
    assert run.steps[1]["entered"] == survivors < 40 and len(chosen(run)) == 5
    measured = tamis.sql(run.lake, "select key, shard, row from measured where feature = 'losses'").fetchall()
    entered = "select shard, row from selection_steps where run = $1 and step = 'near' and kept"
    places = set(tamis.sql(run.lake, entered, [run.id]).fetchall())
    keys = {key for key, _, _ in measured}
    assert len(keys) == 2 and len(places) == survivors
    assert sorted(measured) == sorted((key, *place) for key in keys for place in places)


def test_selectors_share_the_losses_of_a_model(tmp_path, models):
    pick = {"name": "pick", "select": "color_filter", "with": TWO, "cut": {"budget": {"documents": 5}}}
    config = case(tmp_path, models, [pick])
    first = chosen(tamis.run(config, "small"))
    again = case(tmp_path, models, [pick | {"select": "perplexity", "with": {"losses": "before", "keep": "low"}}])
    run = tamis.run(again, "small")
    assert stages(run)["feature losses"][0] == 0 and len(chosen(run)) == 5 and chosen(run) != first


def test_ccnets_buckets_have_their_shares(tmp_path, models):
    cut = {"budget": {"documents": 20}, "per": "bucket", "shares": {"head": 0.5, "middle": 0.5}}
    steps = [{"name": "pick", "select": "perplexity", "with": {"losses": "before"}, "cut": cut}]
    run = tamis.run(case(tmp_path, models, steps), "small")
    groups = {g["name"]: g["n_kept"] for g in run.steps[0]["cuts"]["score"]["groups"]}
    assert groups["head"] == groups["middle"] == 10 and groups["tail"] == 0
