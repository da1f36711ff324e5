"""Which processes a process began, where the system tells it in /proc."""

from contextlib import suppress
from pathlib import Path


def children(parent: int, name: str) -> list[int]:
    """Return the processes that a process began and whose command has `name` in it; none where there is no /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is gone
            above = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            called = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            if above == parent and name in called.rpartition("/")[2]:
                found.append(int(folder.name))
    return found
