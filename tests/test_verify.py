"""Damage is found, named, and repaired by the next run."""

import io
import random

import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import chosen, make_case
from tamis.storage.verify import verify


def artefacts(lake):
    return sorted(
        p for p in lake.root.glob("**/*") if p.is_file() and p.suffix in (".parquet",) and "tmp" not in p.parts
    )


def test_an_untouched_lake_is_whole(tmp_path):
    config = make_case(tmp_path)
    with (tmp_path / "raw" / "part-0.jsonl").open("a") as file:
        file.write("{no record\n")
    run = tamis.run(config, "small")
    assert any((run.lake.root / "quarantine").glob("**/*.parquet"))
    assert list(verify(run.lake)) == []


@pytest.mark.parametrize("kind", ["shards", "features", "scores", "selections", "mixtures"])
def test_a_changed_byte_is_found_wherever_it_is(tmp_path, kind):
    run = tamis.run(make_case(tmp_path), "small")
    rng = random.Random(kind)
    for path in [p for p in artefacts(run.lake) if kind in p.parts][:3]:
        whole = path.read_bytes()
        for _ in range(4):
            data = bytearray(whole)
            place = rng.randrange(4, len(data) - 8)
            data[place] ^= 1 << rng.randrange(8)
            path.write_bytes(bytes(data))
            found = [d for d in verify(run.lake) if d.file == str(path)]
            assert found or same_values(path, whole)
        path.write_bytes(whole)


def same_values(path, whole):
    """Say whether only the Parquet footer changed: statistics, or the name of the writer."""
    return "mixtures" not in path.parts and pq.read_table(path).equals(pq.read_table(io.BytesIO(whole)))


def test_a_missing_file_is_named_and_the_next_run_makes_it_again(tmp_path):
    config = make_case(tmp_path)
    run = tamis.run(config, "small")
    before = chosen(run)
    for path in (
        sorted((run.lake.root / "scores").glob("*/*.parquet"))[:1]
        + sorted((run.lake.root / "features").glob("*/*/*.parquet"))[:1]
    ):
        path.unlink()
    (selection,) = [s["selection"] for s in run.steps[-1:]]
    gone = next(run.lake.selection(selection).glob("*.parquet"))
    gone.unlink()
    assert [d.file for d in verify(run.lake)] == [str(gone)]
    (gone.parent / "manifest.json").unlink()
    assert chosen(tamis.run(config, "small")) == before
    assert list(verify(run.lake)) == []


@pytest.mark.parametrize("pattern", ["features/*/*/*.parquet", "scores/*/*.parquet", "selections/*/*.parquet",
                                     "states/*/*.safetensors", "corpora/web/snapshots/*/excluded.parquet"])  # fmt: skip
def test_the_advice_repairs_what_it_is_given_for(tmp_path, pattern):
    config = make_case(tmp_path)
    run = tamis.run(config, "small")
    before = chosen(run)
    path = sorted(run.lake.root.glob(pattern))[0]
    path.write_bytes(path.read_bytes()[:-20])
    (found,) = [d for d in verify(run.lake) if d.file == str(path)]
    assert found.repair.startswith("remove it")
    path.unlink()
    assert chosen(tamis.run(config, "small")) == before
    assert list(verify(run.lake)) == []
