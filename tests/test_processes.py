"""A process on record is told from a later one of its number, from one of another container, and from one that runs."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import tamis
from small_flow import make_case
from tamis.pipelines.cleaning import clean, survey
from tamis.pipelines.keep_entry import Keep
from tamis.pipelines.ray_cluster import _remove_stale
from tamis.pipelines.runs import load_runs
from tamis.storage import processes
from tamis.storage.errors import LakeError
from tamis.storage.lake import Lake
from tamis.storage.locks import is_held
from tamis.storage.processes import HOST, Process, _began, this_process
from tamis.storage.publish import temporary_path
from tamis.storage.sweeping import being_cleaned, lease, lease_of

NEWEST = Keep(runs=1, days=0, hours=0)
US = this_process()
needs_proc = pytest.mark.skipif(not US.boot, reason="this system does not tell in /proc when a process began")
LATER = US._replace(start=US.start + 1)
"""What had our number, and began at another time."""
ELSEWHERE = US._replace(space="1")
"""What runs in another container of this machine."""


@contextmanager
def asleep():
    """Yield the number of a process that does nothing; it is killed in the end."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture
def run(tmp_path):
    return tamis.run(make_case(tmp_path, n=60, files=1), "small")


def left_running(run, process):
    """Let the record of a run say that it goes on in some process."""
    path = run.lake.run(run.id) / "run.json"
    record = json.loads(path.read_text()) | {"status": "running"}
    del record["process"]
    path.write_text(json.dumps(record | process))


def test_its_name_and_its_record_give_it_back():
    assert Process.named(f"{US.name}~0123456789ab~shard.parquet") == US
    assert Process.of(json.loads(json.dumps(US.record()))) == US
    assert Process.of({"pid": 7, "host": "elsewhere"}) == Process("elsewhere", 7)
    assert Process.named(f"{HOST}~7~0123456789ab~shard.parquet") == Process(HOST, 7), "as an older tamis wrote it"
    for name in (
        "host~²~y",
        "host~1.².a.b.c~y",
        "tokens.arrow",
        "host~x~y",
        "host~1.2~y",
        "host~1.x.a.b.c~y",
        "host~1.2.a.b.c.d~y",
    ):
        assert Process.named(name) is None


@needs_proc
def test_whether_it_runs_is_known_of_this_machine_alone():
    assert US.runs() is True and LATER.runs() is False
    assert Process(HOST, os.getpid()).runs() is True, "an older tamis noted no more"
    assert US._replace(pid=999_999_999).runs() is False and Process(HOST, 999_999_999).runs() is False
    assert US._replace(boot="other", machine="m").runs() is None, "another machine of the same name"
    for pid in (0, -1, 1 << 31, 1 << 70):  # what no process has: `kill` asks whole groups, or takes no such number
        assert US._replace(pid=pid).runs() is False and Process(HOST, pid).runs() is False
    assert Process("elsewhere", 1).runs() is None and ELSEWHERE.runs() is None
    if US.machine:
        assert US._replace(boot="other").runs() is False, "this machine was started again since"


@needs_proc
def test_a_process_that_another_user_hides_runs(monkeypatch):
    def denied(*_):
        raise PermissionError

    monkeypatch.setattr(processes, "_PROC", Path("/nowhere"))  # `hidepid` shows no folder of it
    monkeypatch.setattr(os, "kill", denied)
    assert US.runs() is True


@needs_proc
def test_a_fork_is_another_process_and_one_that_nobody_asked_about_is_gone():
    code = (
        "import os, sys; from tamis.storage.processes import this_process as this; before = this(); pid = os.fork()\n"
    )
    code += "if not pid: print(this().name, flush=True); os._exit(0)\n"
    code += "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT); sys.stdin.read()"  # nobody asks: it stays a zombie
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = Process.named(parent.stdout.readline().strip() + "~0~x")
    assert child.pid != parent.pid and child.boot == US.boot and child.start
    while child.runs():
        pass
    os.kill(child.pid, 0)  # its number is still taken
    parent.communicate()


@needs_proc
def test_a_killed_run_whose_number_is_taken_again_blocks_nothing(run):
    left_running(run, LATER.record())
    assert load_runs(run.lake)[0].status == "interrupted"
    clean(run.lake, NEWEST)
    assert load_runs(run.lake)[0].status == "interrupted", "its mixture is published"


def test_a_run_of_an_older_tamis_goes_on_as_long_as_its_number(run):
    left_running(run, {"pid": os.getpid(), "host": HOST})
    with pytest.raises(LakeError, match=rf"goes on \(process {os.getpid()} of {HOST}\)"):
        clean(run.lake, NEWEST)


@needs_proc
def test_a_run_of_another_container_goes_on_as_long_as_it_holds_its_log(run):
    left_running(run, ELSEWHERE._replace(host="container").record())
    log = run.lake.run(run.id) / "log.jsonl"
    code = "import signal, sys; from pathlib import Path; from tamis.storage.locks import Hold\n"
    code += "file = Hold(Path(sys.argv[1])); print(flush=True); signal.pause()"
    holder = subprocess.Popen([sys.executable, "-c", code, str(log)], stdout=subprocess.PIPE)
    holder.stdout.readline()
    assert survey(run.lake, NEWEST).running == [run.id]
    holder.kill()
    holder.communicate()
    assert survey(run.lake, NEWEST).running == [] and load_runs(run.lake)[0].status == "interrupted"
    log.unlink()
    with pytest.raises(LakeError, match=r'of which nothing is known here: if it is gone, remove ".*/runs/2'):
        clean(run.lake, NEWEST)


def test_a_run_holds_its_log_as_long_as_it_goes_on(tmp_path, monkeypatch):
    from tamis.pipelines import flows

    def look(work, _):
        held.append(is_held(work.lake.run(work.log.record.run) / "log.jsonl"))

    held = []
    monkeypatch.setattr(flows, "note_diff", look)
    run = tamis.run(make_case(tmp_path, n=60, files=1), "small")
    assert held == [True] and is_held(run.lake.run(run.id) / "log.jsonl") is False


@needs_proc
def test_temporary_files_go_with_their_process_and_no_other(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    with asleep() as pid:
        mine, older = temporary_path(lake.scratch, "mine"), lake.scratch / f"{HOST}~{os.getpid()}~0~of_an_older_tamis"
        other = lake.scratch / f"{US._replace(pid=pid, start=_began(pid)).name}~0~of_another"
        container = lake.scratch / f"{ELSEWHERE.name}~0~of_a_container"
        machine = lake.scratch / f"{US._replace(host='x', boot='other', machine='m').name}~0~of_a_machine"
        gone = [US._replace(pid=999_999_999).name, LATER.name, f"{HOST}~999999999"]
        for path in (mine, older, other, container, machine, *(lake.scratch / f"{name}~0~left" for name in gone)):
            path.write_text("x")
        lake.sweep_scratch()
        assert set(lake.scratch.iterdir()) == {mine, older, other, container, machine}
        spill = lake.scratch / f"{ELSEWHERE.name}~0~spill"
        spill.mkdir()
        (spill / "part").write_text("x")
        for path in (mine, older, other, container, machine, spill):
            os.utime(path, (0, 0))
        clean(lake, NEWEST)
        assert set(lake.scratch.iterdir()) == {mine, older, other, spill}, "after a week, but a folder with a new file"


@needs_proc
def test_a_lease_whose_number_is_taken_again_is_stale(run):
    lake = run.lake
    for process, there in ((LATER, False), (US, True), (ELSEWHERE, True)):
        lease_of(lake).write_text(json.dumps(process.record()))
        assert being_cleaned(lake) is there
    os.utime(lease_of(lake), (0, 0))
    assert not being_cleaned(lake), "of a container that was silent for long"
    with lease(lake):
        assert being_cleaned(lake)
    assert not lease_of(lake).exists()


@needs_proc
def test_folders_of_ray_go_with_their_process(tmp_path):
    for i, process in enumerate((US, LATER, ELSEWHERE)):
        (tmp_path / f"tamis-ray-{process.pid}-{i}").mkdir()
        (tmp_path / f"tamis-ray-{process.pid}-{i}" / f"{process.name}~owner").touch()
    (tmp_path / f"tamis-ray-{os.getpid()}-old").mkdir()
    (tmp_path / "tamis-ray-999999999-old").mkdir()
    _remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"tamis-ray-{os.getpid()}-{of}" for of in ("0", "2", "old")}
