"""`tamis clean`: what it removes, what it never touches, and what is still true afterwards."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import tamis
import yaml
from small_flow import STEPS, documents, make_case, write_jsonl
from tamis.pipelines.cleaning import clean, survey
from tamis.pipelines.cli import app
from tamis.pipelines.comparing import compare
from tamis.pipelines.explaining import explain
from tamis.pipelines.keep_entry import Keep
from tamis.storage.errors import LakeError
from tamis.storage.lake import Lake
from tamis.storage.processes import HOST
from tamis.storage.sweeping import lease, lease_of
from tamis.storage.verify import verify
from typer.testing import CliRunner

NEWEST = Keep(runs=1, days=0, hours=0)
SMALLER = ["flows.small.steps.like_code.cut.budget.tokens=10%"]
FEATURES = {"stats": {"use": "text_stats"}, "letters": {"use": "compression"}}


@pytest.fixture
def config(tmp_path):
    flow = {"corpus": "web", "steps": STEPS}
    return make_case(tmp_path, n=80, files=2, flows={"small": flow, "other": {"corpus": "web", "steps": STEPS[:1]}})


def selections(lake):
    return {path.parent.name for path in lake.root.glob("selections/*/manifest.json")}


def facts(lake, run):
    """Return what people ask about a run: its rows, two explanations, and what the catalogue says of it."""
    rows = tamis.sql(lake, "select * from selection_steps where run = $1 order by position, doc_id", [run]).fetchall()
    steps = tamis.sql(lake, "select * from steps where run = $1 order by position", [run]).fetchall()
    told = [explain(lake, row, run=run) for row in ("doc-0-0004", "doc-0-0005")]
    return rows, steps, json.loads(json.dumps(told, default=str))


def test_it_shows_and_removes_nothing_without_being_told(config):
    first = tamis.run(config, "small")
    tamis.run(config, "small", overrides=SMALLER)
    before = sorted(p for p in first.lake.root.rglob("*"))
    done = CliRunner().invoke(app, ["clean", "-c", str(config), "--keep-runs", "1", "--older-than", "0d"])
    assert done.exit_code == 0 and "nothing is to be removed" in done.stdout, "all of it is an hour old at most"
    found = survey(first.lake, NEWEST)
    assert sorted(p for p in first.lake.root.rglob("*")) == before
    assert list(found.dropped) == [first.id] and found.gone
    assert {row["kind"] for row in found.by_kind()} == {"runs", "selections"}
    assert all(row["of"] == ["small"] for row in found.by_kind() if row["kind"] != "runs")


def test_the_command_says_what_it_removed(config):
    first = tamis.run(config, "small")
    tamis.run(config, "small", overrides=[*SMALLER, "keep.hours=0"])
    options = ["clean", "-c", str(config), "--keep-runs=1", "--older-than=0d", "--json"]
    text = config.read_text() + "keep: {hours: 0}\n"
    config.write_text(text)
    shown = json.loads(CliRunner().invoke(app, options).stdout)
    assert not shown["removed"] and shown["bytes"] > 0 and (first.lake.run(first.id) / "run.json").exists()
    done = json.loads(CliRunner().invoke(app, [*options, "--yes"]).stdout)
    assert done["removed"] and done["artefacts"] == shown["artefacts"] and list(done["dropped"]) == [first.id]
    assert not first.lake.run(first.id).exists()
    table = CliRunner().invoke(app, ["clean", "-c", str(config), "--older-than", "1"])
    assert table.exit_code == 1 or "expected days or hours" in str(table.exception)


def test_kept_runs_tell_the_same_and_a_rerun_computes_nothing(config, tmp_path):
    tamis.run(config, "small", overrides=["seed=1"])
    tamis.run(config, "small", overrides=SMALLER)
    write_jsonl(tmp_path / "raw" / "part-9.jsonl", documents(30, seed=3))
    other, kept = tamis.run(config, "other"), tamis.run(config, "small")
    lake = kept.lake
    before = [facts(lake, run.id) for run in (other, kept)]
    compared = compare(lake, [other.id, kept.id], samples=2) | {"made": None}
    done = clean(lake, NEWEST)
    assert {row["kind"] for row in done.by_kind()} >= {"runs", "selections", "scores", "states", "snapshots"}
    assert list(verify(lake)) == []
    assert [facts(lake, run.id) for run in (other, kept)] == before
    assert compare(lake, [other.id, kept.id], samples=2) | {"made": None} == compared
    assert survey(lake, NEWEST).gone == [], "a second time there is nothing"
    for flow in ("other", "small"):
        assert tamis.run(config, flow).record.computed == 0


def test_a_new_cut_keeps_the_features_and_scores_that_an_older_run_made(config):
    tamis.run(config, "small")
    kept = tamis.run(config, "small", overrides=SMALLER)
    before = facts(kept.lake, kept.id)
    clean(kept.lake, NEWEST)
    assert facts(kept.lake, kept.id) == before
    again = tamis.run(config, "small", overrides=[*SMALLER, "flows.small.steps.like_code.cut.by=top"])
    made = {stage.name: stage.computed for stage in again.record.stages if stage.computed}
    assert made == {"cut like_code": 1, "diff": 1}


def test_a_changed_files_old_shards_go_with_the_last_run_over_them(config, tmp_path):
    old = tamis.run(config, "small")
    write_jsonl(tmp_path / "raw" / "part-0.jsonl", documents(20, seed=8))
    new = tamis.run(config, "small")
    shards = {path.name for path in new.lake.root.glob("corpora/web/shards/*")}
    clean(new.lake, Keep(runs=2, days=0, hours=0))
    assert {path.name for path in new.lake.root.glob("corpora/web/shards/*")} == shards
    clean(new.lake, NEWEST)
    assert not new.lake.snapshot("web", old.record.snapshot).exists()
    assert {path.name for path in new.lake.root.glob("corpora/web/shards/*")} <= shards
    assert list(verify(new.lake)) == [] and tamis.run(config, "small").record.computed == 0


def test_a_published_mixture_stays_and_its_documents_are_explained(tmp_path):
    config = make_case(tmp_path, n=80, files=2)
    published = tamis.run(config, "small")
    folder = published.outputs[0]
    bytes_before = {path.name: path.read_bytes() for path in folder.iterdir()}
    tamis.run(config, "small", overrides=["flows.small.outputs=[]", "seed=3"])
    lake = published.lake
    query = "select * from selections where run = $1 order by all"
    before = tamis.sql(lake, query, [published.id]).fetchall()
    told = explain(lake, "doc-0-0004", run=published.id, reasons="none")
    done = clean(lake, NEWEST)
    assert done.kept[published.id] == "a mixture of it is published" and done.dropped == {}
    assert {"scores", "states"} <= {row["kind"] for row in done.by_kind()}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == bytes_before
    assert tamis.sql(lake, query, [published.id]).fetchall() == before
    assert verdicts(explain(lake, "doc-0-0004", run=published.id, reasons="none")) == verdicts(told)
    assert list(verify(lake)) == []


def verdicts(told):
    names = ("step", "kept", "reason", "score", "rank", "entered", "of_them_kept")
    return [[step[name] for name in names] for run in told["runs"] for step in run["steps"]]


def test_mixtures_keep_the_flows_that_they_are_made_of(tmp_path):
    both = {"budget": {"tokens": 300}, "parts": [{"flow": "small"}], "outputs": [{"format": "jsonl.zst"}]}
    config = make_case(tmp_path, n=80, files=2, mixtures={"both": both})
    mixed = tamis.mix(config, "both")
    (flow,) = mixed.record.mixture["runs"].values()
    tamis.run(config, "small", overrides=["seed=3"])
    done = clean(mixed.lake, NEWEST)
    assert flow in done.kept and mixed.id in done.kept
    assert mixed.lake.draw(mixed.record.mixture["draw"]).exists()
    assert tamis.mix(config, "both").record.computed == 0


def interrupted(config, monkeypatch, seed):
    """Run until the scores are there, and stop as Ctrl-C does."""
    from tamis.pipelines import selecting

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(selecting, "resolve_rule", stop)
        with pytest.raises(KeyboardInterrupt):
            tamis.run(config, "small", overrides=[seed])


def test_what_a_resume_wants_stays_until_it_is_older_than_the_retention(config, monkeypatch):
    tamis.run(config, "small")
    interrupted(config, monkeypatch, "seed=5")
    lake = Lake.open(config.parent / "lake")
    clean(lake, Keep(runs=1, days=1, hours=0))
    resumed = tamis.run(config, "small", overrides=["seed=5"])
    assert {stage.name for stage in resumed.record.stages if stage.computed} == {"cut like_code", "diff"}
    interrupted(config, monkeypatch, "seed=6")
    gone = {row["kind"] for row in clean(lake, NEWEST).by_kind()}
    assert {"runs", "scores", "states"} <= gone and list(verify(lake)) == []


def test_while_a_run_goes_on_nothing_is_removed(config):
    tamis.run(config, "small")
    run = tamis.run(config, "small", overrides=SMALLER)
    path = run.lake.run(run.id) / "run.json"
    going = json.loads(path.read_text()) | {"run": "29990101T000000000000-0000", "status": "running"}
    (run.lake.root / "runs" / going["run"]).mkdir()
    record = run.lake.root / "runs" / going["run"] / "run.json"
    for host, pid in ((HOST, os.getpid()), ("elsewhere", 1)):
        record.write_text(json.dumps(going | {"host": host, "pid": pid, "process": {}}))
        assert survey(run.lake, NEWEST).running == [going["run"]]
        with pytest.raises(LakeError, match="goes on"):
            clean(run.lake, NEWEST)
        assert not lease_of(run.lake).exists()
    week = time.time() - 8 * 86_400
    os.utime(record, (week, week))
    assert survey(run.lake, NEWEST).running == [], "it was not heard of for a week"


def test_a_run_that_begins_meanwhile_waits(config):
    lake = tamis.run(config, "small").lake
    ended = []
    thread = threading.Thread(target=lambda: ended.append(tamis.run(config, "other")))
    with lease(lake):
        with pytest.raises(LakeError, match="another"), lease(lake):
            pass
        thread.start()
        while len(list(lake.root.glob("runs/*/run.json"))) < 2:
            time.sleep(0.01)
        time.sleep(0.3)
        assert not ended and survey(lake, NEWEST).running, "it told of itself, and waits"
    thread.join()
    assert ended[0].record.status == "done"


_KILLED = """
import os, signal, sys
from pathlib import Path
from tamis.pipelines.cleaning import clean
from tamis.pipelines.keep_entry import Keep
from tamis.storage.lake import Lake
root, left, unlink = Path(sys.argv[1]), int(sys.argv[2]), Path.unlink

def dying(self, missing_ok=False):
    global left
    if self.is_relative_to(root) and "tmp" not in self.relative_to(root).parts and self.name != "cleaning.json":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    unlink(self, missing_ok)

Path.unlink = dying
clean(Lake.open(sys.argv[1]), Keep(runs=1, days=0, hours=0))
"""


def test_a_kill_in_the_middle_leaves_a_lake_that_is_right(config, tmp_path):
    tamis.run(config, "small", overrides=["seed=2"])
    write_jsonl(tmp_path / "raw" / "part-9.jsonl", documents(30, seed=3))
    kept = tamis.run(config, "small")
    lake, before = kept.lake, facts(kept.lake, kept.id)
    for files in (1, 5, 7):
        done = subprocess.run([sys.executable, "-c", _KILLED, str(lake.root), str(files)], capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert lease_of(lake).exists() and list(verify(lake)) == []
        assert facts(lake, kept.id) == before, "the catalogue is made in memory, because the file may name what is gone"
    assert tamis.run(config, "small").record.computed == 0
    assert not lease_of(lake).exists() and facts(lake, kept.id) == before
    clean(lake, NEWEST)
    assert survey(lake, NEWEST).gone == [] and list(verify(lake)) == []


def test_verify_names_what_a_run_refers_to_and_is_not_there(config, tmp_path):
    old = tamis.run(config, "small")
    write_jsonl(tmp_path / "raw" / "part-0.jsonl", documents(20, seed=8))
    lake = tamis.run(config, "small").lake
    manifest = lake.selection(old.steps[-1]["selection"]) / "manifest.json"
    manifest.unlink()
    (damage,) = verify(lake)
    assert damage.file == str(manifest) and old.id in damage.problem


def test_what_an_older_tamis_did_not_note_is_kept(config):
    tamis.run(config, "small", overrides=["seed=2"])
    kept = tamis.run(config, "small")
    lake = kept.lake
    for path in lake.root.glob("*/*/uses.json"):
        path.unlink()
    found = survey(lake, NEWEST)
    assert found.unknown and {row["kind"] for row in found.by_kind()} <= {"runs", "selections"}
    before = facts(lake, kept.id)
    clean(lake, NEWEST)
    assert facts(lake, kept.id) == before


def test_files_of_processes_that_are_gone_are_removed(config):
    lake = tamis.run(config, "small").lake
    (lake.scratch / f"{HOST}~999999999~0~spill").mkdir()
    (lake.scratch / f"{HOST}~999999999~0~spill" / "part").write_text("left")
    mine = lake.scratch / f"{HOST}~{os.getpid()}~0~shard.parquet"
    mine.write_text("in use")
    assert [row["kind"] for row in clean(lake, Keep()).by_kind()] == ["temporary"]
    assert list(lake.scratch.iterdir()) == [mine]


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_any_history_of_runs_is_cleaned_without_loss(tmp_path, seed):
    """Runs of two flows over files that come and go, with other seeds and budgets, cleaned now and then."""
    rng = random.Random(seed)
    config = make_case(tmp_path, n=60, files=2)
    tree = yaml.safe_load(config.read_text())
    tree["flows"]["other"] = {"corpus": "web", "steps": STEPS[1:]}
    config.write_text(yaml.safe_dump(tree))
    lake, last = None, {}
    for step in range(7):
        change = rng.randrange(4)
        if change == 0:
            write_jsonl(tmp_path / "raw" / f"more-{step}.jsonl", documents(12, seed=step))
        elif change == 1 and len(more := sorted((tmp_path / "raw").glob("more-*"))) > 0:
            rng.choice(more).unlink()
        flow, overrides = rng.choice(["small", "other"]), [f"seed={rng.randrange(2)}"]
        overrides += [f"flows.{flow}.steps.like_code.cut.budget.tokens={rng.choice([10, 20])}%"]
        overrides += rng.choice([[], ["flows.small.outputs=[]"]])
        run = tamis.run(config, flow, overrides=overrides)
        lake, last[flow] = run.lake, (run, overrides)
        if rng.random() < 0.35 or step == 6:
            keep = Keep(runs=rng.randint(1, 2), days=0, hours=0)
            expected = survey(lake, keep)
            rows = {id_: decided(lake, id_) for id_ in expected.kept}
            done = clean(lake, keep)
            assert done.kept == expected.kept and {r.id for r, _ in last.values()} <= set(done.kept)
            assert list(verify(lake)) == []
            assert {id_: decided(lake, id_) for id_ in done.kept} == rows
            assert survey(lake, keep).gone == []
    newest = max(last.values(), key=lambda pair: pair[0].id)
    assert tamis.run(config, newest[0].record.flow, overrides=newest[1]).record.computed == 0


def decided(lake, run):
    query = "select step, doc_id, kept, score, rank, reason from selection_steps where run = $1 order by all"
    return tamis.sql(lake, query, [run]).fetchall()
