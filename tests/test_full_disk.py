"""A disk that fills, at any stage: one error with the path and the missing bytes, and the same command goes on."""

import errno
import os
import re
import subprocess
import sys

import duckdb
import every_stage
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
from safetensors.numpy import save_file
from small_disk import LEFT, Filler, fill, make_room, remount, small_disk
from small_flow import chosen, make_case
from tamis.pipelines import cli
from tamis.pipelines.engine import may_pass
from tamis.pipelines.runs import RunLog, load_runs
from tamis.storage.catalog import build_catalog
from tamis.storage.disks import disk_error, writing
from tamis.storage.errors import DiskError, LakeError
from tamis.storage.lake import Lake
from tamis.storage.processes import HOST
from tamis.storage.publish import GrowingFile
from tamis.storage.verify import verify

REPRESENTATIVE = (
    "ingest web", "filter clean", "dedup twins", "map alike", "summarise like_code", "train prior", "export parquet",
    "export tokens",
)  # fmt: skip
"""Stages of the flow `whole` that write in different ways."""
TOLD = re.compile(
    r'^tamis: .*("/[^"]+" cannot be written, the disk is full|the disk is too small): [\d,]+ bytes are free in '
    r'"/[^"]+", (about )?[\d,]+ more are needed.*`tamis clean`.*What is finished is kept', re.MULTILINE,
)  # fmt: skip


def commands(config, disk):
    """Return the commands that go through every stage."""
    options = ["-c", str(config), "--set", f"lake={disk / 'lake'}"]
    return [*([*("run", flow), *options] for flow in every_stage.FLOWS), ["mix", every_stage.MIXTURE, *options]]


def check_told(capsys, at):
    told = capsys.readouterr().err
    assert TOLD.search(told), (at, told)
    assert "Traceback" not in told and "Exception ignored" not in told, told


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 120 << 20) as folder:
        yield folder


def test_a_disk_that_fills_at_a_stage_is_told_and_the_same_command_goes_on(tmp_path, disk, monkeypatch, capsys):
    config = every_stage.write_case(tmp_path)
    whole = tamis.run(config, "whole", overrides=["lake=whole"])
    names = set(REPRESENTATIVE)
    filler = Filler(monkeypatch, disk, lambda where: where[1] in names)
    (first, *_) = commands(config, disk)
    failed = []
    while (code := filler.attempt(first)) != 0:
        assert code == 1
        check_told(capsys, filler.at)
        failed.append(filler.at[1])
        names.discard(filler.at[1])
    assert set(failed) == set(REPRESENTATIVE), set(REPRESENTATIVE) - set(failed)
    monkeypatch.undo()
    done = tamis.run(config, "whole", overrides=[f"lake={disk / 'lake'}"])
    assert every_stage.results({"whole": done}) == every_stage.results({"whole": whole})
    assert list(verify(done.lake)) == []
    assert not list(done.lake.scratch.iterdir()), "nothing is left of what was begun"
    records = load_runs(done.lake)
    assert [r.status for r in records] == ["failed"] * len(failed) + ["done"] * 2
    assert all("the disk is" in r.error for r in records[: len(failed)]), "there was room for the record"


@pytest.mark.slow
def test_a_disk_may_fill_at_every_stage_in_turn(tmp_path, disk, monkeypatch, capsys):
    config = every_stage.write_case(tmp_path)
    whole = every_stage.results(every_stage.run_all(config, ["lake=whole"]))
    filler = Filler(monkeypatch, disk, lambda where: True)
    failed = []
    while (code := filler.attempt(*commands(config, disk))) != 0 or filler.at:
        if code:
            assert code == 1
            check_told(capsys, filler.at)
            failed.append(filler.at)
    monkeypatch.undo()
    broken = every_stage.run_all(config, [f"lake={disk / 'lake'}"])
    assert every_stage.results(broken) == whole
    stages = {(r.flow, s.name) for r in load_runs(broken["whole"].lake) for s in r.stages}
    missed = stages - {where[:2] for where in failed}
    assert not missed, missed
    lake = broken["whole"].lake
    assert list(verify(lake)) == []
    assert not list(lake.scratch.iterdir())
    print(f"{len(failed)} full disks at {len(stages)} stages")  # noqa: T201


@pytest.mark.slow
def test_a_full_disk_ends_the_command_with_one_message_under_prefect(tmp_path):
    config = make_case(tmp_path, n=3_000)
    with small_disk(tmp_path / "disk", 600 << 10) as disk:
        command = [sys.executable, "-m", "tamis.pipelines.cli", "run", "small", "-c", str(config)]
        command += ["--set", f"lake={disk / 'lake'}"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert found.returncode == 1, found.stderr
        assert TOLD.search(found.stderr), found.stderr
        assert "Traceback" not in found.stderr and "Exception ignored" not in found.stderr
        subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
        found = subprocess.run([*command, "--no-prefect"], capture_output=True, text=True, timeout=300, check=False)
        assert found.returncode == 0, found.stderr
        lake = Lake.open(disk / "lake")
        whole = tamis.run(config, "small", overrides=["lake=whole"])
        broken = tamis.run(config, "small", overrides=[f"lake={lake.root}"])
        assert chosen(broken) == chosen(whole)
        assert list(verify(lake)) == []


def test_a_run_whose_catalogue_has_no_room_is_done_and_says_so(tmp_path, disk, monkeypatch, capsys):
    config = make_case(tmp_path)
    options = ["-c", str(config), "--set", f"lake={disk / 'lake'}", "--no-prefect", "-q"]
    noted = RunLog.finish

    def finish(log, *how):
        noted(log, *how)
        fill(disk, 200 << 10)

    monkeypatch.setattr(RunLog, "finish", finish)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "small", *options])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert TOLD.search(told) and "catalog.duckdb" in told
    make_room(disk)
    lake = Lake.open(disk / "lake")
    assert load_runs(lake)[-1].status == "done"
    monkeypatch.undo()
    assert results_of(["catalog", "rebuild", "--lake", str(lake.root)]) == 0
    assert tamis.sql(lake, "from selections where kept").fetchall()
    assert not list(lake.scratch.iterdir())


def test_a_catalogue_is_whole_or_not_published(tmp_path, disk):
    lake = tamis.ingest(make_case(tmp_path), "web", overrides=[f"lake={disk / 'lake'}"]).lake
    before = lake.catalog.read_bytes()
    needed, left = lake.catalog.stat().st_size, 0
    for left in range(0, needed + (1 << 20), 400 << 10):  # DuckDB is silent where closing has no room for all of it
        fill(disk, left)
        try:
            build_catalog(lake)
        except DiskError as error:
            assert "catalog.duckdb" in str(error)
            assert lake.catalog.read_bytes() == before
        else:
            assert tamis.sql(lake, "select count(*) from documents").fetchall()[0][0] == 300
            break
        finally:
            make_room(disk)
    assert left > 0, "no disk was full"


def test_a_line_of_the_log_is_there_whole_or_not_at_all(tmp_path, disk):
    log = GrowingFile(disk / "log.jsonl", disk)
    log.append("one\n")
    fill(disk)
    with pytest.raises(DiskError, match=r'log\.jsonl" cannot be written, the disk is full'):
        log.append("two" * 4_000 + "\n")
    make_room(disk)
    log.append("three\n")
    assert (disk / "log.jsonl").read_text() == "one\nthree\n"


def _arrow(folder, table):
    with pa.ipc.new_stream(str(folder / "file"), table.schema) as writer:
        writer.write_table(table)


def _duckdb(folder, table):
    with duckdb.connect(str(folder / "file")) as connection:
        connection.execute("create table wide as select hash(range) from range(500_000)")


def _spilling(folder, table):
    config = {"memory_limit": "30MB", "temp_directory": str(folder / "spill"), "threads": 2}
    with duckdb.connect(config=config) as connection:
        connection.execute("create temp table sorted as select hash(range) h from range(20_000_000) order by h")


WRITERS = {
    "arrow": _arrow,
    "parquet": lambda folder, table: pq.write_table(table, folder / "file"),
    "duckdb": _duckdb,
    "duckdb-copy": lambda folder, rows: duckdb.sql(f"copy (from rows) to '{folder / 'file'}' (format parquet)"),
    "duckdb-spill": _spilling,
    "polars": lambda folder, table: pl.from_arrow(table).write_parquet(folder / "file"),
    "safetensors": lambda folder, table: save_file({"x": table.column(0).to_numpy()}, folder / "file"),
    "python": lambda folder, table: (folder / "file").write_bytes(bytes(4 << 20)),
}


@pytest.mark.parametrize("library", WRITERS)
def test_what_each_library_says_of_a_full_disk_becomes_one_error(tmp_path, library):
    table = pa.table({"x": np.random.default_rng(0).random(500_000)})
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        with pytest.raises(DiskError, match="the disk is full") as error, writing(disk / "wanted", disk, 5 << 20):
            WRITERS[library](disk, table)
        assert f'"{disk / "wanted"}"' in str(error.value)
        missing = int(re.search(r"about ([\d,]+) more", str(error.value))[1].replace(",", ""))
        assert 4 << 20 <= missing <= 5 << 20
        assert not may_pass(error.value)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "quota"), (errno.EFBIG, "ulimit -f"), (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"), (errno.EIO, "input/output error"), (errno.EMFILE, "ulimit -n"),
    ],
)  # fmt: skip
def test_what_else_a_disk_refuses_is_told_with_the_path_and_what_to_do(tmp_path, number, words):
    path = str(tmp_path / "there")
    told = str(disk_error(OSError(number, os.strerror(number), path)))
    assert f'"{path}"' in told and words in told


def test_what_no_disk_refused_stays_as_it_is(tmp_path):
    for error in (
        ValueError("No space left"),
        FileNotFoundError(errno.ENOENT, "gone", "x"),
        LakeError("full"),
        OSError(),
    ):
        assert disk_error(error, tmp_path) is None


def test_an_error_that_a_full_disk_caused_is_one_of_the_disk(tmp_path):
    caused = LakeError('"x" is damaged')
    caused.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert isinstance(disk_error(caused, tmp_path), DiskError)
    caused.__cause__ = OSError(errno.EIO, "Input/output error", "x")
    assert disk_error(caused, tmp_path) is None, "it names the damaged file and `tamis verify`"


def results_of(command):
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    return ended.value.code or 0


def test_results_that_people_name_and_mixtures_in_other_folders_tell_a_full_disk(tmp_path, capsys):
    config = make_case(tmp_path)
    tamis.run(config, "small")
    options = ["-c", str(config)]
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        fill(disk, LEFT)
        query = "select *, repeat(doc_id, 300) as long from selections"
        for name in ("rows.parquet", "rows.csv", "rows.json"):
            assert results_of(["sql", query, *options, "-o", str(disk / name)]) == 1
            check_told(capsys, name)
        assert results_of(["export", "small", *options, "-o", str(disk / "mixture"), "-q"]) == 1
        check_told(capsys, "export")
        make_room(disk)
        assert results_of(["export", "small", *options, "-o", str(disk / "mixture"), "-q"]) == 0
        assert not [p for p in disk.iterdir() if "~" in p.name]


def test_clean_makes_room_on_a_full_disk(tmp_path, disk):
    lake = tamis.ingest(make_case(tmp_path), "web", overrides=[f"lake={disk / 'lake'}"]).lake
    left_behind = lake.scratch / f"{HOST}~999999~0~shard.parquet"
    left_behind.write_bytes(bytes(6 << 20))
    for leave, code in ((0, 1), (LEFT, 0)):
        make_room(disk)
        fill(disk, leave)
        assert results_of(["clean", "--yes", "--lake", str(lake.root)]) == code
        assert not (lake.root / "cleaning.json").exists(), "an empty lease would be nobody's"
        assert left_behind.exists() == (code == 1)
    assert len(tamis.sql(lake, "from documents").fetchall()) == 300


def test_a_lake_that_cannot_be_written_can_be_read(tmp_path, disk, capsys):
    config = make_case(tmp_path)
    lake = disk / "lake"
    options, looking = ["-c", str(config), "--set", f"lake={lake}"], ["--lake", str(lake)]
    document = chosen(tamis.run(config, "small", overrides=[f"lake={lake}"]))[0]
    tamis.run(config, "small", overrides=[f"lake={lake}", "flows.small.steps.like_code.cut.budget.tokens=10%"])
    remount(disk, "ro")
    try:
        reading = [["sql", "select count(*) from documents"], ["status"], ["explain", document], ["compare", "small"],
                   ["diff", "small"], ["verify"], ["clean"]]  # fmt: skip
        for command in reading:
            code = results_of([*command, *looking])
            told = capsys.readouterr()
            assert code in (0, 3), (command, told.err)
        for command in (["run", "small", "--no-prefect", *options], ["ingest", "web", *options],
                        ["catalog", "rebuild", *looking], ["clean", "--yes", *looking]):  # fmt: skip
            assert results_of(command) == 1, command
            told = capsys.readouterr().err
            assert re.search(r'^tamis: "/[^"]+" cannot be written: the file system is read-only; ', told), told
    finally:
        remount(disk, "rw")
