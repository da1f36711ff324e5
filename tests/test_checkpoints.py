"""Checkpoints: the newest whole one is read, whatever happened to the others."""

import numpy as np
import pytest
from tamis.storage import checkpoints
from tamis.storage.checkpoints import newest_checkpoint, publish_checkpoint
from tamis.storage.errors import LakeError


def tensors(step):
    return {"weights/a": np.arange(6, dtype=np.float32).reshape(2, 3).T + step, "moments/a": np.zeros(0, np.float32)}


@pytest.fixture
def publish(tmp_path):
    def one(step):
        publish_checkpoint(tmp_path / "run", tmp_path / "tmp", step, tensors(step), {"loss": [0.1 + step, None]})

    one.folder = tmp_path / "run"
    return one


def newest_is(folder, step):
    found = newest_checkpoint(folder)
    assert found.step == step and found.rest == {"loss": [0.1 + step, None]}
    assert {n: a.tolist() for n, a in found.tensors.items()} == {n: a.tolist() for n, a in tensors(step).items()}
    return True


def test_the_two_newest_are_kept(publish):
    assert newest_checkpoint(publish.folder) is None
    for step in (5, 10, 15, 100):
        publish(step)
        assert newest_is(publish.folder, step)
    names = [f"step-{step:09d}.{suffix}" for step in (15, 100) for suffix in ("json", "safetensors")]
    assert sorted(path.name for path in publish.folder.iterdir()) == names
    publish(50)  # after going back to 15: what comes after is of another past
    assert [path.stem[-3:] for path in sorted(publish.folder.glob("*.json"))] == ["015", "050"]


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_damaged_one_is_never_loaded(publish, suffix):
    publish(1)
    publish(2)
    path = publish.folder / f"step-000000002.{suffix}"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert newest_is(publish.folder, 1)
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        assert newest_is(publish.folder, 1)
    path.unlink()
    assert newest_is(publish.folder, 1)
    path.write_bytes(whole)
    assert newest_is(publish.folder, 2)


def test_where_all_are_damaged_it_says_so(publish):
    publish(1)
    (publish.folder / "step-000000001.safetensors").write_bytes(b"")
    with pytest.raises(LakeError, match="no checkpoint that is whole"):
        newest_checkpoint(publish.folder)


def test_the_manifest_comes_last(publish, monkeypatch):
    publish(1)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(checkpoints, "publish_json", full_disk)
        publish(2)
    assert (publish.folder / "step-000000002.safetensors").exists()
    assert newest_is(publish.folder, 1)
    publish(3)
    assert sorted({path.stem[-1] for path in publish.folder.iterdir()}) == ["1", "3"]


def full_disk(*_):
    raise OSError("the disk is full")
