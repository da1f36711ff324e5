"""The catalogue: typed while empty, read-only, right after a move, and open to readers while a run is in progress."""

import shutil
import subprocess
import sys

import duckdb
import pytest
import tamis
from small_flow import STEPS, chosen, make_case
from tamis.pipelines.parents import finished_runs
from tamis.pipelines.runs import load_runs
from tamis.storage import published
from tamis.storage.catalog import build_catalog
from tamis.storage.errors import TamisError
from tamis.storage.lake import Lake
from tamis.storage.places import read_all

VIEWS = ("corpora", "files", "shards", "features", "runs", "steps", "documents", "text", "scores", "selections",
         "selection_steps", "mixtures", "mixture_parts", "mixture_rows", "quarantine", "excluded",
         "clusters", "rounds")  # fmt: skip

QUESTION = """select d.source, count(*), sum(d.n_tokens) from selections s join documents d using (corpus, doc_id)
              where s.run = '{run}' and s.kept group by 1 order by 1"""


def columns(lake, view):
    relation = tamis.sql(lake, f"from {view}")
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


def test_every_view_has_the_same_columns_while_there_is_nothing(tmp_path):
    empty = Lake.open(tmp_path / "empty", create=True)
    build_catalog(empty)
    full = tamis.run(make_case(tmp_path), "small").lake
    for view in VIEWS:
        assert columns(empty, view) == columns(full, view), view
        assert tamis.sql(empty, f"from {view}").fetchall() == []


def test_nobody_can_write_through_it(tmp_path):
    lake = tamis.run(make_case(tmp_path), "small").lake
    for statement in ("drop view selections", "create table x (i int)", "delete from runs"):
        with pytest.raises(duckdb.Error):
            tamis.sql(lake, statement)


def test_a_row_is_a_document_and_run_with_its_deciding_step(tmp_path):
    run = tamis.run(make_case(tmp_path), "small")
    n = run.record.counts["documents"]
    rows = tamis.sql(
        run.lake, "select count(*), count(distinct doc_id) from selections where run = $1", [run.id]
    ).fetchall()
    assert rows == [(n, n)]
    by_step = tamis.sql(
        run.lake, "select step, count(*) from selections where run = $1 group by 1", [run.id]
    ).fetchall()
    entered = {s["name"]: s["entered"] for s in run.steps}
    dropped = {s["name"]: s["entered"] - s["kept"] for s in run.steps}
    assert dict(by_step) == {**dropped, "like_code": entered["like_code"]}


def test_two_corpora_of_the_same_files_stay_apart(tmp_path):
    config = make_case(tmp_path, corpora={"web": {"files": ["raw/*"]}, "again": {"files": ["raw/*"]}})
    first = tamis.run(config, "small")
    second = tamis.run(config, "small", overrides=["flows.small.corpus=again"])
    assert chosen(first) == chosen(second)
    counts = "select corpus, count(*), count(n_tokens) from documents group by 1 order by 1"
    assert tamis.sql(first.lake, counts).fetchall() == [("again", 300, 300), ("web", 300, 300)]
    by_run = "select run, any_value(corpus), count(distinct corpus), count(*) from selections group by 1 order by 1"
    assert [row[1:] for row in tamis.sql(first.lake, by_run).fetchall()] == [("web", 1, 300), ("again", 1, 300)]


def test_ranks_follow_the_order_of_the_cut(tmp_path):
    run = tamis.run(make_case(tmp_path), "small", overrides=["flows.small.steps.like_code.cut.by=top"])
    query = (
        "select rank, score, doc_id, kept from selections where run = $1 and step = 'like_code' and rank is not null"
    )
    rows = tamis.sql(run.lake, query, [run.id]).fetchall()
    by_rank = sorted(rows)
    assert [r[0] for r in by_rank] == list(range(1, len(rows) + 1))
    assert by_rank == sorted(rows, key=lambda r: (-r[1], r[2]))
    kept = [r[3] for r in by_rank]
    assert kept == sorted(kept, reverse=True)


def test_a_moved_lake_still_answers(tmp_path):
    run = tamis.run(make_case(tmp_path), "small")
    before = chosen(run)
    shutil.move(run.lake.root, tmp_path / "elsewhere")
    query = "select doc_id from selections join text using (corpus, doc_id) where run = $1 and kept order by 1"
    assert [i for (i,) in tamis.sql(tmp_path / "elsewhere", query, [run.id]).fetchall()] == before


def test_readers_and_a_run_do_not_disturb_each_other(tmp_path):
    config = make_case(tmp_path, n=2000, corpora={"web": {"files": ["raw/*"], "shard_bytes": 8000}})
    first = tamis.run(config, "small", overrides=["seed=1"])
    question = QUESTION.format(run=first.id)
    expected = tamis.sql(first.lake, question).fetchall()
    assert expected
    held = tamis.sql(first.lake, question)  # an open reader, all the while
    command = [sys.executable, "-m", "tamis.pipelines.cli", "run", "small", "-c", str(config), "--no-prefect", "-q"]
    asked = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            assert tamis.sql(first.lake, question).fetchall() == expected
            asked += 1
        assert process.returncode == 0
    assert asked > 3
    assert held.fetchall() == expected
    assert len(tamis.sql(first.lake, "from runs").fetchall()) == 2


def test_tokens_are_those_of_the_runs_own_tokenizer(tmp_path):
    config = make_case(tmp_path, corpora={n: {"files": ["raw/*"]} for n in ("web", "other")})
    run = tamis.run(config, "small")
    tamis.run(config, "small", overrides=["tokenizer=bytes", "flows.small.corpus=other"])
    kept = run.steps[-1]["tokens_kept"]
    own = """select sum(s.n_tokens), sum(d.n_tokens) from selections s join documents d using (corpus, doc_id)
             where s.run = $1 and s.kept"""
    assert tamis.sql(run.lake, own, [run.id]).fetchall() == [(kept, kept)]
    tamis.run(config, "small", overrides=["tokenizer=bytes"])
    ((mine, newest),) = tamis.sql(run.lake, own, [run.id]).fetchall()
    assert mine == kept < newest, "`documents` counts with the tokenizer of the newest run over the corpus"


def test_a_run_that_failed_has_chosen_nothing(tmp_path):
    steps = [*STEPS[:2], {"name": "bad", "filter": {"error": "(stats.n_words / 0)::int > 1"}}]
    with pytest.raises(TamisError):
        tamis.run(make_case(tmp_path, steps=steps), "small")
    build_catalog(Lake.open(tmp_path / "lake"))
    assert tamis.sql(tmp_path / "lake", "select count(*) from selections where kept").fetchall() == [(0,)]


def test_a_lake_moved_to_a_prefix_of_its_name_still_answers(tmp_path):
    run = tamis.run(make_case(tmp_path, lake="lake2"), "small")
    before = chosen(run)
    shutil.move(run.lake.root, tmp_path / "lake")
    query = "select doc_id from selections join text using (corpus, doc_id) where run = $1 and kept order by 1"
    assert [i for (i,) in tamis.sql(tmp_path / "lake", query, [run.id]).fetchall()] == before


def test_the_documents_of_a_target_can_be_read_under_its_name(tmp_path):
    run = tamis.run(make_case(tmp_path), "small")
    found = tamis.sql(run.lake, "select target, doc_id, text from targets order by doc_id").fetchall()
    assert len(found) == 20 and found[0][:2] == ("code", "t0") and "def" in " ".join(row[2] for row in found)
    assert tamis.sql(run.lake, "select count(*) from text where corpus like '%code%'").fetchall() == [(0,)]


def test_the_records_of_many_runs_are_read_together(tmp_path, monkeypatch):
    config = make_case(tmp_path)
    tamis.run(config, "small")
    run = tamis.run(config, "small", overrides=["flows.small.steps.like_code.cut.budget.tokens=10%"])
    folder = run.lake.run(run.id)
    for i in range(30):
        copy = folder.with_name(f"20200101T0000000000{i:02d}-0000")
        shutil.copytree(folder, copy)
        for name in ("run.json", "diff.json"):
            (copy / name).write_text((copy / name).read_text().replace(run.id, copy.name))
    (copy / "run.json").write_text("damaged")
    asked = []
    monkeypatch.setattr(published, "read_all", lambda paths: asked.append(len(paths)) or read_all(paths))
    build_catalog(run.lake)
    assert max(asked) == 32 and len(asked) < 30, "of a store each would be a request of its own"
    assert tamis.sql(run.lake, "select count(*) from runs").fetchall() == [(31,)]
    assert tamis.sql(run.lake, "select count(distinct run) from diffs").fetchall() == [(30,)]
    asked.clear()
    assert len(load_runs(run.lake)) == 31 and asked == [32]
    asked.clear()
    assert [next(finished_runs(run.lake, "small")).run, *finished_runs(run.lake, "none")] == [run.id]
    assert asked == [4, 4, 16, 12], "the newest first, then more at a time"
