"""Two processes with one lake: one has what only one can have, and the other waits for it, or is told who has it.

Whole flows beside one another are in `test_kills.py`.
"""

import os
import threading
from contextlib import contextmanager

import pytest
import tamis
from small_flow import make_case
from tamis.pipelines import aux_training, recorded
from tamis.pipelines.cleaning import clean
from tamis.pipelines.keep_entry import Keep
from tamis.pipelines.runs import load_runs
from tamis.storage.claims import claim, claim_again, unclaim
from tamis.storage.lake import Lake
from tamis.storage.processes import HOST
from tamis.storage.publish import take_back
from tamis.storage.sweeping import lease_of
from tamis.storage.trainings import training_alone
from test_aux_models import TRAIN, case

NEWEST = Keep(runs=1, days=0, hours=0)


def test_of_two_who_take_over_what_is_stale_one_has_it(tmp_path):
    path = tmp_path / "cleaning.json"
    stale = claim(path, b"stale")
    os.utime(path, (1, 1))
    with pytest.raises(FileExistsError):
        claim(path, b"early", stale)  # it was renewed meanwhile
    stale = str(path.stat().st_mtime_ns)
    first = claim(path, b"first", stale)
    with pytest.raises(FileExistsError):
        claim(path, b"second", stale)
    assert path.read_bytes() == b"first"
    os.utime(path, (2, 2))
    with pytest.raises(FileExistsError):
        claim_again(path, b"first", first)
    unclaim(path, first)
    assert path.exists(), "it is somebody else's"
    unclaim(path, claim_again(path, b"first", str(path.stat().st_mtime_ns)))
    assert not path.exists()


def test_a_run_takes_away_the_lease_that_it_found_and_no_other(tmp_path, monkeypatch):
    config = make_case(tmp_path, n=60, files=1)
    lease = lease_of(tamis.run(config, "small").lake)
    built = recorded.build_catalog

    def begun_meanwhile(lake):
        built(lake)
        if lease.exists():
            lease.unlink()
            lease.write_text('{"host": "elsewhere", "pid": 1}')

    monkeypatch.setattr(recorded, "build_catalog", begun_meanwhile)
    lease.write_text("{")
    os.utime(lease, (1, 1))
    assert tamis.run(config, "small").record.status == "done"
    assert "elsewhere" in lease.read_text()


@pytest.mark.parametrize(
    ("by", "code"), [(KeyboardInterrupt, 130), (recorded.Terminated, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_run_that_is_stopped_as_it_waits_goes_on_no_more(tmp_path, monkeypatch, by, code):
    config = make_case(tmp_path, n=60, files=1)
    lake = tamis.run(config, "small").lake

    def stopped(*_):
        raise by

    with monkeypatch.context() as patched, pytest.raises(by):
        patched.setattr(recorded, "wait_until_clean", stopped)
        tamis.run(config, "small")
    assert [(run.status, run.exit_code) for run in load_runs(lake)] == [("done", 3), ("interrupted", code)]
    clean(lake, NEWEST)


def test_who_would_train_the_same_model_waits_and_says_for_whom(tmp_path):
    lake, said, had = Lake.open(tmp_path / "lake", create=True), [], threading.Event()

    def second():
        with training_alone(lake, "k", "the model m", lambda text: (said.append(text), had.set())):
            said.append(lake.training("k").exists())

    with training_alone(lake, "k", "the model m", pytest.fail):
        thread = threading.Thread(target=second)
        thread.start()
        assert had.wait(60)
        (lake.training("k") / "checkpoint").write_text("x")
        take_back(lake.training("k"))
    thread.join(60)
    assert said == [f"waiting for process {os.getpid()} of {HOST}, which trains the model m", True]
    assert not lake.training("k").exists()


def test_a_model_that_another_run_trained_meanwhile_is_taken(tmp_path, monkeypatch):
    config, others = case(tmp_path, steps=[TRAIN]), []

    @contextmanager
    def waited(*asked):
        if not others:
            others.append(None)
            others.append(tamis.train_aux(config, "python"))
        with training_alone(*asked):
            yield

    monkeypatch.setattr(aux_training, "training_alone", waited)
    run = tamis.train_aux(config, "python")
    assert [(m["key"], m["digest"]) for m in run.record.models] == [
        (m["key"], m["digest"]) for m in others[1].record.models
    ]
    trained = [(stage.computed, stage.reused) for stage in run.record.stages if stage.name.startswith("train ")]
    assert trained == [(0, 1), (0, 1)]
    assert not list(run.lake.training("x").parent.glob("*"))
