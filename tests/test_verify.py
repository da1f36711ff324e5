"""Damage is found, named, and repaired by the next run."""

import errno
import json
from pathlib import Path

import pytest
import tamis
from small_flow import chosen, make_case
from tamis.pipelines.loading import load_config
from tamis.pipelines.repairing import repair
from tamis.storage.verify import verify


def test_an_untouched_lake_is_whole(tmp_path):
    config = make_case(tmp_path)
    with (tmp_path / "raw" / "part-0.jsonl").open("a") as file:
        file.write("{no record\n")
    run = tamis.run(config, "small")
    assert any((run.lake.root / "quarantine").glob("**/*.parquet"))
    assert list(verify(run.lake)) == []


def test_a_missing_file_is_named_and_the_next_run_makes_it_again(tmp_path):
    config = make_case(tmp_path)
    run = tamis.run(config, "small")
    before = chosen(run)
    gone = [next(run.lake.root.glob(pattern)) for pattern in ("scores/*/*.parquet", "features/*/*/*.parquet")]
    gone.append(next(run.lake.selection(run.steps[-1]["selection"]).glob("*.parquet")))
    for path in gone:
        path.unlink()
    assert {d.file for d in verify(run.lake)} == {str(path) for path in gone}
    (gone[-1].parent / "manifest.json").unlink()
    assert chosen(tamis.run(config, "small")) == before
    assert list(verify(run.lake)) == []


def test_a_file_that_the_disk_does_not_give_is_named_and_so_is_all_else(tmp_path, monkeypatch):
    run = tamis.run(make_case(tmp_path), "small")
    failing, cut = (next(run.lake.root.glob(pattern)) for pattern in ("features/*/*/*.parquet", "runs/*/config.yaml"))
    cut.write_text("x")
    opened = Path.open

    def opening(path, *args, **options):
        if path == failing:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", opening)
    found = {d.file: d.problem for d in verify(run.lake)}
    assert set(found) == {str(failing), str(cut)} and "Input/output error" in found[str(failing)]


@pytest.mark.parametrize(
    ("pattern", "change", "problem"),
    [
        ("selections/*/manifest.json", {"kept": 7}, "its rows sum to"),
        ("mixtures/*/*/manifest.json", {"tokens": 7}, "its files sum to"),
        ("corpora/web/snapshots/*/manifest.json", {"counts": "documents"}, "its files sum to"),
    ],
)
def test_numbers_of_a_manifest_that_was_published_wrong_are_compared_with_the_rows(tmp_path, pattern, change, problem):
    lake = tamis.run(make_case(tmp_path, n=60), "small").lake
    path = next(lake.root.glob(pattern))
    found = json.loads(path.read_bytes())
    if "counts" in change:
        found["counts"]["documents"] += 1
    else:
        found |= change
    lake.publish_json(path, found)
    assert any(d.file == str(path) and problem in d.problem for d in verify(lake))


def test_scores_of_too_few_documents_are_named(tmp_path):
    lake = tamis.run(make_case(tmp_path, n=60), "small").lake
    path = next(lake.root.glob("scores/*/*.parquet"))
    lake.publish_table(path, lake.table(path).slice(1))
    (found,) = verify(lake)
    assert found.file == str(path.parent) and "were to be scored" in found.problem


@pytest.mark.parametrize("pattern", ["features/*/*/*.parquet", "scores/*/*.parquet", "selections/*/*.parquet",
                                     "states/*/*.safetensors", "corpora/web/snapshots/*/excluded.parquet"])  # fmt: skip
def test_the_advice_repairs_what_it_is_given_for(tmp_path, pattern):
    config = make_case(tmp_path)
    run = tamis.run(config, "small")
    before = chosen(run)
    path = sorted(run.lake.root.glob(pattern))[0]
    path.write_bytes(path.read_bytes()[:-20])
    (found,) = [d for d in verify(run.lake) if d.file == str(path)]
    assert found.repair.startswith("`tamis repair`")
    assert repair(run.lake, load_config(config)).exit_code == 0
    assert chosen(tamis.run(config, "small")) == before
    assert list(verify(run.lake)) == []
