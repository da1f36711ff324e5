"""What a process and a folder take of a machine: resident memory, and bytes on disk."""

import gc
import os
from contextlib import suppress
from pathlib import Path

from .memory_limits import give_back, peak_resident

_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Return the memory that this process has now; where the system does not say, the most that it ever had."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE
    except OSError:
        return peak_resident()


def folder_bytes(folder: Path) -> int:
    """Return the sizes of all files in a folder, each once whatever names it has."""
    sizes: dict[int, int] = {}
    waiting = [folder]
    while waiting:
        with suppress(OSError):  # it may go meanwhile
            for entry in os.scandir(waiting.pop()):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    with suppress(OSError):
                        sizes[entry.inode()] = entry.stat(follow_symlinks=False).st_size
    return sum(sizes.values())


def release_memory() -> None:
    """Give back what is free, so that the memory of what comes next is its own."""
    gc.collect()
    give_back()
