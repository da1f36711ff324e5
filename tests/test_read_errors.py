"""Files that a disk does not give, do not end, or are none: nothing hangs, and no corpus becomes shorter in silence."""

import errno
import io
import os
import re
import tempfile
from pathlib import Path

import pytest
import tamis
from small_flow import chosen, documents, make_case, write_jsonl
from tamis.pipelines import cli
from tamis.storage import published
from tamis.storage.errors import ConfigError, DiskError, InputError, LakeError, TamisError
from tamis.storage.inputs import list_inputs
from tamis.storage.verify import verify


class Failing(io.FileIO):
    """A file on a disk that fails after some bytes."""

    left = 0

    def readinto(self, buffer):
        if self.left <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.left -= len(buffer)
        return super().readinto(buffer)


def failing_disk(monkeypatch, name, after, times):
    """Let reading a file fail after some bytes, the first times that it is opened."""
    opened, left = Path.open, [times]

    def opening(path, mode="r", *args, **options):
        if path.name != name or "b" not in mode or left[0] == 0:
            return opened(path, mode, *args, **options)
        left[0] -= 1
        file = Failing(path, "rb")
        file.left = after
        return io.BufferedReader(file, 1 << 12)

    monkeypatch.setattr(Path, "open", opening)


@pytest.mark.parametrize(("after", "times"), [(0, 9), (20_000, 9), (0, 1)], ids=["at once", "halfway", "the digest"])
def test_a_raw_file_that_the_disk_does_not_give_is_named_and_read_by_the_next_run(tmp_path, monkeypatch, after, times):
    config = make_case(tmp_path)
    whole = tamis.run(config, "small", overrides=["lake=whole"])
    with monkeypatch.context() as patched:
        failing_disk(patched, "part-1.jsonl", after, times)
        broken = tamis.run(config, "small", workers=1)
    assert broken.exit_code == 3
    assert any(re.search(r"1 files of web could not be read to the end \(raw/part-1\.jsonl\): none", w)
               for w in broken.record.warnings)  # fmt: skip
    assert broken.record.counts["documents"] == 200, "no part of a file is in"
    again = tamis.run(config, "small")
    assert again.exit_code == 0
    assert chosen(again) == chosen(whole)
    assert list(verify(again.lake)) == []


def test_with_on_bad_fail_such_a_file_ends_the_run(tmp_path, monkeypatch):
    config = make_case(tmp_path)
    failing_disk(monkeypatch, "part-1.jsonl", 20_000, 9)
    with pytest.raises(InputError, match=r"part-1\.jsonl: cannot be read: Input/output error"):
        tamis.run(config, "small", overrides=["corpora.web.on_bad=fail"])


@pytest.mark.parametrize("folder", ["corpora/web/shards", "features", "scores", "selections"])
def test_a_file_of_the_lake_that_the_disk_does_not_give_is_named_with_what_tells_more(tmp_path, monkeypatch, folder):
    config = make_case(tmp_path)
    lake = tamis.run(config, "small").lake
    steps = {"selections": "clean.filter.too_short=stats.n_words >= 6", "scores": "like_code.cut.budget.tokens=10%"}
    change = steps.get(folder, "like_code.cut.budget.tokens=10%")
    path = sorted((lake.root / folder).rglob("*.parquet"))[0]
    given, failed = published.published_source, []

    def source(asked):
        if (lake.root / folder) not in asked.parents:
            return given(asked)
        failed.append(asked)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(published, "published_source", source)
        with pytest.raises(LakeError, match=r"(?i)input/output error.*`tamis (verify|repair)`") as error:
            tamis.run(config, "small", overrides=[f"flows.small.steps.{change}"])
    assert f'"{failed[0]}"' in str(error.value) and path.exists()
    assert tamis.run(config, "small", overrides=[f"flows.small.steps.{change}"]).record.status == "done"


def test_a_raw_file_that_is_cut_off_or_goes_while_it_is_read_gives_no_part_of_itself(tmp_path, monkeypatch):
    config = make_case(tmp_path)
    whole = tamis.run(config, "small", overrides=["lake=whole"])
    path = tmp_path / "raw" / "part-1.jsonl"
    content, status = path.read_bytes(), path.stat()
    for change in (lambda: os.truncate(path, 1_000), path.unlink):
        opened = Path.open

        def opening(found, mode="r", *args, opened=opened, change=change, **options):
            file = opened(found, mode, *args, **options)
            if found == path and "b" in mode and options:  # the reader, which asks for a large buffer
                file.read(1), file.seek(0)
                change()
            return file

        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", opening)
            broken = tamis.run(config, "small", workers=1)
        assert broken.exit_code == 3
        assert broken.record.counts["documents"] == 200
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = tamis.run(config, "small")
    assert (again.exit_code, chosen(again)) == (0, chosen(whole))


def test_links_that_lead_in_circles_end(tmp_path):
    write_jsonl(tmp_path / "raw" / "deep" / "a.jsonl", documents(3))
    for name in ("one", "two", "three"):
        (tmp_path / "raw" / name).symlink_to(tmp_path / "raw")
        (tmp_path / "raw" / "deep" / name).symlink_to("..")
    (tmp_path / "raw" / "itself.jsonl").symlink_to("itself.jsonl")
    (found,) = list_inputs(["raw/**/*.jsonl"], tmp_path)
    assert found.path.resolve() == tmp_path / "raw" / "deep" / "a.jsonl"


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    write_jsonl(tmp_path / "raw" / "a.jsonl", documents(3))
    os.mkfifo(tmp_path / "raw" / "pipe.jsonl")
    (tmp_path / "raw" / "zero.jsonl").symlink_to("/dev/zero")
    assert [f.name for f in list_inputs(["raw/*"], tmp_path)] == ["raw/a.jsonl"]
    for name in ("raw/pipe.jsonl", "raw/zero.jsonl", "/dev/zero"):
        with pytest.raises(ConfigError, match="is no regular file but a pipe, a socket or a device"):
            list_inputs([name], tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch, capsys, number):
    config = make_case(tmp_path, corpora={"web": {"files": ["raw/**/*.jsonl"]}})
    write_jsonl(tmp_path / "raw" / "more" / "b.jsonl", documents(3, seed=1))
    scanned = os.scandir

    def scandir(folder):
        if Path(folder).name == "more":
            raise OSError(number, os.strerror(number), str(folder))
        return scanned(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DiskError, match=re.escape(str(tmp_path / "raw" / "more"))):
        list_inputs(["raw/**/*.jsonl"], tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["ingest", "web", "-c", str(config), "-q"])
    assert ended.value.code == 1
    assert f'"{tmp_path / "raw" / "more"}"' in capsys.readouterr().err
    assert not (tmp_path / "lake" / "corpora").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read a file")
def test_files_that_may_not_be_read_are_named_and_a_lake_that_may_not_be_written_too():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        config = make_case(folder)
        (folder / "raw" / "part-2.jsonl").chmod(0)
        (folder / "lake").mkdir()
        os.seteuid(65534)
        try:
            with pytest.raises(TamisError, match=rf'"{folder}/lake".*[Pp]ermission denied'):
                tamis.ingest(config, "web")
            os.seteuid(0)
            (folder / "lake").chmod(0o777)
            os.seteuid(65534)
            run = tamis.ingest(config, "web")
        finally:
            os.seteuid(0)
        assert run.exit_code == 3
        assert "part-2.jsonl" in " ".join(run.record.warnings)
        (reasons,) = tamis.sql(run.lake, "select reason from quarantine").fetchall()
        assert reasons == ("cannot be read: Permission denied",)
