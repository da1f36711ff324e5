"""Every file of a lake, damaged by a bit, cut or removed, is named by `verify` and mended by `repair`."""

import json
import random
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import every_stage
import pytest
import tamis
from flipping import contents, files_of, flip, flip_all, remove_some
from small_flow import chosen, documents, make_case, write_jsonl
from tamis.pipelines import repairing
from tamis.pipelines.cli import main
from tamis.pipelines.loading import load_config
from tamis.pipelines.repairing import look, repair
from tamis.storage.errors import LakeError
from tamis.storage.lake import Lake
from tamis.storage.lake_format import repair_marker
from tamis.storage.verify import verify
from tamis.storage.verify_sums import not_covered

OLD = Path(__file__).with_name("data") / "lake-format-1.tar.xz"


def named(lake):
    return {Path(damage.file) for damage in verify(lake)}


def whole(lake):
    return named(lake) == set() and not_covered(lake) == []


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Return a lake with every kind of artefact, its configuration, and what must always be the same."""
    config = every_stage.write_case(tmp_path_factory.mktemp("case"))
    runs = every_stage.run_all(config)
    return runs["whole"].lake, load_config(config), every_stage.results(runs), runs


def check_bits(case, seed):
    """Flip a bit in every file at once; return how many files."""
    lake, loaded, _, _ = case
    before = contents(lake)
    flipped = set(flip_all(lake, seed))
    assert flipped <= named(lake)
    done = repair(lake, loaded)
    assert done.exit_code == 0 and done.runs == [] and done.removed == [] and done.problems == []
    assert contents(lake) == before and whole(lake)
    return len(flipped)


def check_lost(case, share, seed, cut=0):
    """Remove or cut files; everything that raw files and configurations give comes back."""
    lake, loaded, results, runs = case
    lost = remove_some(lake, share, seed, cut)
    assert lost and set(lost) <= named(lake)
    done = repair(lake, loaded)
    assert done.exit_code == 0 and done.problems == []
    assert every_stage.results(runs) == results and whole(lake)
    return len(lost)


def test_a_lake_of_every_kind_of_artefact(case):
    """In one test, because the lake takes some seconds: bits, removed and cut files, and a training that took long."""
    lake, loaded, results, runs = case
    assert whole(lake) and look(lake).exit_code == 0
    assert check_bits(case, 1) > 400
    check_lost(case, 0.2, 2)
    check_lost(case, 0.1, 3, cut=9)
    weights = sorted(lake.root.glob("models/*/model/model.safetensors"))[0]
    weights.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repairing, "LONG", -1.0)
        refused = repair(lake, loaded)
        assert refused.exit_code == 3 and "--yes" in refused.problems[0] and not weights.exists()
        assert repair(lake, loaded, yes=True).exit_code == 0
    assert every_stage.results(runs) == results and whole(lake)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_in_every_file(case, seed):
    assert check_bits(case, 1_000 + seed) > 400


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, 9])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_files_that_are_gone_or_cut(case, share, seed, cut):
    check_lost(case, share, 2_000 + seed, cut)


def test_each_bit_of_the_marker_counts(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    lake.publish_json(lake.root / "runs" / "1" / "run.json", {})
    marker = lake.root / "lake.json"
    before = marker.read_bytes()
    for place in range(0, 8 * len(before), 5):
        data = bytearray(before)
        data[place >> 3] ^= 1 << (place & 7)
        marker.write_bytes(data)
        with pytest.raises(LakeError, match="tamis repair"):
            Lake.open(lake.root)
        assert repair_marker(lake.root, lake.scratch) and marker.read_bytes() == before
    marker.unlink()
    assert repair_marker(lake.root, lake.scratch) and not repair_marker(lake.root, lake.scratch)


@pytest.mark.parametrize("version", [0, 2])
def test_another_format_is_refused_and_never_repaired(tmp_path, version):
    lake = Lake.open(tmp_path / "lake", create=True)
    (lake.root / "lake.json").write_text(json.dumps({"format": version}))
    for action in (lambda: Lake.open(lake.root), lambda: repair_marker(lake.root, lake.scratch)):
        with pytest.raises(LakeError, match=f"has format {version}, this tamis reads 1; use the tamis that made it"):
            action()


@pytest.fixture
def old(tmp_path):
    """Return a lake that the code before the digests made: no `sums`, a marker without a digest, no catalogue."""
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "flows.yaml"


def test_a_lake_of_an_older_tamis_is_read_verified_and_gone_on_with(old):
    lake = Lake.open(old.parent / "lake")
    assert not (lake.root / "sums").exists() and named(lake) == set()
    assert len(not_covered(lake)) == len(files_of(lake)) > 30
    run, mixed = tamis.run(old, "small"), tamis.mix(old, "mixed")
    assert run.record.computed == 0 and len(chosen(run)) == run.steps[-1]["kept"] == 12
    assert mixed.record.computed == 0
    assert (
        tamis.run(old, "small", overrides=["flows.small.steps.like_code.cut.budget.tokens=60%"]).steps[-1]["kept"] > 12
    )
    assert named(lake) == set()


def test_a_lake_of_an_older_tamis_is_repaired_as_far_as_its_files_tell(old):
    lake = Lake.open(old.parent / "lake")
    lost = [
        next(lake.root.glob(p)) for p in ("selections/*/*.parquet", "scores/*/*.parquet", "mixtures/small/*/part-*")
    ]
    for path in lost:
        path.write_bytes(path.read_bytes()[:-30])
    assert set(lost) <= named(lake)
    done = repair(lake, load_config(old))
    assert done.exit_code == 0 and done.corrected == [] and named(lake) == set() and all(p.exists() for p in lost)


@pytest.fixture
def small(tmp_path):
    config = make_case(tmp_path, n=60)
    return tamis.run(config, "small"), load_config(config)


def test_what_a_changed_raw_file_gave_stays_and_is_named(small, tmp_path):
    run, loaded = small
    shard = next(run.lake.root.glob("corpora/web/shards/*.parquet"))
    damaged = shard.read_bytes()[:-30]
    shard.write_bytes(damaged)
    raw = tmp_path / "raw" / "part-1.jsonl"
    raw.write_text(raw.read_text(encoding="utf-8").replace("river", "lake"), encoding="utf-8")
    done = repair(run.lake, loaded)
    assert done.exit_code == 3 and "part-1.jsonl" in done.problems[0] and "changed" in done.problems[0]
    assert shard.read_bytes() == damaged and [Path(d.file) for d in done.left] == [shard]
    raw.unlink()
    assert "gone" in repair(run.lake, loaded).problems[0]


def test_what_other_files_gave_is_mended_and_one_cause_is_said_once(small, tmp_path):
    first, loaded = small
    (old,) = first.lake.root.glob("corpora/web/shards/*.parquet")
    write_jsonl(tmp_path / "raw" / "part-9.jsonl", documents(40, seed=1))
    second = tamis.run(tmp_path / "flows.yaml", "small")
    (new,) = set(first.lake.root.glob("corpora/web/shards/*.parquet")) - {old}
    whole_shard = new.read_bytes()
    for shard in (old, new):
        shard.write_bytes(shard.read_bytes()[:-30])
    (tmp_path / "raw" / "part-1.jsonl").unlink()
    done = repair(first.lake, loaded)
    snapshots = sorted(run.record.snapshot for run in (first, second))
    assert new.read_bytes() == whole_shard and [Path(d.file) for d in done.left] == [old]
    assert [p for p in done.problems if "part-1.jsonl" in p] == [
        f'snapshot {", ".join(snapshots)} of web: the raw file "raw/part-1.jsonl" is gone, '
        "and what was read of it with it"
    ]


def cut_all(lake, *patterns):
    """Cut the ends of the files that match; return what is left of them, by path."""
    cut = {path: path.read_bytes()[:-9] for pattern in patterns for path in lake.root.glob(pattern)}
    for path, content in cut.items():
        path.write_bytes(content)
    return cut


def test_what_nothing_can_make_again_is_put_back(small, tmp_path):
    run, loaded = small
    lake = Lake.open(run.lake.root.rename(tmp_path / "moved"))
    before = contents(lake)
    cut = cut_all(lake, "selections/*/*.parquet", "scores/*/*.parquet", "corpora/web/packs/*.json")
    raw = (tmp_path / "raw").rename(tmp_path / "elsewhere")
    done = repair(lake)  # which folder the files of the run are below is not known
    assert done.exit_code == 3 and {Path(d.file) for d in done.left} >= set(cut)
    assert {lake.root / name for name in done.put_back} >= set(cut) and done.removed == []
    assert contents(lake) | cut == contents(lake) and set(contents(lake)) == set(before)
    assert not list(lake.scratch.iterdir())
    raw.rename(tmp_path / "raw")
    again = repair(lake, loaded)
    assert again.exit_code == 0 and again.put_back == [] and whole(lake)


KILLED = """
import os, sys
from tamis.pipelines import repairing
from tamis.pipelines.loading import load_config
from tamis.storage.lake import Lake
repairing.mend_run = lambda *_: os.kill(os.getpid(), 9)
repairing.repair(Lake.open(sys.argv[1]), load_config(sys.argv[2]))
"""


def test_the_next_repair_puts_back_what_a_killed_one_had_set_aside(small, tmp_path, monkeypatch):
    run, loaded = small
    cut = cut_all(run.lake, "selections/*/*.parquet")
    command = [sys.executable, "-c", KILLED, str(run.lake.root), str(tmp_path / "flows.yaml")]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert not any(path.exists() for path in cut) and not list(run.lake.root.glob("selections/*/manifest.json"))
    run.lake.sweep_scratch()
    with monkeypatch.context() as patch:
        patch.setattr(repairing, "mend_run", lambda *_: (_ for _ in ()).throw(LakeError("not today")))
        done = repair(run.lake, loaded)
    assert done.exit_code == 3 and sorted(done.put_back) == sorted(
        path.relative_to(run.lake.root).as_posix() for path in (*cut, *run.lake.root.glob("selections/*/manifest.json"))
    )
    assert {path: path.read_bytes() for path in cut} == cut
    assert repair(run.lake, loaded).exit_code == 0 and whole(run.lake) and not list(run.lake.scratch.iterdir())


def test_a_raw_file_that_was_only_touched_gives_its_shards_again(small, tmp_path):
    run, loaded = small
    for path in (*run.lake.root.glob("corpora/web/shards/*"), *run.lake.root.glob("corpora/web/packs/*")):
        path.unlink()
    (tmp_path / "raw" / "part-1.jsonl").touch()
    assert repair(run.lake, loaded).exit_code == 0 and named(run.lake) == set()
    assert tamis.run(tmp_path / "flows.yaml", "small").record.snapshot == run.record.snapshot


def test_a_record_is_only_given_up_when_told_so(small):
    run, loaded = small
    log = run.lake.run(run.id) / "log.jsonl"
    log.write_bytes(log.read_bytes()[: -len(log.read_bytes()) // 2])
    first = repair(run.lake, loaded)
    assert first.exit_code == 3 and "--yes" in first.problems[0] and log.exists()
    assert repair(run.lake, loaded, yes=True).exit_code == 0 and named(run.lake) == set()


def test_an_export_is_only_given_up_when_told_so(small):
    run, loaded = small
    done = tamis.export(loaded, "small", [{"format": "jsonl.zst"}])
    (folder,) = done.outputs
    file = next(folder.glob("*.jsonl.zst"))
    file.write_bytes(file.read_bytes()[:-9])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for _ in range(2):
        first = repair(run.lake, loaded)
        assert first.exit_code == 3 and "export" in first.problems[0] and first.removed == [] == look(run.lake).removed
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert repair(run.lake, loaded, yes=True).exit_code == 0 and whole(run.lake)
    assert not folder.exists() or not any(folder.iterdir())
    again = tamis.export(loaded, "small", [{"format": "jsonl.zst"}])
    assert again.outputs == [folder] and whole(run.lake)


def test_what_is_missing_and_cannot_be_had_again_is_named_each_time(small):
    run, loaded = small
    (run.lake.run(run.id) / "log.jsonl").unlink()
    assert [repair(run.lake, loaded).exit_code for _ in range(2)] == [3, 3]
    assert repair(run.lake, loaded, yes=True).exit_code == 0 and whole(run.lake)


def test_an_ingestion_is_no_hindrance(small):
    run, loaded = small
    tamis.ingest(loaded, "web")
    next(run.lake.root.glob("corpora/web/shards/*.parquet")).unlink()
    done = repair(run.lake, loaded)
    assert done.exit_code == 0 and done.problems == [] and whole(run.lake)


def test_a_repair_works_within_the_memory_of_its_run(small):
    run, _ = small
    next(run.lake.root.glob("selections/*/*.parquet")).unlink()
    record = run.lake.run(run.id) / "run.json"
    found = json.loads(record.read_bytes())
    run.lake.publish_json(record, found | {"config": f"memory: 100000000\n{found['config']}"})
    assert "memory: 95MB is not enough" in repair(run.lake).problems[0]


def test_a_folder_that_is_no_lake_is_not_made_one(tmp_path):
    (tmp_path / "runs" / "tensorboard").mkdir(parents=True)
    with pytest.raises(LakeError, match="is no lake"):
        repair_marker(tmp_path, tmp_path / "tmp")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_record_that_is_lost_is_missed_until_it_is_given_up(small):
    run, loaded = small
    shutil.rmtree(run.lake.root / "runs")
    for _ in range(2):
        done = repair(run.lake, loaded)
        assert done.exit_code == 3 and {Path(d.file).name for d in done.left} >= {"run.json", "log.jsonl"}
    assert repair(run.lake, loaded, yes=True).exit_code == 0 and named(run.lake) == set()


def test_a_killed_repair_is_gone_on_with(small, monkeypatch):
    run, loaded = small
    before = chosen(run)
    lost = remove_some(run.lake, 1.0, 5, cut=9)

    def killed(*_):
        raise KeyboardInterrupt

    for name in ("mend_corpus", "mend_run", "build_catalog", "gather"):
        with monkeypatch.context() as patch:
            patch.setattr(repairing, name, killed)
            with pytest.raises(KeyboardInterrupt):
                repair(run.lake, loaded)
    assert repair(run.lake, loaded).exit_code == 0 and named(run.lake) == set()
    assert chosen(run) == before and all(path.exists() for path in lost)


def test_nothing_is_repaired_while_a_run_goes_on(small):
    run, loaded = small
    path = run.lake.run(run.id) / "run.json"
    run.lake.publish_json(path, json.loads(path.read_bytes()) | {"status": "running"})
    with pytest.raises(LakeError, match="goes on"):
        repair(run.lake, loaded)


def test_a_lake_that_was_moved_is_repaired_with_the_configuration_that_is_named(small, tmp_path, capsys):
    run, _ = small
    moved = run.lake.root.rename(tmp_path / "moved")
    lost = next(moved.glob("selections/*/manifest.json"))
    lost.unlink()

    def repaired(*words):
        with pytest.raises(SystemExit) as end:
            main(["repair", "-q", "--lake", str(moved), *words])
        return end.value.code, capsys.readouterr().out

    code, out = repaired("--dry-run")
    assert code == 1 and "cannot be mended: which folder" in out and "0 runs would be done again" in out
    code, out = repaired("--config", str(tmp_path / "flows.yaml"))
    assert code == 0 and lost.exists() and "1 runs done again" in out


def test_a_plan_and_an_artefact_of_no_run_are_only_removed(small):
    run, loaded = small
    for name in ("plans/x.json", "states/0123/state.safetensors"):
        run.lake.publish_json(run.lake.root / name, {"a": 1})
        (run.lake.root / name).write_text("{")
    done = repair(run.lake, loaded)
    assert done.exit_code == 0 and len(done.removed) == 2 and named(run.lake) == set()


def test_the_command_says_what_it_would_do_and_does_it(small, tmp_path, capsys):
    run, _ = small

    def command(*words):
        with pytest.raises(SystemExit) as end:
            main([*words, "--config", str(tmp_path / "flows.yaml")])
        found = capsys.readouterr()
        assert "-q" not in words or not found.err, found.err
        assert "--dry-run" not in words or not found.err, found.err
        return end.value.code, found.out

    assert command("repair") == (0, "nothing is damaged\n")
    for path in files_of(run.lake):
        flip(path, random.Random(str(path.name)))
    shutil.rmtree(next((run.lake.root / "selections").iterdir()))
    (run.lake.root / "lake.json").write_text("{")
    assert command("verify")[0] == 1
    code, out = command("repair", "--quiet")
    assert code == 0 and "not mended" not in out
    next(run.lake.root.glob("scores/*/*.parquet")).unlink()
    code, out = command("repair", "--dry-run", "--json")
    assert code == 1 and len(json.loads(out)["damaged"]) == 1 and json.loads(out)["runs"] == [run.id]
    assert command("verify")[0] == 1 and command("repair", "-q")[0] == 0 and command("verify")[0] == 0
