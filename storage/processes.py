"""Which process is which: what a record or the name of a file says of one, and whether that one still runs.

A number alone says little. The system gives it again, every container begins at 1, and machines share a disk. So a
process is known by its number, the namespace that numbers it, when it began, and the boot of its kernel. Linux tells
these in /proc; elsewhere, and for what an older tamis wrote, host and number are all there is.
"""

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from .locks import is_held

HOST = platform.node().replace("~", "-").replace("/", "-")
_PROC = Path("/proc")
_MACHINE = Path("/etc/machine-id")
_MOST = 1 << 31
_GONE = ("Z", "X")
"""States of a process that has ended and that nobody has asked about yet: in a container perhaps nobody ever will."""


class Process(NamedTuple):
    """A process, as anybody who finds its name later can tell it from others."""

    host: str
    pid: int
    start: int = 0
    """When it began, in ticks since the boot; 0: not known, as all that follows."""
    space: str = ""
    """The namespace of its number."""
    boot: str = ""
    machine: str = ""
    """Digests of the boot of its kernel, and of what names the machine for good, where something does."""

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Process":
        """Return the process that a record names: `host` and `pid`, and the rest below `process`."""
        return cls(found.get("host", HOST), found["pid"], **{k: found.get("process", {}).get(k, v) for k, v in _REST})

    @classmethod
    def named(cls, name: str) -> "Process | None":
        """Return the process that the name of a temporary file begins with, None where it names none."""
        host, _, rest = name.partition("~")
        pid, *more = rest.partition("~")[0].split(".")
        numbers = [pid, *more[:1]]
        if len(more) not in (0, 4) or not all(n.isascii() and n.isdecimal() for n in numbers):
            return None
        return cls(host, int(pid), int(more[0]), *more[1:]) if more else cls(host, int(pid))

    @property
    def name(self) -> str:
        """What the name of its temporary files begins with."""
        return f"{self.host}~{self.pid}.{self.start}.{self.space}.{self.boot}.{self.machine}"

    def record(self) -> dict[str, Any]:
        """Return what a record has of it, for `of`."""
        return {"host": self.host, "pid": self.pid, "process": {name: getattr(self, name) for name, _ in _REST}}

    def runs(self, holding: Path | None = None) -> bool | None:
        """Say whether it still runs; None: nobody can know here.

        That is so of another machine, and of another container but for who holds a lock on the file `holding`, which
        one kernel knows of all its containers. What ran on this very machine before it was started again is gone.
        """
        here = this_process()
        if self.boot and here.boot:
            if self.boot != here.boot:
                return False if self.machine and (self.machine, self.host) == (here.machine, here.host) else None
            if self.space != here.space:
                return is_held(holding) if holding else None
            return _began(self.pid) in (self.start, 0)  # 0: there is one of another user, who may hide more of it
        return _began(self.pid) is not None if self.host == here.host else None


_REST = tuple((name, Process._field_defaults[name]) for name in ("start", "space", "boot", "machine"))


def this_process() -> Process:
    """Return the process that asks: after a fork it is another one."""
    return _known(os.getpid())


@lru_cache(1)
def _known(pid: int) -> Process:
    try:
        if str((_PROC / "self").readlink()) != str(pid):  # what is mounted there belongs to another namespace
            return Process(HOST, pid)
        space = str((_PROC / "self" / "ns" / "pid").readlink()).strip("pid:[]")
        boot = _digest(_PROC / "sys" / "kernel" / "random" / "boot_id")
        start = _began(pid)
    except OSError:
        return Process(HOST, pid)
    machine = ""
    with suppress(OSError):
        machine = _digest(_MACHINE)
    return Process(HOST, pid, start or 0, space, boot, machine)


def _digest(path: Path) -> str:
    """Name what a file says, in as few letters as tell it apart; "" where it says nothing."""
    content = path.read_bytes().strip()
    return blake2b(content, digest_size=4).hexdigest() if content else ""


def _began(pid: int) -> int | None:
    """Return when a process of this namespace began, 0 where nobody says, None where there is none."""
    if not 0 < pid < _MOST:  # no number of a process: `kill` takes some of these for whole groups
        return None
    with suppress(OSError, ValueError, IndexError):
        state, *fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if state in _GONE else int(fields[18])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0


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
