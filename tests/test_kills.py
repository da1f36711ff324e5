"""Killed at any moment, the same command goes on and comes to the same results, and nothing stays that `clean` keeps.

Ten kills at random moments here; slow are a hundred, one after every new file, five of `tamis run` with its Prefect
server, and some on Ray: `pytest -m slow tests/test_kills.py -n 2 -rP`, which prints what was hit (half an hour).
"""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from itertools import count
from time import monotonic as clock
from time import sleep

import psutil
import pytest
from every_stage import MIXTURE, results, run_all
from killing import AFTER, BEFORE, UNBROKEN, Warm
from tamis.storage.lake import Lake
from tamis.storage.verify import verify

ORPHANS_END_S = 60
SUMMARY = re.compile(r"cleaned away: states/\w+/[0-9a-f]{32}\.safetensors")
OF_OTHERS = ("left behind", "runs that stay")
"""What a lake has more where something else was made in it, too."""


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    process = Warm(tmp_path_factory.mktemp("kills"))
    yield process
    process.close()


def test_killed_at_random_moments_every_flow_ends_as_if_nothing_had_happened(warm):
    """A lake is killed until a run gets through, then there is another one; the first one also as it is made."""
    rng, killed, whole = random.Random(20261122), [], warm.seconds
    for n in range(1, 5):
        for side in (BEFORE, AFTER):
            assert warm.run("random-0", publish=n, side=side)["killed"]
    for number in count():
        lake, spent = f"random-{number}", 0.0
        while True:
            found = warm.run(lake, workers=1 + number % 3, seconds=rng.uniform(0, whole / 3))
            spent += found["seconds"]
            if not found["killed"]:
                break
            killed.append(found["stage"])
        assert found["wrong"] == []
        if len(killed) >= 10:
            break
        whole = spent
    assert len(set(killed)) > 3, "they are spread over the run"


def test_three_at_once_make_one_lake(warm):
    """Two run all flows in a lake that is not there yet, and one cleans it all the time."""
    assert warm.together("three", "all", "all", "clean") == ["", "", ""]
    assert warm.run("three")["wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize("others", ["again", "whole whole", "mixed clean", "ingest", "export clean"])
def test_two_at_once(warm, others):
    """A flow is run beside other things; `export` has a run that is there."""
    others = others.split()
    for number in range(5):
        lake = f"{'-'.join(others)}-{number}"
        if "export" in others:
            assert warm.together(lake, "whole") == [""]
        assert set(warm.together(lake, "whole", *others)) == {""}
        wrong = warm.run(lake)["wrong"]
        extra = OF_OTHERS if {"ingest", "export"} & set(others) else "-"
        assert [one for one in wrong if not one.startswith(extra)] == []


@pytest.mark.slow
def test_a_clean_that_is_killed_leaves_nothing_that_a_run_trusts(warm):
    """What is half removed is made again, and what `verify` reads is whole.

    But for summaries of shards: where what was fitted to them is there still, nobody asks for them.
    """
    assert warm.together("both", "all") == warm.together("both", "all seed=5") == [""]
    for number in count(1, 7):
        lake = warm.folder / f"cleaned-{number}"
        shutil.copytree(warm.folder / "both", lake)
        (died,) = warm.together(lake.name, f"clean {number}")
        assert list(verify(Lake.open(lake))) == []
        wrong = [one for one in warm.run(lake.name)["wrong"] if not one.startswith(OF_OTHERS)]
        assert [one for one in wrong if not SUMMARY.fullmatch(one)] == []
        shutil.rmtree(lake)
        if died == "":
            break
    told("kills of `clean`", {"kills": number // 7})
    assert number > 50


@pytest.mark.slow
@pytest.mark.parametrize("quarter", range(4))
def test_a_hundred_kills(warm, quarter):
    """Twenty-five a quarter, which processors share: `-n 2`."""
    rng, hit, begin = random.Random(20261123 + quarter), Counter(), clock()
    whole = warm.run(f"whole-{quarter}")["seconds"]
    for number in count():
        lake, workers = f"one-{quarter}-{number}", 1 + number % 3
        limits = [whole] + [whole / 2] * (rng.random() < 0.25)  # one of four is killed again as it goes on
        for limit in limits:
            found = warm.run(lake, workers=workers, seconds=rng.uniform(0, limit))
            if not found["killed"]:
                break
            hit[found["stage"]] += 1
        found = warm.run(lake, workers=workers) if found["killed"] else found
        assert found["wrong"] == [], (lake, hit)
        if hit.total() >= 25:
            break
    told(
        f"a hundred kills, {quarter}",
        {"kills": hit.total(), "lakes": number + 1, "seconds": clock() - begin, "after": hit},
    )
    assert len(hit) > 8


@pytest.mark.slow
def test_killed_after_every_new_file(warm):
    """Each process adds one file to the lake and is killed: all that there ever is half of, there is once."""
    begin = clock()
    for files in count():
        found = warm.run("file-by-file", workers=1 + files % 3, publish=1, new=True)
        if not found["killed"]:
            break
        assert files < 1_000, "each has one file more"
        if files % 20 == 0:
            assert list(verify(Lake.open(warm.folder / "file-by-file"))) == []
    told("kills after one new file", {"kills": files, "seconds": clock() - begin})
    assert found["wrong"] == [] and files > 200


@pytest.mark.slow
def test_killed_on_ray(warm):
    rng, killed = random.Random(20261124), []
    for _ in range(3):
        found = warm.run("ray", seconds=rng.uniform(5, 25), engine=["flows.whole.engine.use=ray"])
        killed.append(found["killed"])
        if not killed[-1]:
            break
    found = warm.run("ray", engine=["flows.whole.engine.use=ray"]) if killed[-1] else found
    assert any(killed) and found["wrong"] == []


@pytest.mark.slow
def test_killed_under_prefect_no_server_is_left(warm, tmp_path, monkeypatch):
    home = tmp_path / "prefect"
    monkeypatch.setenv("PREFECT_HOME", str(home))
    config, rng, hit = warm.folder / "flows.yaml", random.Random(20261125), []
    command = [sys.executable, "-m", "tamis.pipelines.cli", "run", "whole", "-q", "-c", str(config), "--set"]
    for reached in (0, *sorted(rng.randrange(1, 50) for _ in range(4))):  # the first as soon as there is a server
        before = len(logs_of(warm.folder / "prefect"))
        process = subprocess.Popen([*command, "lake=prefect"], stdout=subprocess.DEVNULL)
        there = (
            partial(stages_ended, warm.folder / "prefect", before, reached) if reached else partial(of_prefect, home)
        )
        while process.poll() is None and not there():
            sleep(0.01)
        assert process.poll() is None, "it has to be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        hit.append(reached)
        _, left = psutil.wait_procs(of_prefect(home), ORPHANS_END_S)
        assert left == []
    assert subprocess.run([*command, "lake=prefect"], stdout=subprocess.DEVNULL).returncode == 3
    assert of_prefect(home) == []
    broken, whole = (run_all(config, [f"lake={lake}"]) for lake in ("prefect", UNBROKEN))
    assert results(broken) == results(whole) and list(verify(broken[MIXTURE].lake)) == []
    told("kills of `tamis run`", {"kills": len(hit), "after stages": hit})


def told(title, what):
    """Say what a slow test has measured, for `pytest -s`."""
    sys.stdout.write(f"{title}: {json.dumps(what, indent=1)}\n")


def logs_of(lake):
    return sorted(lake.glob("runs/*/log.jsonl"))


def stages_ended(lake, before, number):
    """Say whether the run after so many others has ended so many stages."""
    logs = logs_of(lake)[before:]
    return bool(logs) and logs[0].read_text().count('"event": "stage"') >= number


def of_prefect(home):
    """Return the servers that know of this folder of Prefect's."""
    found = []
    for process in psutil.process_iter():
        try:
            if "uvicorn" in process.cmdline() and process.environ().get("PREFECT_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return found
