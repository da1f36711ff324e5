"""A clock that jumps between runs or while one goes on: nothing is lost, nothing stale is used, nobody waits."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest
import tamis
from small_flow import chosen, documents, make_case, write_jsonl
from tamis.pipelines import runs
from tamis.pipelines.cleaning import clean
from tamis.pipelines.keep_entry import Keep
from tamis.pipelines.runs import load_runs, new_run_id
from tamis.storage.errors import LakeError
from tamis.storage.sweeping import being_cleaned, lease, lease_of, wait_until_clean
from tamis.storage.verify import verify

NEWEST = Keep(runs=1, days=0, hours=0)
JUMPS = {"back an hour": timedelta(hours=-1), "forward a year": timedelta(days=365), "to 1970": timedelta(days=-20_000)}


@pytest.fixture(params=JUMPS)
def jump(request):
    return JUMPS[request.param]


def shift(monkeypatch, by):
    """Let this process see another time; files get that of the disk."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + by

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + by.total_seconds())
    monkeypatch.setattr(runs, "datetime", Shifted)


def test_ids_of_runs_sort_in_their_order_whatever_the_clock_says():
    now = new_run_id()
    assert new_run_id(now) > now
    ahead = f"{datetime.now(UTC) + timedelta(days=365):%Y%m%dT%H%M%S%f}-ffff"
    first = new_run_id(ahead)
    assert new_run_id(first) > first > ahead
    assert new_run_id("29990101-of-somebody") > now < new_run_id("99991231T235959999999-aaaa")


def test_the_newest_run_is_the_last_one_and_what_it_made_is_kept(tmp_path, monkeypatch, jump):
    config = make_case(tmp_path, n=120, files=2)
    old = tamis.run(config, "small", overrides=["flows.small.outputs=[]"])
    with monkeypatch.context() as patched:
        shift(patched, jump)
        write_jsonl(tmp_path / "raw" / "part-1.jsonl", documents(60, seed=5))
        new = tamis.run(config, "small", overrides=["flows.small.outputs=[]"])
    newest = tamis.run(config, "small", overrides=["seed=3"])
    lake, ids = newest.lake, chosen(newest)
    assert [run.run for run in load_runs(lake)] == [old.id, new.id, newest.id]
    dropped = set(clean(lake, NEWEST).dropped)
    assert dropped >= {old.id} and newest.id not in dropped, "what seems to have begun a year from now may stay"
    assert chosen(newest) == ids and list(verify(lake)) == []
    assert tamis.run(config, "small", overrides=["seed=3"]).record.computed == 0


def test_a_file_that_changed_is_read_whatever_its_time(tmp_path, jump):
    config = make_case(tmp_path, n=120, files=2)
    path = tmp_path / "raw" / "part-1.jsonl"
    before = tamis.run(config, "small")
    path.write_text(path.read_text().replace("river", "RIVER"))  # as many bytes
    jumped = max(0, path.stat().st_mtime + jump.total_seconds())
    os.utime(path, (jumped, jumped))
    after, whole = tamis.run(config, "small"), tamis.run(config, "small", overrides=["lake=other"])
    assert after.record.snapshot != before.record.snapshot
    query = "select text from text order by doc_id"
    assert tamis.sql(after.lake, query).fetchall() == tamis.sql(whole.lake, query).fetchall()
    assert chosen(after) == chosen(whole)


def test_a_lease_of_another_machine_is_held_though_our_clock_jumps(tmp_path, monkeypatch, jump):
    lake = tamis.run(make_case(tmp_path, n=60, files=1), "small").lake
    lease_of(lake).write_text('{"host": "elsewhere", "pid": 1}')
    shift(monkeypatch, jump)
    assert being_cleaned(lake)
    with pytest.raises(LakeError, match="another"), lease(lake):
        pass


@pytest.mark.parametrize("content", ["{", '{"host": "elsewhere", "pid": 1}'], ids=["torn", "whole"])
def test_a_lease_from_a_future_that_was_put_right_keeps_nobody_waiting(tmp_path, content):
    lake = tamis.run(make_case(tmp_path, n=60, files=1), "small").lake
    lease_of(lake).write_text(content)
    ahead = time.time() + 365 * 86_400
    os.utime(lease_of(lake), (ahead, ahead))
    assert wait_until_clean(lake, pytest.fail)
    with lease(lake):
        assert json.loads(lease_of(lake).read_text())["pid"] == os.getpid()


def test_what_another_machine_writes_stays_though_our_clock_jumps(tmp_path, monkeypatch, jump):
    lake = tamis.run(make_case(tmp_path, n=60, files=1), "small").lake
    theirs = lake.scratch / "elsewhere~1~0~shard.parquet"
    theirs.write_text("x")
    shift(monkeypatch, jump)
    clean(lake, NEWEST)
    assert theirs.exists()
