"""Free space is looked at before a stage writes: what cannot fit is refused, what may not fit is said."""

import pyarrow as pa
import pytest
import tamis
from small_disk import Filler, small_disk
from small_flow import STEPS, make_case
from tamis.pipelines import room
from tamis.pipelines.room import look_for_room, stage_room, table_bytes
from tamis.pipelines.runs import Stage, load_runs
from tamis.storage.errors import DiskError, LakeError
from tamis.storage.lake import Lake

MB = 1 << 20


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda folder: 10 * MB)
    return Lake.open(tmp_path / "lake", create=True)


def look(lake, **needs):
    said, stage = [], Stage("feature vectors")
    look_for_room(lake, stage, **{"about": 0, "exact": 0, "scratch": 0, **needs}, say=said.append)
    return stage.expected_bytes, said


def test_what_fits_is_not_spoken_of(lake):
    assert look(lake, about=4 * MB, exact=4 * MB, scratch=2 * MB) == (10 * MB, [])


def test_what_may_not_fit_is_said_and_begun(lake):
    expected, (said,) = look(lake, about=9_000 * MB)
    assert expected == 9_000 * MB
    assert said.startswith("feature vectors: takes about 9,437,184,000 bytes, and 10,485,760 are free in ")


@pytest.mark.parametrize("needs", [{"exact": 11 * MB}, {"scratch": 11 * MB}, {"about": 11_000 * MB}], ids=str)
def test_what_cannot_fit_is_refused_with_the_missing_bytes(lake, needs):
    with pytest.raises(DiskError, match=r'10,485,760 bytes are free in ".*/tmp", 1,048,576 more .*`tamis clean`'):
        look(lake, **needs)


def test_a_store_has_no_end_but_the_scratch_on_this_disk_has(lake, monkeypatch):
    monkeypatch.setattr(room, "is_local", lambda path: False)
    assert look(lake, about=90 * MB, exact=90 * MB) == (0, [])
    with pytest.raises(DiskError):
        look(lake, scratch=11 * MB)


def test_an_error_of_a_disk_says_what_the_stage_has_still_to_write(lake):
    stage = Stage("export mds", expected_bytes=5 * MB)
    told = r"^export mds: .* To its end the stage needs about 5,242,880 bytes$"
    with pytest.raises(DiskError, match=told), stage_room(lake, stage):
        raise OSError(28, "No space left on device", "/there")
    with pytest.raises(LakeError, match=r"^damaged$"), stage_room(lake, stage):
        raise LakeError("damaged")


def test_files_that_are_replaced_need_no_room_of_their_own(tmp_path):
    (tmp_path / "shard.00000.mds").write_bytes(bytes(300))
    assert room.left_to_write((0.0, 1_000.0), tmp_path) == (0.0, 700.0)
    assert room.left_to_write((200.0, 0.0), tmp_path / "none") == (200.0, 0.0)


def test_what_rows_take_goes_by_their_types():
    schema = pa.schema([("vector", pa.list_(pa.float32(), 256)), ("n", pa.int64()), ("name", pa.string())])
    assert table_bytes(schema, 1_000, 2) == 1_000 * (1024 + 8 + room.TEXT_BYTES) + 2 * room.FILE_BYTES


def test_a_run_of_which_the_texts_cannot_fit_ends_before_it_writes_them(tmp_path, monkeypatch):
    outputs = {"small": {"corpus": "web", "steps": STEPS[:2], "outputs": [{"format": "mds"}]}}
    config = make_case(tmp_path, flows=outputs)
    with small_disk(tmp_path / "disk", 40 * MB) as disk:
        lake = disk / "lake"
        filler = Filler(monkeypatch, disk, lambda where: where[1] == "export mds")
        assert filler.attempt(["run", "small", "-c", str(config), "--set", f"lake={lake}"]) == 1
        (failed,) = load_runs(Lake.open(lake))
        assert "export mds: nothing is begun, the disk is too small" in failed.error
        assert (failed.status, failed.stages[-1].name, failed.stages[-1].bytes) == ("failed", "export mds", 0)
        assert not list((lake / "mixtures").glob("*/*/*.mds"))
        done = tamis.run(config, "small", overrides=[f"lake={lake}"])
        assert done.record.stages[-1].bytes >= failed.stages[-1].expected_bytes > 0, "it is the least"
