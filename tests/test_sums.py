"""The digests of a lake's files: what they find, and where a flipped bit is put back."""

import random
import shutil
from pathlib import Path

import pytest
from tamis.pipelines.cleaning import clean
from tamis.pipelines.keep_entry import Keep
from tamis.storage import sweeping
from tamis.storage.correcting import flipped_bit
from tamis.storage.lake import Lake
from tamis.storage.publish import take_back
from tamis.storage.references import KINDS
from tamis.storage.sums import gather, journals, note_gone, read_sums, sum_of, sum_of_bytes
from tamis.storage.verify import verify


@pytest.mark.parametrize("size", [1, 2, 3, 100, 70_000])
def test_a_flipped_bit_is_put_back_wherever_it_is(size):
    rng = random.Random(size)
    whole = rng.randbytes(size)
    for place in {0, 8 * size - 1, *(rng.randrange(8 * size) for _ in range(20))}:
        data = bytearray(whole)
        data[place >> 3] ^= 1 << (place & 7)
        assert flipped_bit(bytes(data), [sum_of_bytes(b"other"), sum_of_bytes(whole)]) == whole


def test_what_is_no_flipped_bit_is_not_put_back():
    whole = random.Random(0).randbytes(500)
    two = bytes([whole[0] ^ 1, whole[1] ^ 1, *whole[2:]])
    assert flipped_bit(two, [sum_of_bytes(whole)]) is None
    assert flipped_bit(whole[:-1], [sum_of_bytes(whole)]) is None


@pytest.fixture
def lake(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    for i in range(3):
        lake.publish_bytes(lake.root / "plans" / f"{i}.json", b"%d" % i)
    return lake


def test_any_bit_of_a_journal_is_found_and_the_others_are_still_known(lake):
    (journal,) = journals(lake.root)
    before, known = journal.read_bytes(), read_sums(lake.root).files
    for place in range(0, 8 * len(before), 29):
        data = bytearray(before)
        data[place >> 3] ^= 1 << (place & 7)
        journal.write_bytes(data)
        found = read_sums(lake.root)
        assert list(found.damaged) == [f"sums/{journal.name}"] and found.files == known


def test_torn_and_foreign_lines_cost_themselves(lake):
    (journal,) = journals(lake.root)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"nonsense\n" + lines[1] + lines[2][:20])
    assert set(read_sums(lake.root).files) == {"plans/0.json", "plans/1.json"}


def test_gathering_keeps_what_is_there(lake):
    path = lake.root / "plans" / "0.json"
    lake.publish_bytes(path, b"again")
    assert len(read_sums(lake.root).files["plans/0.json"]) == 2
    take_back(lake.root / "plans" / "1.json")
    gather(lake.root)
    assert read_sums(lake.root).files == {
        "plans/0.json": [sum_of(path)], "plans/2.json": [sum_of(lake.root / "plans" / "2.json")]
    }  # fmt: skip
    lake.publish_bytes(path, b"once more")
    assert len(journals(lake.root)) == 2 and sum_of(path) in read_sums(lake.root).files["plans/0.json"]


@pytest.mark.parametrize("killed_at", [1, 2])
@pytest.mark.parametrize("name", ["!.txt", "~.txt"])
def test_who_is_killed_as_journals_are_gathered_makes_nothing_missing(lake, monkeypatch, killed_at, name):
    """One journal says of a file that it is there, one that it went; either may be the first to go."""
    (published,) = journals(lake.root)
    published.rename(published.with_name(name))
    gone = lake.root / "plans" / "1.json"
    note_gone(lake.root, ["plans/1.json"])
    gone.unlink()
    assert len(journals(lake.root)) == 2 and list(verify(lake)) == []
    unlink, count = Path.unlink, 0

    def killed(self, missing_ok=False):
        nonlocal count
        count += 1
        if count == killed_at:
            raise KeyboardInterrupt
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            gather(lake.root)
    assert len(journals(lake.root)) == 4 - killed_at
    assert list(verify(lake)) == []
    for _ in range(2):
        gather(lake.root)
        assert list(verify(lake)) == []
    assert "plans/1.json" not in read_sums(lake.root).files and len(journals(lake.root)) == 1


def test_gathering_forgets_nothing_that_is_missing(lake):
    (lake.root / "plans" / "1.json").unlink()
    gather(lake.root)
    gather(lake.root)
    assert [Path(damage.file).name for damage in verify(lake)] == ["1.json"]


def test_clean_forgets_the_mixtures_and_runs_whose_folders_somebody_removed(lake):
    names = [
        "mixtures/m/k/manifest.json",
        "mixtures/m/k/a.bin",
        "mixtures/m/l/a.bin",
        "mixtures/m/l/b.bin",
        "runs/2/a.txt",
    ]
    for name in names:
        lake.publish_bytes(lake.root / name, b"{}")
    shutil.rmtree(lake.root / "mixtures/m/k")
    shutil.rmtree(lake.root / "runs/2")
    (lake.root / "mixtures/m/l/b.bin").unlink()
    assert len(list(verify(lake))) == 4
    clean(lake, Keep())
    assert [Path(damage.file).name for damage in verify(lake)] == ["b.bin"]


def test_who_is_killed_before_a_new_file_has_its_name_leaves_none_that_is_missed(lake, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        lake.publish_bytes(lake.root / "plans" / "new.json", b"{}")
    assert list(verify(lake)) == []


def test_a_line_that_comes_as_the_journals_are_gathered_is_in(lake, monkeypatch):
    opened, gathered = Path.open, []

    def opening(path, mode="r", *args, **options):
        file = opened(path, mode, *args, **options)
        if mode == "ab" and not gathered:
            gathered.append(gather(lake.root))
        return file

    monkeypatch.setattr(Path, "open", opening)
    lake.publish_bytes(lake.root / "plans" / "0.json", b"9")
    assert gathered and list(verify(lake)) == []


def test_a_full_disk_does_not_keep_files_from_being_removed(lake, monkeypatch):
    noted, names = [], ["plans/0.json", "plans/1.json"]

    def full(root, names):
        noted.append([(root / name).exists() for name in names])
        if len(noted) == 1:
            raise OSError(28, "No space left on device")
        note_gone(root, names)

    monkeypatch.setattr(sweeping, "note_gone", full)
    (plans,) = (kind for kind in KINDS if kind.name == "plans")
    sweeping.remove(lake, [sweeping.Artefact("plans", name, (name,), 1, 0.0, 0.0, plans) for name in names])
    assert noted == [[True, True], [False, False]] and list(verify(lake)) == []


def test_what_lies_elsewhere_is_not_noted(lake, tmp_path):
    lake.publish_bytes(tmp_path / "elsewhere.json", b"x")
    assert all("elsewhere" not in name for name in read_sums(lake.root).files)


def test_what_a_run_replaces_publishes_and_removes_meanwhile_is_no_damage(lake, monkeypatch):
    """Each happens when verify has read the journals: it looks again before it calls anything damaged."""
    read = []

    def then_a_run(root):
        found = read_sums(root)
        if not read:
            read.append(1)
            lake.publish_bytes(lake.root / "plans" / "0.json", b"7")
            lake.publish_bytes(lake.root / "plans" / "new.json", b"8")
            take_back(lake.root / "plans" / "1.json")
        return found

    monkeypatch.setattr("tamis.storage.verify_sums.read_sums", then_a_run)
    assert list(verify(lake)) == [] and read
    (lake.root / "plans" / "2.json").write_bytes(b"by hand")
    (lake.root / "plans" / "new.json").unlink()
    assert [Path(damage.file).name for damage in verify(lake)] == ["2.json", "new.json"]
