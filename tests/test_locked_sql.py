"""What a query of the catalogue can reach: the lake, and nothing else."""

import json

import duckdb
import pytest
import tamis
from small_flow import make_case
from tamis.pipelines.querying import answer
from tamis.storage.catalog import connect
from tamis.storage.errors import ConfigError
from tamis.storage.locked_duckdb import lock

STEPS = [{"name": "clean", "filter": {"too_short": "stats.n_words >= 5"}}]
SECRET = "nobody's business"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("it's")
    (folder / "secret.txt").write_text(SECRET)
    (folder / "secret.csv").write_text(f"a\n{SECRET}\n")
    return tamis.run(make_case(folder, n=40, steps=STEPS), "small").lake


READING = [
    "select content from read_text('{0}/secret.txt')",
    "select * from read_csv('{0}/secret.csv')",
    "select * from read_blob('{0}/lake/../secret.txt')",
    "select * from '{0}/secret.csv'",
    "select * from glob('{0}/*')",
    "select * from read_csv('http://127.0.0.1:9/a.csv')",
    "select * from read_parquet('s3://bucket/a.parquet')",
    "select * from query('select * from read_text(''{0}/secret.txt'')')",
    "select * from sqlite_scan('{0}/x.db', 'a')",
    "explain analyze select * from read_text('{0}/secret.txt')",
]
OTHER = [
    "copy (select 1) to '{0}/written.csv'",
    "copy (select 1) to '{0}/lake/written.csv'",
    "attach '{0}/written.db'",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "pragma enable_external_access = true",
    "create table runs as select 1",
    "drop view documents",
    "export database '{0}/written'",
    "explain analyze copy (select 1) to '{0}/written.csv'",
    "select 1; copy (select 1) to '{0}/written.csv'",
]


@pytest.mark.parametrize("query", READING + OTHER)
def test_a_query_reads_the_lake_and_nothing_else(lake, query, capsys):
    folder = lake.root.parent
    before = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
    with pytest.raises(ConfigError):
        answer(lake, query.format(str(folder).replace("'", "''")))
    assert SECRET not in capsys.readouterr().out
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == before


@pytest.mark.parametrize("query", READING[:-1])
def test_nor_does_the_connection_of_the_api(lake, query):
    with pytest.raises(duckdb.Error):
        tamis.sql(lake, query.format(str(lake.root.parent).replace("'", "''"))).fetchall()


@pytest.mark.parametrize("query", [*OTHER[4:8]])
def test_the_limits_cannot_be_lifted(lake, query):
    with connect(lake) as connection, pytest.raises(duckdb.Error):
        connection.execute(query)


def test_the_views_of_a_hostile_catalogue_reach_no_file_outside(lake, tmp_path):
    folder = str(lake.root.parent).replace("'", "''")
    honest = lake.catalog.read_bytes()
    try:
        with duckdb.connect(str(lake.catalog)) as connection:
            connection.execute("drop view documents")
            connection.execute(f"create view documents as select * from read_text('{folder}/secret.txt')")
            connection.execute(
                f"create or replace macro newest_run(x) as (select content from read_text('{folder}/secret.txt'))"
            )
        for query in ("select * from documents", "select newest_run('a')"):
            with pytest.raises(duckdb.Error):
                tamis.sql(lake, query).fetchall()
    finally:
        lake.catalog.write_bytes(honest)


def test_what_does_not_fit_into_the_memory_still_spills(lake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with duckdb.connect(config={"memory_limit": "60MB", "threads": 1}) as connection:
        lock(connection, lake)
        query = "select max(n) from (select row_number() over (order by hash(range)) as n from range(4000000))"
        assert connection.execute(query).fetchall() == [(4_000_000,)]


def test_ids_with_sql_in_them_are_data(tmp_path):
    evil = ["'; drop table runs; --", "' or 1=1 --", 'a" or "1"="1', "$1", "?", "{0}", "%s", "%", "_"]
    config = make_case(tmp_path, n=20, steps=STEPS, corpora={"web": {"files": ["raw/*"], "on_bad": "fail"}})
    lines = [json.dumps({"id": e, "text": "one two three four five six seven", "source": e}) for e in evil]
    (tmp_path / "raw" / "evil.jsonl").write_text("\n".join(lines) + "\n")
    run = tamis.run(config, "small")
    found = tamis.sql(run.lake, "select doc_id from documents where doc_id = source").fetchall()
    assert sorted(row[0] for row in found) == sorted(evil)
    for doc_id in evil:
        assert [d["doc_id"] for d in tamis.explain(run.lake, doc_id)["documents"]] == [doc_id]
