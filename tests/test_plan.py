"""A plan says what is true: counts, yields within their errors, what is there, and it leaves the lake as it was."""

import json
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest
import tamis
from small_flow import documents, make_case, write_jsonl
from tamis.pipelines import cli, planning
from tamis.pipelines.plan_printing import print_plan
from tamis.pipelines.plan_trials import Trials
from tamis.pipelines.runs import load_run
from tamis.storage.errors import LakeError
from tamis.storage.lake import Lake

Usage = namedtuple("Usage", "total used free")


def files(folder):
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns
        for p in folder.rglob("*")
        if p.is_file() and p.parent.name != "sums"
    }


def by_name(stages):
    return {stage.stage: stage for stage in stages}


@pytest.fixture(scope="module")
def planned_and_run(tmp_path_factory):
    """A plan of a corpus that no sample has half of, and the run after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tamis.pipelines.plan_sample.SAMPLED_BYTES", 200_000)
        config = make_case(tmp_path_factory.mktemp("plan"), n=4000, files=5)
        found = tamis.plan(config, "small")
        lake_before = files(config.parent / "lake")
        return found, lake_before, tamis.run(config, "small"), config


def test_a_plan_knows_the_corpus_and_its_yields_within_their_errors(planned_and_run):
    found, _, run, _ = planned_and_run
    assert (found.corpus.documents, found.looked_at) == (4000, 1.0) and not found.nothing_to_do
    assert found.sampled_documents < 2000
    for planned, step in zip(found.steps, run.steps, strict=True):
        assert planned.name == step["name"] and not planned.known
        assert abs(planned.documents.value - step["kept"]) <= 2 * planned.documents.error
        assert 0 < planned.documents.error < 0.3 * step["kept"]
        assert abs(planned.tokens.value - step["tokens_kept"]) <= 2 * planned.tokens.error


def test_every_stage_that_happens_is_planned_and_the_disk_too(planned_and_run):
    found, _, run, _ = planned_and_run
    happened = {stage.name for stage in run.record.stages}
    assert by_name(found.stages)["Prefect"].seconds.value > planning.PREFECT_S > 0
    assert happened <= set(by_name(found.stages))
    assert all(stage.seconds.value > 0 for stage in found.stages if stage.stage in happened and stage.share)
    n_bytes = sum(stage.bytes for stage in run.record.stages)
    assert n_bytes / 1.5 < found.bytes.value < 1.5 * n_bytes
    assert found.peak_bytes >= found.bytes.value and found.memory > 50e6


def test_a_plan_leaves_the_lake_as_it_was_but_for_itself(planned_and_run):
    _, before, _, _ = planned_and_run
    assert sorted(name.split("/")[0] for name in before) == ["lake.json", "plans"]


def test_the_run_keeps_the_plan_and_status_shows_both(planned_and_run, capsys):
    found, _, run, config = planned_and_run
    record = load_run(run.lake, run.id)
    assert record.plan["made"] == found.made
    with pytest.raises(SystemExit):
        cli.main(["status", run.id, "-c", str(config)])
    out = capsys.readouterr().out
    assert "planned s" in out and "planned disk" in out and "planned kept" in out and "between the stages" in out


def test_a_second_run_has_no_plan_beside_it_and_a_second_plan_nothing_to_do(planned_and_run, capsys):
    _, _, run, config = planned_and_run
    again = tamis.plan(config, "small")
    assert again.nothing_to_do and again.run == run.id and again.exit_code == 0 and again.stages == ()
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", "small", "-c", str(config), "-q"])
    assert not ended.value.code and "nothing to do" in capsys.readouterr().out
    assert tamis.run(config, "small").record.plan == {}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A configuration whose flow was run."""
    config = make_case(tmp_path_factory.mktemp("ran"), n=300)
    tamis.run(config, "small")
    return config


def variant(config, old, new):
    """Write another configuration of the same lake."""
    text = config.read_text()
    assert text.count(old) == 1
    path = config.with_name(f"{len(list(config.parent.glob('*.yaml')))}.yaml")
    path.write_text(text.replace(old, new))
    return path


def test_what_is_there_is_not_planned_again(ran):
    lake = files(ran.parent / "lake")
    found = tamis.plan(ran, "small", overrides=["flows.small.steps.like_code.cut.budget.tokens=10%"], workers=1)
    left = {name: stage.state for name, stage in by_name(found.stages).items() if stage.share}
    assert left == dict.fromkeys(["cut like_code", "export parquet", "between the stages", "Prefect"], "to compute")
    assert [step.known for step in found.steps] == [True, True, False]
    after = files(ran.parent / "lake")
    assert {name: after.get(name) for name in lake} == lake
    assert {name.split("/")[0] for name in after.keys() - lake.keys()} == {"plans"}


def test_another_step_behind_leaves_the_first_ones_there(ran):
    more = "    - {name: any, select: random, cut: {budget: {documents: 5}}}\n    outputs:"
    found = by_name(tamis.plan(variant(ran, "    outputs:", more), "small", workers=1).stages)
    assert found["cut like_code"].share == found["feature stats"].share == found["ingest web"].share == 0
    assert found["cut any"].share == found["export parquet"].share == 1


def test_a_new_file_leaves_values_of_the_others_there(ran):
    write_jsonl(ran.parent / "more" / "part-9.jsonl", documents(50, seed=5))
    found = tamis.plan(variant(ran, "- raw/*", "- raw/*\n    - more/*"), "small", workers=1)
    stages = by_name(found.stages)
    assert found.corpus.documents == 350
    assert stages["ingest web"].state == "partly" and stages["feature stats"].state == "partly"
    assert stages["feature stats"].share == pytest.approx(50 / 350)
    assert stages["filter clean"].share == 1


def test_a_target_that_is_new_does_not_hide_what_is_there(ran):
    write_jsonl(ran.parent / "other.jsonl", documents(12, seed=3))
    found = tamis.plan(variant(ran, "- code.jsonl", "- other.jsonl"), "small", workers=1)
    assert [step.known for step in found.steps] == [True, True, False]
    stages = by_name(found.stages)
    assert stages["ingest targets/code"].share == stages["fit like_code"].share == 1
    assert stages["dedup twins"].share == stages["summarise like_code"].share == 0


def test_a_file_that_was_touched_hides_nothing(ran):
    (ran.parent / "raw" / "part-1.jsonl").touch()
    found = by_name(tamis.plan(ran, "small", overrides=["seed=18"], workers=1).stages)
    assert found["ingest web"].share == found["filter clean"].share == 0 and found["cut like_code"].share == 1


def test_models_are_planned_by_their_tokens(tmp_path):
    """Trained for a few updates on a sample, planned for their budgets."""
    fast = {"batch": 4, "peak_rate": 0.01, "precision": "fp32"}
    shape = {"size": "tiny", "depth": 1, "width": 16, "heads": 2, "context": 32, "vocabulary": 300}
    models = {"prior": {**shape, "budget": {"tokens": 100_000_000}, "epochs": 10**6, "with": fast},
              "code": {"from": "prior", "target": "code", "epochs": 2, "with": fast}}  # fmt: skip
    steps = [
        {"name": "twins", "dedup": "exact"}, {"name": "models", "train": ["prior", "code"]},
        {"name": "low", "select": "perplexity", "with": {"losses": "loss"}, "cut": {"budget": {"documents": 9}}},
    ]  # fmt: skip
    features = {"loss": {"use": "losses", "model": "code", "precision": "fp32"}}
    config = make_case(tmp_path, n=160, steps=steps, features=features, models=models)
    found = tamis.plan(config, "small", workers=1, prefect=False)
    stages = by_name(found.stages)
    assert stages["train prior"].seconds.value > 100 * stages["train code"].seconds.value > 0
    assert stages["train prior"].seconds.value > 100
    assert [step.name for step in found.steps] == ["twins", "low"] and found.steps[1].documents.value <= 9
    assert found.gpu_hours == 0 or stages["train prior"].device != "cpu"
    assert found.cpu_hours > 0 and any("patience" in note for note in found.notes)


def test_copies_are_seen_in_a_sample(tmp_path, monkeypatch):
    """Ten copies with new ids: of a sample by id nearly all would be taken for different documents."""
    monkeypatch.setattr("tamis.pipelines.plan_sample.SAMPLED_BYTES", 100_000)
    config = make_case(tmp_path, steps=[{"name": "twins", "dedup": "exact"}])
    texts = {d["text"]: d for d in documents(600, seed=1)}.values()
    for copy in range(10):
        write_jsonl(tmp_path / "raw" / f"part-{copy}.jsonl", [{**d, "id": f"{copy}-{d['id']}"} for d in texts])
    found = tamis.plan(config, "small")
    assert found.corpus.documents == 10 * len(texts)
    assert found.sampled_documents < 0.7 * found.corpus.documents
    assert found.steps[0].documents.value == pytest.approx(len(texts), rel=1e-9)


def test_a_budget_in_numbers_is_that_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("tamis.pipelines.plan_sample.SAMPLED_BYTES", 100_000)
    config = make_case(tmp_path, n=3000)
    change = "flows.small.steps.like_code.cut.budget.tokens=8000"
    found = tamis.plan(config, "small", overrides=[change])
    run = tamis.run(config, "small", overrides=[change])
    assert 0.9 * 8000 < found.steps[-1].tokens.value <= 8000
    assert run.steps[-1]["tokens_kept"] == pytest.approx(found.steps[-1].tokens.value, rel=0.1)


def test_a_disk_that_is_too_small_is_a_warning_and_code_3(tmp_path, capsys):
    config = make_case(tmp_path)
    usage = Usage(10**9, 10**9 - 1000, 1000)
    found = tamis.plan(config, "small", disk_usage=lambda path: usage, prefect=False, workers=1)
    assert "Prefect" not in by_name(found.stages)
    assert not found.enough_disk and found.exit_code == 3
    print_plan(found, as_json=False)
    assert "too small" in capsys.readouterr().out
    print_plan(found, as_json=True)
    assert json.loads(capsys.readouterr().out)["total"]["enough_disk"] is False


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_plan_leaves_nothing_behind(tmp_path, monkeypatch, error):
    config = make_case(tmp_path)

    def stop(self, *arguments, **options):
        assert any((tmp_path / "lake" / "tmp").iterdir())
        raise error

    monkeypatch.setattr(Trials, "run", stop)
    with pytest.raises(error):
        tamis.plan(config, "small")
    assert not (tmp_path / "lake").exists(), "it was not there before"
    Lake.open(tmp_path / "lake", create=True)
    with pytest.raises(error):
        tamis.plan(config, "small")
    assert sorted(files(tmp_path / "lake")) == ["lake.json"]
    assert not any((tmp_path / "lake" / "tmp").iterdir())


@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_a_killed_plan_leaves_goes_with_the_next_command(tmp_path, command):
    """SIGTERM ends a process without a word; where no lake was, none is taken to be damaged."""
    config = make_case(tmp_path, n=2000)
    scratch = tmp_path / "lake" / "tmp"
    started = [sys.executable, "-m", "tamis.pipelines.cli", "plan", "small", "-c", str(config), "-q"]
    with subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not any(scratch.glob("*~plan/trial-*")):
            time.sleep(0.01)
        process.terminate()
        assert process.wait() == -signal.SIGTERM
    assert any(scratch.glob("*~plan")) and not (tmp_path / "lake" / "lake.json").exists()
    getattr(tamis, command)(config, "small", workers=1)
    assert not any(scratch.iterdir())


def test_a_lake_that_a_plan_makes_is_said(tmp_path):
    config = make_case(tmp_path, lake="new/lake")
    first, second = (tamis.plan(config, "small", prefect=False, workers=1) for _ in range(2))
    assert [note for note in first.notes if "was made" in note] and not [n for n in second.notes if "was made" in n]
    assert {name.split("/")[0] for name in files(tmp_path / "new" / "lake")} == {"lake.json", "plans"}


@pytest.mark.parametrize(("lake", "message"), [("raw", "is not empty"), ("flows.yaml/lake", "no lake can be made")])
def test_where_no_lake_can_be_nothing_is_planned(tmp_path, lake, message):
    config = make_case(tmp_path, lake=lake)
    before = files(tmp_path)
    with pytest.raises(LakeError, match=message):
        tamis.plan(config, "small")
    assert files(tmp_path) == before


def test_a_plan_that_fails_leaves_no_folder_where_none_was(tmp_path, monkeypatch):
    config = make_case(tmp_path, lake="new/deep/lake")

    def fail(self, *arguments, **options):
        raise LakeError("full")

    monkeypatch.setattr(Trials, "run", fail)
    with pytest.raises(LakeError, match="full"):
        tamis.plan(config, "small")
    assert not (tmp_path / "new").exists()


def test_a_flow_that_cannot_run_is_said_before_any_work(tmp_path):
    config = make_case(tmp_path)
    with pytest.raises(tamis.storage.errors.ConfigError, match="did you mean"):
        tamis.plan(config, "smal")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("texts", [[], ["", ""], ["  \n", "\n"]], ids=["no documents", "no text", "blank"])
def test_what_can_be_run_can_be_planned(tmp_path, capsys, texts):
    """A corpus without text is a strange one, but a run of it is none that fails."""
    config = make_case(tmp_path, files=1)
    write_jsonl(tmp_path / "raw" / "part-0.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(texts)])
    found = tamis.plan(config, "small", prefect=False, workers=1)
    run = tamis.run(config, "small", workers=1)
    assert (found.corpus.documents, found.looked_at) == (len(texts), 1)
    assert [step.documents.value for step in found.steps] == [step["kept"] for step in run.steps] == [0, 0, 0]
    assert {stage.name for stage in run.record.stages} <= set(by_name(found.stages))
    print_plan(found, as_json=True)
    assert len(json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["notes"]) == 1, "a lake was made"
    print_plan(found, as_json=False)
    assert "nan" not in capsys.readouterr().out
