"""Places: the same questions to a folder and to a store, and the same answers."""

import pickle
import time
from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tamis.storage.errors import ConfigError, LakeError, StoreError
from tamis.storage.inputs import list_inputs
from tamis.storage.lake import Lake, read_json
from tamis.storage.listings import listing_of
from tamis.storage.places import (
    age_of,
    is_local,
    is_url,
    local,
    local_folder,
    now_at,
    place,
    presence,
    read_all,
    remove_files,
    version_of,
)  # fmt: skip
from tamis.storage.publish import GrowingFile, publish_bytes, publish_link, take_back


@pytest.fixture(params=["folder", "store"])
def root(request, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "lake" if request.param == "folder" else place(f"memory://{tmp_path.name}/lake")


def put(path, data, scratch):
    publish_bytes(path, data, scratch)
    return path


def test_a_listing_says_what_globs_say(root, tmp_path):
    lake = Lake.open(root, create=True)
    names = ["runs/1/run.json", "runs/finished/a.json", "corpora/x/shards/s.parquet", "corpora/t/y/shards/s.parquet",
             "features/k/s/part.parquet", "features/k/feature.json"]  # fmt: skip
    for name in names:
        put(root / name, b"12345", lake.scratch)
    there = listing_of(root, {"runs", "corpora", "features"})
    assert sorted(there.files) == sorted(names) and {held.n_bytes for held in there.files.values()} == {5}
    assert list(there.glob("runs/[0-9]*")) == ["runs/1"]
    assert list(there.glob("corpora/**/shards/*.parquet")) == sorted(n for n in names if n.endswith("s.parquet"))
    assert list(there.glob("features/*/*/")) == ["features/k/s"]
    assert there.below("runs/1") == ["runs/1/run.json"] and there.below("runs/f") == []
    assert abs(now_at(root / "lake.json") - time.time()) < 60 and age_of(root / "runs/1/run.json") < 60
    remove_files([root / name for name in [*names, "runs/2"]])
    assert listing_of(root, {"runs", "corpora", "features"}).files == {}


def test_what_a_text_means():
    assert place("lake", Path("/home")) == Path("/home/lake")
    assert place("/data/lake", Path("/home")) == place("file:///data/lake") == Path("/data/lake")
    assert not is_local(place("s3://bucket/lake", Path("/home")))
    assert [is_url(t) for t in ("s3://b/x", "raw/*.jsonl", "file:///x", "C:/x", "gs://b")] == [1, 0, 0, 0, 1]
    with pytest.raises(ConfigError, match=r'"nothing://x/y" cannot be opened'):
        place("nothing://x/y")
    for wrong in ("s3://", "s3:/bucket/lake"):
        with pytest.raises(ConfigError, match="expected s3://bucket/folder"):
            place(wrong)
    with pytest.raises(LakeError, match="cannot hold a lake: expected a folder, or a store of"):
        Lake.open("http://example.org/lake")


def test_files_below_a_place(root, tmp_path):
    lake = Lake.open(root, create=True)
    for name in ("a/one.json", "a/two.parquet", "b/deep/one.json"):
        put(root / name, name.encode(), lake.scratch)

    def below(pattern):
        return sorted(p.relative_to(root).as_posix() for p in root.glob(pattern) if p.is_file())

    assert below("*/*.json") == ["a/one.json"]
    assert below("**/*.json") == ["a/one.json", "b/deep/one.json", "lake.json"]
    assert below("a/*") == ["a/one.json", "a/two.parquet"]
    assert below("a/one.json") == ["a/one.json"]
    assert sorted(p.name for p in root.iterdir() if p.name not in ("sums", "tmp")) == ["a", "b", "lake.json"]
    assert (root / "a").is_dir()
    assert not (root / "c").is_dir()
    assert not (root / "a").is_file()
    there = presence(root / "a")
    assert (there(root / "a/one.json"), there(root / "a/none.json")) == (True, False)
    assert read_all([root / "a/one.json", root / "b/deep/one.json"]) == [b"a/one.json", b"b/deep/one.json"]
    assert isinstance(read_all([root / "none"])[0], FileNotFoundError)
    assert pickle.loads(pickle.dumps(root / "a")) == root / "a"
    take_back(root / "b")
    assert below("b/**/*") == []
    assert str(root / "a" / "one.json").endswith("/lake/a/one.json")


def test_files_are_replaced_copied_and_grow(root, tmp_path):
    lake = Lake.open(root, create=True)
    one = put(root / "one", b"old", lake.scratch)
    before = version_of(one)
    put(one, b"newer", lake.scratch)
    assert version_of(one) != before
    publish_link(root / "two", one, lake.scratch)
    publish_link(tmp_path / "out" / "three", one, tmp_path / "out")
    assert (root / "two").read_bytes() == (tmp_path / "out" / "three").read_bytes() == b"newer"
    assert local(one).read_bytes() == b"newer"
    assert sorted(p.name for p in local_folder(root).iterdir() if p.is_file()) == ["lake.json", "one", "two"]
    log = GrowingFile(root / "log.jsonl", lake.scratch)
    log.append("1\n")
    log.append("2\n")
    log.show()
    assert (root / "log.jsonl").read_text() == "1\n2\n"
    with one.open("rb") as file:
        assert (file.read(2), file.seek(1), file.read()) == (b"ne", 1, b"ewer")


def test_a_store_that_fails_is_no_damage(tmp_path, monkeypatch):
    lake = Lake.open(f"memory://{tmp_path.name}/failing", create=True)
    lake.publish_table(lake.root / "t.parquet", pa.table({"a": [1]}))

    def lost(self, *_, **__):
        raise ConnectionError("connection reset")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", lost)
    monkeypatch.setattr(MemoryFileSystem, "_open", lost)
    for read in (lake.table, read_json):
        with pytest.raises(StoreError, match=r't\.parquet" cannot be reached \(connection reset\)'):
            read(lake.root / "t.parquet")


def test_inputs_of_a_place(root):
    lake = Lake.open(root, create=True)
    for name in ("raw/a.jsonl", "raw/deep/b.jsonl", "raw/c.txt", "raw/.d.jsonl"):
        put(root / name, b"{}", lake.scratch)
    found = list_inputs([f"{root}/raw/**/*.jsonl", f"{root}/raw/c.txt"], Path())
    assert [(f.name, f.below, f.size) for f in found] == [
        (f"{root}/raw/a.jsonl", "a.jsonl", 2),
        (f"{root}/raw/c.txt", "c.txt", 2),
        (f"{root}/raw/deep/b.jsonl", "deep/b.jsonl", 2),
    ]
    with pytest.raises(ConfigError, match="matches no"):
        list_inputs([f"{root}/raw/*.csv"], Path())
