"""How much memory this process may have, the most that it had, and how it gives back what it no longer needs.

What it may have is the machine's memory, or less where a cgroup says so (v2 or v1: a container, a systemd unit, a batch
job), the smallest of those that it is in. What others use meanwhile does not count: the same machine gives the same
number every time.

Arrow's own allocator and the C library keep what threads freed for those same threads, and every stage has new ones: a
flow over 1 GB peaked at 953 MB. With Arrow on the C library's allocator, an arena a worker instead of eight a
processor, and what is free returned after every stage, the same flow takes as long.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

_CGROUPS = "sys/fs/cgroup"
_FILES = {"": ("memory.max", "memory.high"), "memory": ("memory.limit_in_bytes",)}
"""By the controller in /proc/self/cgroup: v2 has one tree for all of them, v1 one for memory."""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h
_LARGE = 1 << 20


def memory_there(root: Path = Path("/")) -> int:
    """Return the bytes of memory that processes of this machine or container may use."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits of all cgroups that this process is in, and those around them."""
    for line in _lines(root / "proc/self/cgroup"):
        controllers, _, path = line.partition(":")[2].partition(":")
        kind = "memory" if "memory" in controllers.split(",") else controllers
        if kind in _FILES:
            inside = PurePosixPath(path.lstrip("/"))  # where a container does not see it so, its root has the limit
            for folder in (inside, *inside.parents):
                for name in _FILES[kind]:
                    for value in _lines(root / _CGROUPS / kind / folder / name):
                        # v2 says max where there is none, v1 a number beyond any machine
                        if value.isascii() and value.isdecimal():
                            yield int(value)


def peak_resident() -> int:
    """Return the most bytes that this process has had in memory."""
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):  # `ru_maxrss` may be that of the process that began this one
            return int(line.split()[1]) << 10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def keep_little(threads: int) -> None:
    """Keep less of what is freed, from now on and in the whole process; the environment's own settings stay.

    `threads` is how many work at a time. Without glibc nothing is done.
    """
    if library := _glibc():
        if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
            pa.set_memory_pool(pa.system_memory_pool())
        if "MALLOC_ARENA_MAX" not in os.environ:
            library.mallopt(_M_ARENA_MAX, max(2, threads))
        if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
            library.mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Return what is free to the operating system."""
    pa.default_memory_pool().release_unused()
    if library := _glibc():
        library.malloc_trim(0)


@lru_cache(1)
def _glibc() -> Any:
    """Return the C library where it is glibc, else None."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        if library.gnu_get_libc_version and library.mallopt and library.malloc_trim:
            return library
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
