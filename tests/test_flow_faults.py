"""What goes wrong in a flow: interruptions, errors, odd inputs (kills: `test_kills.py`, disks: `test_full_disk.py`)."""

import os
import signal
from dataclasses import replace
from threading import Timer

import duckdb
import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import documents, make_case, write_jsonl
from tamis.features.text_stats import TextStats
from tamis.pipelines import ingesting
from tamis.pipelines.engine import Threads
from tamis.pipelines.engine_entry import Engine
from tamis.pipelines.loading import load_config
from tamis.pipelines.recorded import begin, recorded
from tamis.pipelines.runs import load_runs
from tamis.storage.errors import InputError, LakeError, TamisError
from tamis.storage.ingest import read_pack
from tamis.storage.lake import Lake
from tamis.storage.verify import verify


def test_ctrl_c_in_a_query_interrupts_the_run(tmp_path, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process that tests side by side ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    work = begin(load_config(make_case(tmp_path, n=3)), "small", {}, Engine(workers=1), None)
    query = "select count(*) from range(200000) a, range(20000) b where (a.range * b.range) % 7 = 3"
    Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        recorded(work, lambda: duckdb.sql(query).fetchall())
    (record,) = load_runs(work.lake)
    assert (record.status, record.exit_code) == ("interrupted", 130)


def test_what_a_costly_feature_computed_is_kept_row_group_by_row_group(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "raw" / "large.jsonl", [{"id": f"l{i}", "text": "river " * 9_000} for i in range(400)])
    config = make_case(tmp_path, n=3, files=1, steps=[{"name": "some", "filter": {"any": "stats.n_words > 0"}}])
    computed = []

    def failing(self, batch, model=None):
        computed.append(batch.num_rows)
        if len(computed) == 3:
            raise TamisError("the power went")
        return counted(self, batch, model)

    counted = TextStats.compute
    monkeypatch.setattr(TextStats, "cost", 3)
    monkeypatch.setattr(TextStats, "compute", failing)
    with pytest.raises(TamisError, match="power"):
        tamis.run(config, "small", workers=1)
    kept = sum(computed[:2])
    assert tamis.run(config, "small").steps[-1]["kept"] == 403
    assert sum(computed[3:]) == 403 - kept


def test_on_bad_fail_stops_at_the_first_bad_record_and_says_where(tmp_path):
    config = make_case(tmp_path)
    with (tmp_path / "raw" / "part-1.jsonl").open("a") as file:
        file.write('{"id": "x"}\n')
    with pytest.raises(TamisError, match=r"part-1\.jsonl line 101: .*text"):
        tamis.run(config, "small", overrides=["corpora.web.on_bad=fail"])
    assert load_runs(Lake.open(tmp_path / "lake"))[-1].status == "failed"
    run = tamis.run(config, "small")
    assert run.exit_code == 3
    assert run.record.counts["quarantined"] == 1


def test_a_budget_beyond_the_pool_takes_all_and_says_so(tmp_path):
    config = make_case(tmp_path)
    run = tamis.run(config, "small", overrides=["flows.small.steps.like_code.cut.budget.tokens=2B"])
    assert run.exit_code == 3
    assert any("is not met" in w for w in run.record.warnings)
    assert run.steps[-1]["kept"] > 0


def test_an_empty_corpus_goes_through(tmp_path):
    config = make_case(tmp_path, n=3)
    for path in (tmp_path / "raw").iterdir():
        path.write_text("")
    run = tamis.run(config, "small")
    assert (run.exit_code, run.steps[-1]["kept"]) == (0, 0)
    write_jsonl(tmp_path / "raw" / "part-0.jsonl", documents(40))
    assert tamis.run(config, "small").steps[-1]["kept"] > 0


def test_a_budget_that_a_large_document_cuts_short_is_said(tmp_path):
    write_jsonl(tmp_path / "raw" / "whale.jsonl", [{"id": f"whale-{i}", "text": "river " * 9_000} for i in range(400)])
    steps = [{"name": "some", "select": "random", "cut": {"budget": {"tokens": 5_000}}}]
    run = tamis.run(make_case(tmp_path, n=30, files=1, steps=steps), "small")
    assert run.steps[-1]["tokens_kept"] < 4_750
    assert run.exit_code == 3
    assert "larger than what is left" in run.record.warnings[0]


def test_a_share_for_a_value_that_nobody_has_is_said(tmp_path):
    cut = {"budget": {"documents": 100}, "per": "source", "shares": {"code": 0.5, "nowhere": 0.5}}
    steps = [{"name": "some", "select": "random", "cut": cut}]
    run = tamis.run(make_case(tmp_path, steps=steps), "small")
    assert run.exit_code == 3
    assert any("'nowhere'" in w and "no document has that value" in w for w in run.record.warnings)


def test_a_damaged_shard_is_noticed_before_its_text_is_written(tmp_path):
    steps = [{"name": "all", "filter": {"any": "true"}}]
    config = make_case(tmp_path, steps=steps)
    lake = tamis.ingest(config, "web").lake
    (shard,) = (lake.corpus("web") / "shards").glob("*")
    column = pq.read_metadata(shard).row_group(0).column(2)
    assert column.path_in_schema == "text"
    data = bytearray(shard.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start + column.total_compressed_size // 2] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(LakeError, match=r"is damaged .*`tamis repair`"):
        tamis.run(config, "small")
    (found,) = verify(lake)
    assert found.file == str(shard) and found.repair == "`tamis repair` reads the raw files again"
    shard.unlink()
    assert tamis.run(config, "small").steps[-1]["kept"] == 300


def test_a_damaged_record_of_a_run_hides_nothing_else(tmp_path):
    config = make_case(tmp_path)
    broken, whole = tamis.run(config, "small"), tamis.run(config, "small")
    path = broken.lake.run(broken.id) / "run.json"
    path.write_text("{")
    assert [r.run for r in load_runs(broken.lake)] == [whole.id]
    assert tamis.run(config, "small").exit_code == 0
    assert [d.file for d in verify(broken.lake)] == [str(path)]


def test_raw_files_that_the_machines_of_a_cluster_do_not_share_are_an_error(tmp_path, monkeypatch):
    config = make_case(tmp_path)

    class Elsewhere(Threads):
        """Reads on a machine that has none of the files."""

    def of_elsewhere(lake, corpus, files, *rest):
        return read_pack(lake, corpus, [replace(f, path=tmp_path / "elsewhere" / f.path.name) for f in files], *rest)

    with monkeypatch.context() as patched:
        patched.setattr(ingesting, "read_pack", of_elsewhere)
        patched.setattr(ingesting, "Threads", Elsewhere)
        with pytest.raises(InputError, match="does not see "):
            tamis.run(config, "small")
    assert tamis.run(config, "small").exit_code == 0, "they are read again"
