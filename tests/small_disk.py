"""A real disk of some megabytes, in memory, and what fills it; where mounting is refused, a test is skipped."""

import os
import subprocess
from contextlib import contextmanager

import pytest
from tamis.pipelines import cli
from tamis.pipelines.runs import RunLog

LEFT = 8192
"""What a full disk has still: room for two small files."""


@contextmanager
def small_disk(folder, n_bytes):
    """Mount a file system of so many bytes on a new folder; unmount it whatever happens."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes},mode=755", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def free(folder):
    """Return how many bytes can be written."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(folder, leave=0):
    """Take all room but `leave` bytes."""
    with (folder / "filler").open("ab") as file:
        if (n_bytes := free(folder) - leave) > 0:
            os.posix_fallocate(file.fileno(), file.tell(), n_bytes)


def make_room(folder):
    """Give back what `fill` took."""
    (folder / "filler").unlink(missing_ok=True)


def remount(folder, how):
    """Mount it anew, `ro` or `rw`."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


class Filler:
    """Fills a disk at the begin of the first stage that `wanted` picks, once an attempt."""

    def __init__(self, monkeypatch, disk, wanted):
        self.at, self.met, self._disk, self._wanted = None, set(), disk, wanted
        stage = RunLog.stage

        @contextmanager
        def filling(log, name):
            with stage(log, name) as begun:
                where = (log.record.flow, name, len(log.record.stages))
                if self.at is None and self._wanted(where) and where not in self.met:
                    self.at = where
                    self.met.add(where)
                    fill(self._disk, LEFT)
                yield begun

        monkeypatch.setattr(RunLog, "stage", filling)

    def attempt(self, *commands):
        """Run commands until one fails; return how it ended."""
        self.at = None
        try:
            for command in commands:
                with pytest.raises(SystemExit) as ended:
                    cli.main([*command, "--no-prefect", "-q"])
                if ended.value.code not in (0, 3):
                    return ended.value.code
            return 0
        finally:
            make_room(self._disk)
