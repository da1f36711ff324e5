"""Two processes with one lake: one has what only one can have, and the other waits for it, or is told who has it.

Whole flows beside one another are in `test_kills.py`.
"""

import os

import pytest
import tamis
from small_flow import make_case
from tamis.pipelines import recorded
from tamis.pipelines.cleaning import clean
from tamis.pipelines.keep_entry import Keep
from tamis.pipelines.runs import load_runs
from tamis.storage.claims import claim, claim_again, unclaim
from tamis.storage.sweeping import lease_of

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


def test_a_run_that_is_stopped_as_it_waits_goes_on_no_more(tmp_path, monkeypatch):
    config = make_case(tmp_path, n=60, files=1)
    lake = tamis.run(config, "small").lake

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(recorded, "wait_until_clean", stopped)
        tamis.run(config, "small")
    assert [run.status for run in load_runs(lake)] == ["done", "interrupted"]
    clean(lake, NEWEST)
