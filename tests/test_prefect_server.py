"""What we start beside us ends with us, even by `kill -9`, and is left alone once nobody waits for its end."""

import signal
import subprocess
import sys

import pytest
from tamis.pipelines.prefect_server import ended_with_us

KILLED = """
import os, sys, time
from tamis.pipelines.prefect_server import ended_with_us
with ended_with_us(["sh", "-c", "echo up; exec sleep 100"], start_new_session=True):
    if sys.argv[1] == "running":
        time.sleep(2)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("when", ["starting", "running"])
def test_it_ends_with_who_is_killed(when):
    """All that was started holds the pipe that is read here to its end, which else takes 100 seconds."""
    done = subprocess.run([sys.executable, "-c", KILLED, when], stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert when == "starting" or b"up" in done.stdout


def test_it_may_outlive_who_no_longer_waits(tmp_path):
    waits = f'while [ ! -e "{tmp_path}/go" ]; do sleep 0.05; done; exit 7'
    with ended_with_us(["sh", "-c", waits]) as process:
        assert process.poll() is None
    (tmp_path / "go").touch()
    assert process.wait(60) == 7
