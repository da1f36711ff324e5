"""`tamis serve` with a real Prefect server: scheduled runs see what is new, and a signal loses and doubles nothing.

Slow: a minute or two, most of it the start of servers and processes. `make test-slow` runs it, or `pytest -m slow
tests/test_serve.py`; what needs no server is in `test_schedules.py`.
"""

import os
import re
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest
import tamis
from small_flow import STEPS, chosen, documents, make_case, write_jsonl
from tamis.pipelines.runs import load_runs
from tamis.storage.lake import Lake
from tamis.storage.verify import verify

PATIENCE_S = 180


@pytest.fixture
def start():
    """Start what is ended with the test."""
    begun = []

    def serving(config):
        begun.append(Serving(config))
        return begun[-1]

    yield serving
    for one in begun:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(60)


@pytest.fixture
def case(tmp_path, monkeypatch):
    """A flow that is due every five seconds, and a history of Prefect's own."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    flow = {"corpus": "web", "steps": STEPS, "outputs": [{"format": "parquet"}], "schedule": {"every": "5s"}}
    return make_case(tmp_path, n=200, flows={"small": flow}, corpora={"web": {"files": ["raw/*"], "shard_bytes": 4000}})


class Serving:
    """A `tamis serve` of its own process, and what it started."""

    def __init__(self, config):
        self.log = config.parent / f"serve-{time.time_ns()}.log"
        command = [sys.executable, "-m", "tamis.pipelines.cli", "serve", "-c", str(config)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        line = until(lambda: re.search(r"serving 1 flow at (\S+)", self.said), self)
        self.api = f"{line[1]}/api"

    @property
    def said(self):
        return self.log.read_text()

    def end(self, number):
        """Send a signal; return the exit code when all that it started are gone too."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        assert len(family) >= 2, "a server and its watcher at least"
        self.process.send_signal(number)
        code = self.process.wait(60)
        _, left = psutil.wait_procs(family, 40)
        assert left == [], self.said
        return code

    def flow_run(self, name, state):
        found = self.ask("flow_runs", flow_runs={"name": {"any_": [name]}, "state": {"type": {"any_": [state]}}})
        return found[0] if found else None

    @property
    def messages(self):
        return [
            r["state"]["message"] for r in self.ask("flow_runs", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})
        ]

    def ask(self, what, **filters):
        return httpx.post(f"{self.api}/{what}/filter", json=filters, timeout=30).raise_for_status().json()


def until(found, serving=None):
    """Wait for something and return it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if it := found():
            return it
        assert serving is None or serving.process.poll() is None, serving.said
        time.sleep(0.1)
    pytest.fail("nothing came" if serving is None else serving.said)


def runs(lake, status="done"):
    return [r for r in (load_runs(Lake(lake)) if (lake / "lake.json").exists() else []) if r.status == status]


def counted(record, stage):
    found = [s for s in record.stages if s.name == stage]
    return sum(s.computed for s in found), sum(s.reused for s in found)


@pytest.mark.slow
def test_scheduled_runs_see_what_is_new_and_signals_lose_and_double_nothing(case, start):
    raw, lake = case.parent / "raw", case.parent / "lake"
    serving = start(case)
    seen = [until(lambda: runs(lake), serving)[0]]
    for i in (1, 2):
        write_jsonl(raw / f"new-{i}.jsonl", documents(10, seed=i))
        seen.append(until(lambda n=3 + i: next((r for r in runs(lake) if r.counts["files"] == n), None), serving))
    for i, record in enumerate(seen):
        assert record.prefect["scheduled"] and record.counts["documents"] == 200 + 10 * i
    shards = counted(seen[0], "feature tokens")[0]
    assert shards > 5
    for i, record in enumerate(seen[1:]):
        assert counted(record, "ingest web") == (1, 3 + i)
        for stage in ("feature stats", "summarise like_code"):
            assert counted(record, stage) == (1, shards + i), stage
    query = "select sum(computed), sum(reused) from stages join runs using (run) where scheduled and run = $1"
    for record in seen:
        counts = tamis.sql(lake, query, [record.run]).fetchall()
        assert counts == [(record.computed, sum(s.reused for s in record.stages))]
        of_run = until(lambda r=record: serving.flow_run(r.run, "COMPLETED"), serving)
        assert of_run["id"] == record.prefect["flow_run"]
    until(lambda: any("nothing new since run" in (m or "") for m in serving.messages), serving)
    keys = {a["key"] for a in serving.ask("artifacts") if a["flow_run_id"] == seen[1].prefect["flow_run"]}
    assert keys >= {f"tamis-small-{name}" for name in ("result", "stages", "new", "to-look-at", "report")}
    assert "tamis-ingest-web" in keys
    (deployment,) = serving.ask("deployments")
    assert deployment["parameters"] == {"flow": "small", "config": str(case), "set": [], "workers": None}
    assert deployment["parameter_openapi_schema"]["properties"]["set"]["description"]

    for i in range(3, 9):  # enough for a run of some seconds
        write_jsonl(raw / f"new-{i}.jsonl", documents(400, seed=i))
    until(lambda: [r for r in runs(lake, "running") if r.stages], serving)
    assert serving.end(signal.SIGTERM) == 0
    broken = load_runs(Lake(lake))[-1]
    assert (broken.status, broken.exit_code) == ("interrupted", 128 + signal.SIGTERM)

    serving = start(case)
    again = until(lambda: [r for r in runs(lake) if r.run > broken.run], serving)[0]
    assert again.prefect["made_up"] and again.counts["documents"] == 220 + 6 * 400
    assert f"run {broken.run} was interrupted, and is run now" in serving.said
    assert serving.flow_run(broken.run, "CANCELLED")["state_name"] == "Interrupted"
    fresh = tamis.run(case, "small", overrides=["lake=fresh"])
    resumed = tamis.run(case, "small")
    assert resumed.record.computed == 0
    assert chosen(resumed) == chosen(fresh)
    assert [f["sha256"] for f in again.outputs[0]["files"]] == [f["sha256"] for f in fresh.record.outputs[0]["files"]]
    assert list(verify(resumed.lake)) == []

    write_jsonl(raw / "last.jsonl", documents(400, seed=99))
    until(lambda: runs(lake, "running"), serving)
    assert serving.end(signal.SIGKILL) == -signal.SIGKILL
    assert load_runs(Lake(lake))[-1].status in ("interrupted", "done")
    assert os.listdir(lake / "tmp") == [] or tamis.run(case, "small").exit_code == 0
