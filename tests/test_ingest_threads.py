"""Threads inside a file: what is read and written does not depend on them, order and bounds hold."""

import json
import random
import time

import pyarrow.parquet as pq
import pytest
from tamis.pipelines.engine import Threads
from tamis.storage.fingerprint import file_sha256
from tamis.storage.ingest import IngestOptions, read_pack
from tamis.storage.inputs import list_inputs
from tamis.storage.lake import Lake
from tamis.storage.readers import BadRecord, ReadOptions, read_records

OPTIONS = IngestOptions(shard_bytes=900_000, row_group_bytes=90_000, read=ReadOptions(batch_bytes=90_000))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Write 4 MB in blocks of 1 MB: documents with and without id, repeated texts, bad lines here and there."""
    folder, draw = tmp_path_factory.mktemp("raw"), random.Random(5)
    lines = []
    for i in range(6000):
        text = "".join(draw.choices("abcdé \n", k=draw.randrange(900))) if i % 7 else "again"
        lines.append(json.dumps({"text": text} | ({"id": f"d{i}"} if i % 3 else {}), ensure_ascii=i % 2 == 0))
        lines += ["", "{", '{"text": "\\ud800"}'] * (i % 500 == 0)
    (folder / "a.jsonl").write_text("\n".join(lines))
    return list_inputs(["a.jsonl"], folder)[0]


def test_a_pack_is_the_same_with_threads(file, tmp_path):
    packs = []
    for workers, ahead in [(1, 0), (2, 1), (3, 20)]:
        lake = Lake.open(tmp_path / str(workers), create=True)
        with Threads(workers).inner_map() as inner:
            pack = read_pack(lake, "c", [file], OPTIONS, inner, ahead)
        content = [pq.read_table(shard.path).to_pylist() for shard in pack.shards]
        packs.append((pack, content, pq.read_table(lake.quarantine("c", pack.key)).to_pylist()))
        assert list(lake.scratch.iterdir()) == []
    assert packs[0] == packs[1] == packs[2]
    assert len(packs[0][0].shards) > 2 and len(packs[0][2]) == 12
    assert packs[0][0].files[0].documents == 6012 and packs[0][0].files[0].repaired == 12


def test_batches_and_bad_records_come_in_the_same_order(file):
    def seen(items):
        return [item if isinstance(item, BadRecord) else item.to_pylist() for item in items]

    with Threads(3).inner_map() as inner:
        assert seen(read_records(file, OPTIONS.read, inner)) == seen(read_records(file, OPTIONS.read))


def test_a_shard_that_cannot_be_written_leaves_nothing(file, tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    lake.shard("c", "x").parent.parent.mkdir(parents=True)
    lake.shard("c", "x").parent.write_text("a file where the folder of the shards should be")
    with pytest.raises(OSError), Threads(2).inner_map() as inner:
        read_pack(lake, "c", [file], OPTIONS, inner, 4)
    assert list(lake.scratch.iterdir()) == []


@pytest.mark.parametrize("workers", [2, 3])
def test_callers_of_the_inner_map_share_its_look_ahead(workers):
    begun = []

    def items(name):
        for i in range(20):
            begun.append((name, i))
            yield i

    with Threads(workers).inner_map() as inner:
        first, second = inner(str, items("a")), inner(str, items("b"))
        assert (next(first), next(second)) == ("0", "0")
        assert len(begun) <= 4 * workers
        assert list(first) == list(map(str, range(1, 20)))
        assert next(second) == "1"
        second.close()
        assert [i for name, i in begun if name == "b"][-1] < 2 + 2 * workers
        assert list(inner(str, [7])) == ["7"]


def test_an_error_in_the_inner_map_comes_in_its_turn():
    with Threads(2).inner_map() as inner:
        results = inner(lambda n: 1 // n, [1, 1, 0, 1])
        assert [next(results), next(results)] == [1, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_a_file_that_changes_after_its_last_record_and_before_its_digest_counts_for_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "aaaa"}\n' * 80_000)
    (file,) = list_inputs(["a.jsonl"], tmp_path)

    def late(changed):
        time.sleep(1)  # the documents are read meanwhile
        changed.write_text('{"text": "bbbb"}\n' * 80_000)
        return file_sha256(changed)

    monkeypatch.setattr("tamis.storage.ingest.file_sha256", late)
    lake = Lake.open(tmp_path / "lake", create=True)
    with Threads(2).inner_map() as inner:
        pack = read_pack(lake, "c", [file], OPTIONS, inner, 4)
    (record,) = pack.files
    assert not record.usable and record.documents == 0
    assert "changed while being read" in pq.read_table(lake.quarantine("c", pack.key)).to_pylist()[0]["reason"]
