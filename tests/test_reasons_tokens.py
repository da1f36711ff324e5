"""The tokens behind a difference of losses: they sum to what is stored, and stand where it is said."""

import shutil

import pytest
import tamis
from small_flow import make_case, write_jsonl
from tamis.pipelines import cli
from tamis.pipelines.explaining import explain
from tamis.pipelines.reasons import reasons
from tiny_model import write_causal

TWO = {"prior": "before", "conditional": "after"}
STEPS = {
    "difference": ("color_filter", TWO, 1),
    "conditional": ("color_filter", TWO | {"score_by": "conditional"}, 1),
    "prior": ("color_filter", TWO | {"score_by": "prior", "min_tokens": 12}, 1),
    "miniplm": ("difference_sampling", {"small": "after", "large": "before"}, 1),
    "unlike": ("difference_sampling", {"small": "after", "large": "without"}, 1),
    "low": ("perplexity", {"losses": "before", "keep": "low"}, -1),
    "high": ("perplexity", {"losses": "without", "keep": "high"}, 1),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    models = {"before": {"seed": 0}, "after": {"seed": 1}, "without": {"seed": 2, "bos": False}}
    for name, settings in models.items():
        write_causal(folder / name, **settings)
    features = {n: {"use": "losses", "model": n, "precision": "fp32"} for n in models}
    cut = {"budget": {"documents": "30%"}}
    flows = {
        name: {"corpus": "web", "steps": [{"name": "pick", "select": select, "with": parameters, "cut": cut}]}
        for name, (select, parameters, _) in STEPS.items()
    }
    config = make_case(folder, n=40, files=2, features=features, flows=flows, targets={})
    odd = [{"id": "odd", "text": "Été 漢字 of the river"}, {"id": "empty", "text": ""}, {"id": "one", "text": "a"}]
    write_jsonl(folder / "raw" / "odd.jsonl", odd)
    return {name: tamis.run(config, name) for name in STEPS}


def rows_of(run):
    query = "from selection_steps where run = $1 order by doc_id"
    return tamis.sql(run.lake, query, [run.id]).pl().rows(named=True)


@pytest.mark.parametrize("name", sorted({*STEPS} - {"unlike"}))
def test_tokens_sum_to_the_score_times_the_tokens_predicted(runs, name):
    run, sign = runs[name], STEPS[name][2]
    texts = dict(tamis.sql(run.lake, "select doc_id, text from text").fetchall())
    rows, n_scored = rows_of(run), 0
    found = reasons(run.lake, run.record, "pick", [(r["shard"], r["row"]) for r in rows], most=10**6)
    for row, reason in zip(rows, found, strict=True):
        if row["score"] is None or row["score"] != row["score"]:
            assert reason.parts == [] and reason.total is None
            continue
        n_scored += 1
        n, text = len(reason.parts), texts[row["doc_id"]]
        size = sum(
            abs(value) for part in reason.parts for name, value in part.items() if name in STEPS[name_of(part)][1]
        )
        assert f"over {n:,} tokens" in reason.about
        assert reason.total == pytest.approx(sign * row["score"] * n, rel=1e-6, abs=1e-6 * max(size, 1))
        assert sum(part["weight"] for part in reason.parts) == pytest.approx(reason.total, rel=1e-9, abs=1e-9)
        assert [p["weight"] for p in reason.parts] == sorted((p["weight"] for p in reason.parts), reverse=True)
        assert all(text[part["start"] : part["end"]] == part["text"] for part in reason.parts)
        assert sum(weight for _, _, weight in reason.marks) == pytest.approx(reason.total, rel=1e-9, abs=1e-9)
    assert n_scored > 20


def name_of(part):
    """Return a step whose models gave a part its losses."""
    return next(name for name, (_, parameters, _) in STEPS.items() if any(key in part for key in parameters))


def test_few_parts_are_those_that_moved_it_most(runs):
    run = runs["difference"]
    places = [(r["shard"], r["row"]) for r in rows_of(run)]
    every, few = (reasons(run.lake, run.record, "pick", places, most=most) for most in (10**6, 4))
    for whole, short in zip(every, few, strict=True):
        largest = sorted((abs(part["weight"]) for part in whole.parts), reverse=True)[:4]
        assert sorted((abs(part["weight"]) for part in short.parts), reverse=True) == largest
        if whole.parts:
            assert sum(p["weight"] for p in short.parts) + short.rest == pytest.approx(whole.total, rel=1e-9, abs=1e-9)


def test_models_with_other_tokens_have_no_difference_by_token(runs):
    run = runs["unlike"]
    places = [(r["shard"], r["row"]) for r in rows_of(run) if r["score"] == r["score"]]
    found = {(reason.about, len(reason.parts)) for reason in reasons(run.lake, run.record, "pick", places)}
    assert found == {("the models predict different tokens, so their losses have no difference by token", 0)}


def test_a_model_that_is_gone_is_said(runs, tmp_path):
    """The values stay readable by their keys; only what each token adds needs the model."""
    run = runs["difference"]
    moved = shutil.copytree(run.lake.root, tmp_path / "elsewhere" / "lake")  # where no model lies beside it
    lake = tamis.Lake.open(moved)
    row = next(r for r in rows_of(run) if r["kept"])
    (reason,) = reasons(lake, run.record, "pick", [(row["shard"], row["row"])])
    assert reason.kind == "missing" and "prior" in STEPS["difference"][1] and "cannot be computed" in reason.about
    step = explain(lake, row["doc_id"], run="difference", reasons="all")["runs"][0]["steps"][0]
    assert step["score"] == row["score"] and step["reads"]["prior.n_predicted"] > 0
    assert step["gone"] == [reason.about]


def test_models_run_for_one_run_alone_or_when_told_so(runs, capsys):
    run = runs["low"]
    row = next(r for r in rows_of(run) if r["kept"])
    config = str(run.lake.root.parent / "flows.yaml")
    for options, asked in (([], False), (["--run", "low"], True), (["--reasons"], True), (["--no-reasons"], False)):
        with pytest.raises(SystemExit):
            cli.main(["explain", row["doc_id"], "-c", config, *options])
        out = capsys.readouterr().out
        assert ("tokens predicted" in out) is asked
        assert ("--reasons says it" in out) is (options == [])


def test_another_model_in_its_place_is_not_taken_for_it(runs, tmp_path):
    run = runs["low"]
    moved = shutil.copytree(run.lake.root.parent, tmp_path / "there")
    shutil.rmtree(moved / "before")
    shutil.copytree(moved / "after", moved / "before")
    row = next(r for r in rows_of(run) if r["kept"])
    (reason,) = reasons(tamis.Lake.open(moved / "lake"), run.record, "pick", [(row["shard"], row["row"])])
    assert reason.kind == "missing" and "are others" in reason.about
