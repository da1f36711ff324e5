"""Alarms: each goes off in a small flow that deserves it, none in a healthy one, and other limits compute nothing."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import STEPS, documents, make_case, stages, write_jsonl
from tamis.pipelines import cli
from tamis.pipelines.alarm_limits import AlarmLimits, limits_of
from tamis.pipelines.alarms import alarms, unmet
from tamis.pipelines.runs import load_run
from tamis.pipelines.summaries import print_run
from tamis.storage.lake import read_json
from tamis.storage.selections import load_selection

CLEAN, TWINS, LIKE_CODE = STEPS
EXTERNAL = {"mine": {"use": "external", "files": ["scores.parquet"], "join": "id"}, "stats": {"use": "text_stats"}}
LEAKS = {"name": "leaks", "decontaminate": "code"}
ALL = (
    "removes_nothing", "removes_most", "nan_scores", "follows_length", "few_effective", "score_drift", "budget_not_met",
)  # fmt: skip


def by_score(**cut):
    """A step whose scores are those of `scores.parquet`."""
    return {"name": "best", "select": "perplexity", "with": {"losses": "mine", "keep": "high"}, "cut": cut}


def by_random(cut):
    return {"name": "s", "select": "random", "cut": cut}


def scored_case(folder, score, step, n=300):
    """A flow of one step over n documents with the scores that a function gives them."""
    records = documents(n)
    losses = pa.array([float(score(number, record)) for number, record in enumerate(records)])
    table = {"id": [r["id"] for r in records], "nll": losses, "n_predicted": [1] * n}
    pq.write_table(pa.table(table), folder / "scores.parquet")
    return make_case(folder, n=n, steps=[step], features=EXTERNAL)


def found(run):
    return [(alarm["step"], alarm["name"]) for alarm in run.record.alarms]


def run_small(config, *overrides):
    return tamis.run(config, "small", overrides=list(overrides))


def test_a_healthy_flow_of_every_kind_of_step_is_silent(tmp_path):
    config = make_case(tmp_path, steps=[CLEAN, TWINS, LEAKS, LIKE_CODE])
    for _ in range(2):
        run = run_small(config)
        assert (run.record.alarms, run.record.warnings, run.exit_code) == ([], [], 0)
    assert "alarm" not in (run.outputs[0] / "card.md").read_text()
    assert tamis.sql(run.lake, "from alarms").fetchall() == []


@pytest.mark.parametrize("step", [
    {"name": "s", "filter": {"some": "stats.n_words >= 0", "more": "n_bytes >= 0"}}, {"name": "s", "dedup": "exact"},
    {"name": "s", "decontaminate": "code"}, {"name": "s", "decontaminate": "code", "with": {"action": "flag"}},
    by_random({"budget": {"fraction": 1}}), by_random({"by": "threshold", "min_score": -1}),
])  # fmt: skip
def test_a_step_that_removes_nothing(tmp_path, step):
    run = run_small(make_case(tmp_path, steps=[TWINS, LEAKS, step]))
    assert found(run) == [("s", "removes_nothing")] and run.exit_code == 0
    (alarm,) = run.record.alarms
    assert (alarm["value"], alarm["threshold"]) == (0.0, 0.0)
    assert f"none of {run.steps[2]['entered']:,} documents" in alarm["message"]
    assert ("some 0, more 0" in alarm["message"]) == ("filter" in step)


def test_rounds_that_use_up_the_pool_are_judged_by_one_round(tmp_path):
    step = {"name": "s", "select": "rs2", "with": {"rounds": 10}, "cut": {"budget": {"fraction": 0.1}}}
    run = run_small(make_case(tmp_path, steps=[step]))
    assert run.steps[0]["kept"] == run.steps[0]["entered"] and found(run) == []


@pytest.mark.parametrize(("step", "what"), [
    ({"name": "s", "filter": {"some": "stats.n_words >= 20", "none": "n_bytes < 0"}}, "none "),
    (by_score(by="threshold", min_score=290), "below the cut 290"),
])  # fmt: skip
def test_a_step_without_a_budget_that_removes_most(tmp_path, step, what):
    config = scored_case(tmp_path, lambda number, record: number, step)
    run = run_small(config)
    assert [name for _, name in found(run)] == ["removes_most"] and run.exit_code == 0
    (alarm,) = run.record.alarms
    assert alarm["value"] > alarm["threshold"] == 0.95 and what in alarm["message"]
    query = alarm["message"].split('tamis sql "')[1].removesuffix('"')
    again = run_small(config)  # has the same rows, which are not to be seen twice
    assert again.id not in query and again.id in again.record.alarms[0]["message"]
    assert len(tamis.sql(run.lake, query).fetchall()) == 20
    every = tamis.sql(run.lake, query.removesuffix(" limit 20")).pl().rows(named=True)
    assert len(every) == run.steps[0]["entered"] - run.steps[0]["kept"] and {row["run"] for row in every} == {run.id}


@pytest.mark.parametrize("cut", [{"budget": {"documents": 1}}, {"by": "percentile", "percent": 1}])
def test_a_step_with_a_budget_removes_what_it_was_told_to(tmp_path, cut):
    assert found(run_small(make_case(tmp_path, steps=[by_random(cut)]))) == []


def test_a_flagging_step_is_judged_by_what_it_flags(tmp_path):
    step = LEAKS | {"with": {"action": "flag"}}
    config = make_case(tmp_path, n=2, steps=[step])
    targets = [json.loads(line) for line in (tmp_path / "code.jsonl").read_text().splitlines()]
    write_jsonl(tmp_path / "raw" / "leaks.jsonl", [t | {"id": f"{t['id']} {n}"} for t in targets for n in range(3)])
    run = run_small(config)
    assert run.steps[0]["kept"] == run.steps[0]["entered"] == 62
    assert found(run) == [("leaks", "removes_most")]
    assert run.record.alarms[0]["message"].startswith("flags 61 of 62 documents (98.4%): shares 13 words with code 61")


def test_scores_that_are_nan(tmp_path):
    step = by_score(budget={"documents": 10})
    run = run_small(scored_case(tmp_path, lambda number, record: math.nan if number < 3 else number % 50, step))
    assert found(run) == [("best", "nan_scores")] and run.exit_code == 0
    assert run.record.alarms[0]["value"] == pytest.approx(3 / 300)
    assert "3 of 300 documents have NaN as score" in run.record.alarms[0]["message"]


def test_scores_that_are_all_nan_are_a_warning_too_also_when_reused(tmp_path):
    step = by_score(budget={"documents": 10})
    config = scored_case(tmp_path, lambda number, record: math.nan, step)
    for _ in range(2):
        run = run_small(config)
        assert found(run) == [("best", "nan_scores")] and run.exit_code == 3
        assert [run.record.alarms[0]["message"] in warning for warning in run.record.warnings] == [True]
    assert run.record.computed == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_choice_that_follows_length(tmp_path, sign):
    step = by_score(budget={"documents": 10})
    score = lambda number, record: sign * len(record["text"]) + number % 5  # noqa: E731
    run = run_small(scored_case(tmp_path, score, step))
    assert found(run) == [("best", "follows_length")]
    (alarm,) = run.record.alarms
    assert sign * alarm["value"] > 0.9 and ("longest" if sign > 0 else "shortest") in alarm["message"]


def test_of_few_documents_a_correlation_says_nothing(tmp_path):
    step = by_score(budget={"documents": 2})
    assert found(run_small(scored_case(tmp_path, lambda number, record: len(record["text"]), step, n=9))) == []


def test_weights_that_lie_on_few_documents(tmp_path):
    step = by_score(by="gumbel", budget={"documents": 150})
    config = scored_case(tmp_path, lambda number, record: 100 * (number == 7) + number % 3, step)
    run = run_small(config)
    assert found(run) == [("best", "few_effective")]
    (alarm,) = run.record.alarms
    assert alarm["value"] == pytest.approx(1 / 150) and "1 documents, and 150 were drawn" in alarm["message"]
    flat = run_small(config, "flows.small.steps.best.cut.temperature=100")
    assert found(flat) == [] and flat.steps[0]["health"]["effective_sample_size"] > 100


def test_the_top_of_a_list_is_no_draw(tmp_path):
    step = by_score(by="top", budget={"documents": 150})
    score = lambda number, record: 100 * (number == 7) + number % 3  # noqa: E731
    assert found(run_small(scored_case(tmp_path, score, step))) == []
    everything = [f"flows.small.steps.best.cut={cut}" for cut in ("{by: gumbel, budget: {documents: 300}}",)]
    assert found(run_small(tmp_path / "flows.yaml", *everything)) == [("best", "removes_nothing")]


def test_several_targets_are_judged_each_by_its_own_column(tmp_path):
    official = {"hash": "sha256", "buckets": 10000, "mix": 0, "normalise": "none"}
    step = {"name": "s", "select": "dsir", "target": ["code", "other"], "with": official,
            "cut": {"by": "gumbel", "budget": {"documents": 450}}}  # fmt: skip
    targets = {"code": {"files": ["code.jsonl"]}, "other": {"files": ["other.jsonl"]}}
    config = make_case(tmp_path, n=600, steps=[step], targets=targets)
    write_jsonl(tmp_path / "other.jsonl", [{"id": str(i), "text": r["text"]} for i, r in enumerate(documents(30, 5))])
    run = run_small(config)
    health, cuts = run.steps[0]["health"], run.steps[0]["cuts"]
    share = {n: health[f"effective_sample_{n}_size"] / cuts[f"score_{n}"]["n_kept"] for n in ("code", "other")}
    said = [(a["message"].split()[3], a["value"]) for a in run.record.alarms if a["name"] == "few_effective"]
    assert said == [(f"score_{n}", value) for n, value in share.items() if value < 0.01] and said


@pytest.mark.parametrize(("cut", "value", "why"), [
    ({"budget": {"documents": 600}}, 0.5, "300 of 600 documents: there is no more"),
    ({"budget": {"tokens": 1}}, 0.0, "0 of 1 tokens: the next document"),
    ({"budget": {"documents": 100}, "per": "source", "shares": {"code": 0.5, "nowhere": 0.5}}, 0.0, "has that value"),
])  # fmt: skip
def test_a_budget_that_is_not_met(tmp_path, cut, value, why):
    config = make_case(tmp_path, steps=[by_random(cut)])
    for override in ([], ["alarms.budget_not_met=off"]):
        run = run_small(config, *override)
        assert run.exit_code == 3 and any(why in warning for warning in run.record.warnings)
        assert (("s", "budget_not_met") in found(run)) == (not override)
    alarm = next(a for a in run_small(config).record.alarms if a["name"] == "budget_not_met")
    assert alarm["value"] == value < alarm["threshold"]


def test_other_limits_compute_nothing_and_are_those_that_count(tmp_path):
    config = make_case(tmp_path)
    assert found(run_small(config)) == []
    lower = run_small(config, "alarms={removes_most: 20%}")
    assert found(lower) == [("clean", "removes_most")] and lower.record.computed == 0, stages(lower)
    at_flow = run_small(config, "alarms={removes_most: 20%}", "flows.small.alarms={removes_most: 1%}")
    assert found(at_flow) == [("clean", "removes_most"), ("twins", "removes_most")]
    at_step = ["alarms={removes_most: 1%}", "flows.small.steps.clean.alarms=off"]
    assert found(run_small(config, *at_step)) == [("twins", "removes_most")]
    assert found(run_small(config, *at_step, "flows.small.alarms={removes_most: off}")) == []
    loose = run_small(config, "flows.small.steps.twins.alarms={removes_nothing: 10%}")
    assert found(loose) == [("twins", "removes_nothing")] and loose.record.computed == 0
    assert loose.record.alarms[0]["message"].startswith("drops 12 of 198 documents (6.06%): exact duplicate 12")
    assert {r[0] for r in tamis.sql(lower.lake, "select value > threshold from alarms where step = 'clean'").fetchall()}


def test_a_mixture_has_the_alarms_of_its_flows(tmp_path, capsys):
    parts = {"all": {"budget": {"tokens": 100}, "parts": [{"flow": "small"}]}}
    short = by_random({"budget": {"documents": 400}})
    config = make_case(tmp_path, mixtures=parts, steps=[short])
    first = run_small(config)
    assert found(first) == [("s", "removes_nothing"), ("s", "budget_not_met")]
    mixed = tamis.mix(config, "all", overrides=["alarms=off"])
    assert mixed.mixture["runs"] == {"small": first.id}, "other limits make no other run"
    assert found(mixed) == [("small/s", "removes_nothing"), ("small/s", "budget_not_met")] and mixed.exit_code == 3
    assert (
        "| small/s | budget not met | the budget is not met, 300 of 400" in (mixed.outputs[0] / "card.md").read_text()
    )
    print_run(mixed, as_json=False)
    assert capsys.readouterr().out.count("is not met") == 1


def test_alarms_are_in_the_record_the_card_and_the_catalogue(tmp_path):
    run = run_small(make_case(tmp_path), "alarms={removes_most: 20%}")
    (alarm,) = run.record.alarms
    assert load_run(run.lake, run.id).alarms == [alarm]
    rows = tamis.sql(run.lake, "from alarms").fetchall()
    assert rows == [(run.id, *(alarm[k] for k in ("step", "name", "value", "threshold", "message")))]
    assert "| clean | removes most | drops 102 of 300 documents" in (run.outputs[0] / "card.md").read_text()
    log = [json.loads(line) for line in (run.lake.run(run.id) / "log.jsonl").read_text().splitlines()]
    assert [{k: e[k] for k in alarm} for e in log if e["event"] == "alarm"] == [alarm]


def test_alarms_are_printed_once_each(tmp_path, capsys):
    config = make_case(tmp_path)
    command = ["run", "small", "--no-prefect", "-c", str(config), "--set", "alarms.removes_most=20%",
               "--set", "flows.small.steps.like_code.cut.budget.tokens=1B"]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    out, err = capsys.readouterr()
    assert ended.value.code == 3
    lines = [line for line in out.splitlines() if line.startswith(("alarm", "warning"))]
    names = ["removes_most", "removes_nothing", "budget_not_met"]
    assert [line.rpartition("[")[2] for line in lines] == [f"{name}]" for name in names]
    assert out.count("is not met") == 1
    told = [line.rpartition("[")[2] for line in err.splitlines() if line.startswith("alarm: ")]
    assert told == [f"{name}]" for name in names]
    for arguments in (["status", "-c", str(config)], ["status", load_last(tmp_path), "-c", str(config)]):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        assert ("alarms" if len(arguments) == 3 else "[removes_most]") in capsys.readouterr().out


def load_last(folder):
    return sorted(p.parent.name for p in (folder / "lake" / "runs").glob("*/run.json"))[-1]


def test_records_and_manifests_of_older_versions_are_read(tmp_path):
    config = make_case(tmp_path)
    run = run_small(config)
    path = run.lake.run(run.id) / "run.json"
    old = read_json(path)
    del old["alarms"]
    run.lake.publish_json(path, old)
    manifest = run.lake.selection(run.steps[-1]["selection"]) / "manifest.json"
    older = read_json(manifest)
    del older["scores"]
    run.lake.publish_json(manifest, older)
    assert load_run(run.lake, run.id).alarms == []
    again = run_small(config, "alarms={follows_length: 0.01, few_effective: 100%}")
    assert again.record.computed == 0
    assert found(again) == [("like_code", "follows_length"), ("like_code", "few_effective")]
    older["recipe"]["cut"]["temperature"] = 2.0  # the size in the manifest was that of temperature 1
    assert [a.name for a in alarms(run.id, "s", older, AlarmLimits(few_effective=1.0))] == []
    older["health"] = {"correlation_with_length": None}
    limits = AlarmLimits(**dict.fromkeys(("nan_scores", "follows_length"), 0.0))
    assert list(alarms(run.id, "s", older, limits)) == list(unmet("s", older)) == []


def test_a_manifest_gives_the_same_alarms_when_read_again(tmp_path):
    step = by_score(by="gumbel", budget={"documents": 400})
    run = run_small(scored_case(tmp_path, lambda number, record: math.nan if number else len(record["text"]), step))
    manifest = load_selection(run.lake, run.steps[0]["selection"])
    again = [(a.step, a.name, a.value, a.threshold, a.message) for a in alarms(run.id, "best", manifest, AlarmLimits())]
    assert again == [tuple(alarm.values()) for alarm in run.record.alarms] and len(again) == 3
    assert {name for _, name, *_ in again} == {"removes_nothing", "nan_scores", "budget_not_met"}


def test_limits_of_levels_are_those_of_the_last_that_says_one():
    outer = AlarmLimits.model_validate({"removes_most": "50%", "nan_scores": False})
    inner = AlarmLimits.model_validate({"removes_most": 0.7, "nan_scores": True, "budget_not_met": "off"})
    held = limits_of(outer, inner, AlarmLimits())
    assert (held.removes_most, held.nan_scores, held.budget_not_met, held.few_effective) == (0.7, 0.0, False, 0.01)
    assert limits_of(inner, outer).nan_scores is None
    assert tuple(AlarmLimits.model_fields) == ALL
