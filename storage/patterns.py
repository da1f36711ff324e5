"""Which files a pattern such as `raw/**/*.jsonl` matches: what `glob.glob` finds, without its two silences.

`glob` leaves out a folder that cannot be listed, and with it part of a corpus; here that is an error. And it goes round
a loop of links: with two links to the folder they are in it is at it for ever. Here a folder is not entered again below
itself. Other links to folders are followed.
"""

import errno
import glob
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from .disks import told

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""What a link to nothing says, one that leads to itself, and what somebody removed meanwhile."""

Folder = tuple[int, int]
"""Device and inode."""


def matching(pattern: str, root: Path) -> Iterator[str]:
    """Yield the names that a pattern matches, from `root` on where it is relative; of folders only what is in them.

    Raises DiskError for a folder that cannot be listed.
    """
    parts = tuple(part for part in pattern.split("/") if part)
    yield from _below("/" if pattern.startswith("/") else "", parts, root)


def status_of(path: Path) -> os.stat_result | None:
    """Look at a file; None where there is none. Raises DiskError where that cannot be told."""
    try:
        with told(path):
            return path.stat()
    except OSError:
        return None


def _below(found: str, parts: tuple[str, ...], root: Path) -> Iterator[str]:
    if not parts:
        yield found
        return
    first, *rest = parts
    if first == "**":
        yield from _everywhere(found, tuple(rest), root, ())
    elif glob.has_magic(first):
        for entry in _entries(root / found):
            if fnmatchcase(entry.name, first) and not (_is_hidden(entry.name) and not _is_hidden(first)):
                yield from _entered(_inside(found, entry.name), tuple(rest), root, entry)
    else:
        yield from _below(_inside(found, first), tuple(rest), root)


def _everywhere(found: str, rest: tuple[str, ...], root: Path, above: tuple[Folder, ...]) -> Iterator[str]:
    """Go on with what follows `**` here and in every folder below."""
    status = status_of(root / found)
    if status is None or (here := (status.st_dev, status.st_ino)) in above:
        return
    yield from _below(found, rest or ("*",), root)
    for entry in _entries(root / found):
        if not _is_hidden(entry.name) and _is_folder(entry):
            yield from _everywhere(_inside(found, entry.name), rest, root, (*above, here))


def _entered(found: str, rest: tuple[str, ...], root: Path, entry: "os.DirEntry[str]") -> Iterator[str]:
    if not rest or _is_folder(entry):
        yield from _below(found, rest, root)


def _inside(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and not folder.endswith("/") else folder + name


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with told(folder), os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
