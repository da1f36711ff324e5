"""A worker that dies, of whatever: the run ends and says so, and the same command comes to the same result.

Workers of a cluster that are killed are in `test_ray.py`.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tamis
from small_flow import chosen, make_case
from tamis.features.text_stats import TextStats
from tamis.pipelines.runs import load_runs
from tamis.storage.errors import MemoryLackError
from tamis.storage.lake import Lake
from tamis.storage.verify import verify

SLOW = pytest.mark.slow
SHARDS = {"web": {"files": ["raw/*"], "shard_bytes": 8_000}}
CRASHED = """
import ctypes, sys
import tamis
from tamis.features.text_stats import TextStats
calls, compute = [], TextStats.compute

def crash(self, batch, model=None):
    calls.append(1)
    return ctypes.string_at(0) if len(calls) == 3 else compute(self, batch, model)

TextStats.compute = crash
tamis.run(sys.argv[1], "small", workers=3)
"""


def same(run, config):
    whole = tamis.run(config, "small", overrides=["lake=whole"])
    assert [step["selection"] for step in run.steps] == [step["selection"] for step in whole.steps]
    assert chosen(run) == chosen(whole) and list(verify(run.lake)) == []
    assert list(run.lake.scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [(MemoryError, MemoryLackError), (RuntimeError, RuntimeError), pytest.param(SystemExit, SystemExit, marks=SLOW)],
)
def test_an_error_in_a_thread_ends_the_run(tmp_path, monkeypatch, error, told):
    config, calls, compute = make_case(tmp_path, corpora=SHARDS), [], TextStats.compute

    def dying(self, batch, model=None):
        calls.append(1)
        if len(calls) == 3:
            raise error("of a worker")
        return compute(self, batch, model)

    with monkeypatch.context() as patched, pytest.raises(told, match="of a worker"):
        patched.setattr(TextStats, "compute", dying)
        tamis.run(config, "small", workers=3)
    (record,) = load_runs(Lake.open(tmp_path / "lake"))
    assert record.status == "failed" and "of a worker" in record.error
    same(tamis.run(config, "small"), config)


def test_a_crash_of_the_whole_process_is_resumed(tmp_path):
    config = make_case(tmp_path, corpora=SHARDS)
    root = Path(tamis.__file__).resolve().parents[1]
    crashed = subprocess.run([sys.executable, "-c", CRASHED, str(config)], cwd=root, capture_output=True)
    assert crashed.returncode == -signal.SIGSEGV, crashed.stderr
    assert load_runs(Lake.open(tmp_path / "lake"))[0].status == "interrupted"
    same(tamis.run(config, "small"), config)
