"""`tamis sql` into files: CSV, JSON and Parquet, whole or not at all, never into the lake, also while a run writes."""

import csv
import json
import os
import stat
import subprocess
import sys

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import make_case
from tamis.pipelines.querying import answer
from tamis.storage.errors import ConfigError
from tamis.storage.result_files import write_parquet

EVERYTHING = "select doc_id, n_bytes, source, meta from documents order by doc_id"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return tamis.run(make_case(tmp_path_factory.mktemp("sql")), "small").lake


def test_every_form_holds_the_same_rows(lake, tmp_path):
    expected = tamis.sql(lake, EVERYTHING).fetchall()
    for name in ("a.parquet", "a.json", "a.csv"):
        answer(lake, EVERYTHING, None, tmp_path / name)
    answer(lake, EVERYTHING, "parquet", tmp_path / "named as I like")
    for name in ("a.parquet", "named as I like"):
        assert pl.read_parquet(tmp_path / name).rows() == expected
    assert [tuple(row.values()) for row in json.loads((tmp_path / "a.json").read_text())] == expected
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [tuple(row) for row in csv.reader(file)][1:] == [(i, str(n), s, m or "") for i, n, s, m in expected]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.json", "a.parquet", "named as I like"]


def test_parquet_keeps_types_and_nulls_and_comes_in_row_groups(lake, tmp_path):
    query = "select i, nullif(i, 1) as some, [i] as l, {'a': i} as s, 0.5 as d from range(300000) t(i)"
    answer(lake, query, None, tmp_path / "a.parquet")
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.metadata.num_rows == 300_000 and file.metadata.num_row_groups > 1
    assert file.read_row_group(0).slice(0, 2).to_pylist() == [
        {"i": i, "some": None if i == 1 else i, "l": [i], "s": {"a": i}, "d": pytest.approx(0.5)} for i in (0, 1)
    ]
    answer(lake, "from documents where false", None, tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").column_names == tamis.sql(lake, "from documents").columns


def test_an_answer_goes_by_a_batch_at_a_time(lake, tmp_path):
    """A reader of batches is written while it is read, so that it need not fit into memory."""
    schema = pa.schema([("i", pa.int64())])
    seen = []

    def batches():
        for number in range(5):
            seen.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
            yield pa.record_batch([pa.array(range(number * 50_000, (number + 1) * 50_000))], schema=schema)

    write_parquet(lake, tmp_path / "a.parquet", pa.RecordBatchReader.from_batches(schema, batches()))
    assert seen == sorted(set(seen)), "each batch is in the file before the next is made"
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 5


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.json"])
def test_a_query_that_fails_halfway_leaves_what_was_there(lake, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=r"the query failed: .*halfway"):
        answer(lake, "select if(i > 250000, error('halfway'), i) from range(300000) t(i)", None, tmp_path / name)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "mine")]
    answer(lake, "select 1 as one", None, tmp_path / name)
    assert (tmp_path / name).read_bytes()[:4] in (b"PAR1", b"one\n", b'[\n{"')


@pytest.mark.parametrize(("form", "name", "message"), [
    (None, "a.txt", "ends with no form"), (None, "csv", "ends with no form"), ("table", "a.csv", "for people to read"),
    ("parquet", None, "needs a file"), ("paquet", "a.parquet", "did you mean 'parquet'"), (None, "", "is a folder"),
    ("csv", "", "is a folder"), ("csv", "flows.yaml/a.csv", "there is no folder"),
    ("csv", "new/folder/a.csv", "there is no folder"),
])  # fmt: skip
def test_what_cannot_be_written_is_said(lake, tmp_path, form, name, message):
    (tmp_path / "flows.yaml").write_text("mine")
    folder = tmp_path / "x.csv"
    folder.mkdir()
    output = None if name is None else folder if name == "" else tmp_path / name
    with pytest.raises(ConfigError, match=message):
        answer(lake, "select 1 as one", form, output)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["flows.yaml", "x.csv"]


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_what_is_no_regular_file_stays_what_it_is(lake, tmp_path, form):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "round").symlink_to("round")
    for name in ("pipe", "link"):
        with pytest.raises(ConfigError, match=f'{name}" is no regular file; name another'):
            answer(lake, "select 1 as one", form, tmp_path / name)
    if sys.version_info < (3, 13):
        with pytest.raises(ConfigError, match="cannot be written"):
            answer(lake, "select 1 as one", form, tmp_path / "round")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe", "round"]


def test_of_a_link_the_file_behind_it_is_replaced(lake, tmp_path):
    (tmp_path / "there").write_text("old")
    for name, behind in (("link", "there"), ("new", "later")):
        (tmp_path / name).symlink_to(behind)
        answer(lake, "select 1 as one", "csv", tmp_path / name)
        assert (tmp_path / name).is_symlink() and (tmp_path / behind).read_text() == "one\n1\n"


def test_a_file_that_cannot_be_written_is_said_before_the_query_is_run(lake, tmp_path):
    with pytest.raises(ConfigError, match="there is no folder"):
        answer(lake, "select error('run')", "csv", tmp_path / "new" / "a.csv")


@pytest.mark.parametrize("form", ["parquet", "json"])
def test_columns_of_the_same_name_would_lose_one(lake, tmp_path, form):
    with pytest.raises(ConfigError, match="two columns of the result are named 'a'"):
        answer(lake, "select 1 as a, 2 as a", form, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_type_that_parquet_does_not_have_is_said(lake, tmp_path):
    with pytest.raises(ConfigError, match="cast to text"):
        answer(lake, "select interval 3 day as v", "parquet", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["catalog.duckdb", "a.parquet", "new/a.parquet", "../lake/a.parquet"])
def test_the_lake_itself_is_only_read(lake, place):
    before = sorted(str(p) for p in lake.root.rglob("*"))
    with pytest.raises(ConfigError, match="in the lake, which only runs write to"):
        answer(lake, "from runs", "parquet", lake.root / place)
    assert sorted(str(p) for p in lake.root.rglob("*")) == before


@pytest.mark.parametrize("query", ["copy runs to 'x.csv'", "drop view selections", "select 1; select 2"])
def test_a_file_changes_nothing_about_reading_only(lake, tmp_path, monkeypatch, query):
    monkeypatch.chdir(tmp_path)
    for form in ("parquet", "csv", "json"):
        with pytest.raises(ConfigError, match="not one statement that reads"):
            answer(lake, query, form, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_json_and_csv_say_what_text_holds(lake, capsys):
    query = "select e'line\u2028sep\\n\"q\"' as t, 'nan'::double as x, [1, null] as l, '\\xAA'::blob as b"
    answer(lake, query, "json")
    assert json.loads(capsys.readouterr().out) == [{"t": 'line\u2028sep\n"q"', "x": None, "l": [1, None], "b": "aa"}]
    answer(lake, query, "csv")
    assert next(csv.reader(capsys.readouterr().out.splitlines())) == ["t", "x", "l", "b"]
    answer(lake, "select 1 as a where false", "json")
    assert json.loads(capsys.readouterr().out) == []


def test_keys_and_lists_of_any_type_are_json(lake, capsys):
    query = """select map([date '2020-01-01'], ['nan'::double]) as m, map(['\\xAA'::blob], [1]) as b,
               map([1, 2], [3, 4]) as i, ['nan'::double, 1.5] as l, [1, 2]::int[2] as a,
               {'é': ['-inf'::double]} as s"""
    expected = {"m": {"2020-01-01": None}, "b": {"aa": 1}, "i": {"1": 3, "2": 4}, "l": [None, 1.5], "a": [1, 2],
                "s": {"é": [None]}}  # fmt: skip
    answer(lake, query, "json")
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == [expected]
    answer(lake, query, "csv")
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert {name: json.loads(cell, parse_constant=pytest.fail) for name, cell in row.items()} == expected


def test_a_table_tells_nan_from_nothing(lake, capsys):
    answer(lake, "select 'nan'::double as x, null::double as y, 1.5 as z")
    assert capsys.readouterr().out.split("\n")[1].split() == ["nan", "1.5"]


def test_a_long_table_says_how_much_is_left(lake, capsys):
    answer(lake, "from range(25_000)")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1_001 and err.startswith("and 24,000 rows more")


def test_files_are_written_while_a_run_writes(tmp_path):
    config = make_case(tmp_path, n=1000, corpora={"web": {"files": ["raw/*"], "shard_bytes": 8000}})
    first = tamis.run(config, "small", overrides=["seed=1"])
    query = f"select doc_id, score from selections where run = '{first.id}' and kept order by doc_id"
    expected = tamis.sql(first.lake, query).fetchall()
    command = [sys.executable, "-m", "tamis.pipelines.cli", "run", "small", "-c", str(config), "--no-prefect", "-q"]
    asked = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            answer(first.lake, query, None, tmp_path / "chosen.parquet")
            assert pl.read_parquet(tmp_path / "chosen.parquet").rows() == expected
            asked += 1
        assert process.returncode == 0
    assert asked > 1 and expected
    answer(first.lake, "from runs", None, tmp_path / "runs.parquet")
    assert pq.read_metadata(tmp_path / "runs.parquet").num_rows == 2


def test_brackets_are_shown_as_they_are(capsys):
    """What looks like the markup of the table's library is text, in a cell and in a line."""
    from tamis.pipelines.printing import print_table, shown

    print_table(["[red]a[/]"], [["arr [bold]x[/bold] \\[0]"]])
    assert "arr [bold]x[/bold] \\[0]" in capsys.readouterr().out
    assert shown("arr [0]") == "arr [0]"
