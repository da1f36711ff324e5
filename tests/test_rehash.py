"""Which input files are trusted, digested or read: by their stat, or all by their bytes."""

import json
import os

import pytest
import tamis
from small_flow import documents, make_case, stages, write_jsonl
from tamis.pipelines.cli import app
from typer.testing import CliRunner

ALL = [{"name": "all", "filter": {"any": "true"}}]


@pytest.fixture
def config(tmp_path):
    return make_case(tmp_path, n=60, files=3, steps=ALL)


def change_unseen(path):
    """Change a file's bytes but neither its size, its modification time nor its inode."""
    status, text = path.stat(), path.read_text()
    changed = text.replace("river", "RIVER")
    assert changed != text
    with path.open("r+") as file:
        file.write(changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_ino == status.st_ino


def inputs(run):
    seen = run.record.inputs["web"]
    return seen["trusted"], seen["digested"], seen["read"]


def shouting(run):
    return tamis.sql(run.lake, "select count(*) from text where text like '%RIVER%'").fetchall()[0][0]


def how(run):
    path = run.lake.run(run.id) / "inputs" / "web.parquet"
    return {row["file"]: (row["how"], row["bytes_digested"]) for row in run.lake.table(path).to_pylist()}


def test_an_unchanged_stat_is_trusted_and_anything_else_digested(config, tmp_path):
    first = tamis.run(config, "small")
    assert inputs(first) == (0, 0, 3)
    touched = tmp_path / "raw" / "part-1.jsonl"
    os.utime(touched)
    write_jsonl(tmp_path / "raw" / "part-2.jsonl", documents(4))
    second = tamis.run(config, "small")
    assert how(second) == {
        "raw/part-0.jsonl": ("trusted", 0), "raw/part-1.jsonl": ("digested", touched.stat().st_size),
        "raw/part-2.jsonl": ("read", 0),
    }  # fmt: skip
    assert inputs(second) == (1, 1, 1)
    assert inputs(tamis.run(config, "small")) == (3, 0, 0)


def test_bytes_that_changed_unseen_are_found_by_rehash_alone(config, tmp_path):
    first = tamis.run(config, "small")
    assert shouting(first) == 0
    change_unseen(tmp_path / "raw" / "part-0.jsonl")
    assert inputs(tamis.run(config, "small")) == (3, 0, 0)
    again = tamis.run(config, "small", rehash=True)
    assert inputs(again) == (0, 2, 1) and shouting(again) > 0
    assert again.record.inputs["web"]["bytes_digested"] == sum(p.stat().st_size for p in (tmp_path / "raw").iterdir())
    assert again.record.snapshot != first.record.snapshot
    assert stages(again)["ingest web"] == (1, 2)
    trusting = tamis.run(config, "small")
    assert inputs(trusting) == (3, 0, 0), "of two readings with one stat the newest is trusted"
    assert (shouting(trusting), trusting.record.snapshot) == (shouting(again), again.record.snapshot)


def test_the_bytes_of_an_earlier_reading_are_known_by_rehash_too(config, tmp_path):
    first = tamis.run(config, "small")
    path = tmp_path / "raw" / "part-0.jsonl"
    old, status = path.read_bytes(), path.stat()
    change_unseen(path)
    tamis.run(config, "small", rehash=True)
    path.write_bytes(old)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    back = tamis.run(config, "small", rehash=True)
    assert inputs(back) == (0, 3, 0) and back.record.snapshot == first.record.snapshot
    assert shouting(back) == 0


def test_rehash_over_unchanged_files_computes_nothing_and_gives_the_same_snapshot(config):
    first = tamis.run(config, "small")
    manifest = (first.lake.snapshot("web", first.record.snapshot) / "manifest.json").read_bytes()
    again = tamis.run(config, "small", overrides=["corpora.web.rehash=true"])
    assert inputs(again) == (0, 3, 0)
    assert again.record.computed == 0 and again.record.fingerprint == first.record.fingerprint
    assert (first.lake.snapshot("web", first.record.snapshot) / "manifest.json").read_bytes() == manifest


def test_the_commands_rehash(config):
    tamis.run(config, "small")
    for command in (["run", "small", "--no-prefect"], ["ingest", "web"]):
        done = CliRunner().invoke(app, [*command, "-c", str(config), "-q", "--json", "--rehash"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["inputs"]["web"]["digested"] == 3
