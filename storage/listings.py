"""What a lake holds by name, from one look at it: a walk through its folders, or one listing of a store.

Whoever asks many questions about names (`tamis clean`) asks them here, and not the disk or the store again for each.
"""

import os
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from .places import is_local, stats_below


class Held(NamedTuple):
    """A file, or a folder of this machine."""

    n_bytes: int
    """What becomes free when it goes: a file with another name somewhere takes nothing, nor does a folder."""
    seconds: float
    """Of the epoch, by the clock of the disk or the store."""


NOTHING = Held(0, 0.0)


class Listing:
    """The files below a place, and the folders that they lie in."""

    def __init__(self, files: dict[str, Held], folders: dict[str, Held]) -> None:
        self.files = files
        self.folders = folders
        """Those that are there without a file too, which no store has."""
        self._sorted = sorted(files)
        inside = {str(parent) for name in files for parent in PurePosixPath(name).parents}
        self._names: dict[str, list[str]] = defaultdict(list)
        for name in sorted({*files, *inside, *folders} - {"."}):
            self._names[name.partition("/")[0]].append(name)

    def glob(self, pattern: str) -> Iterator[str]:
        """Yield the names that match, sorted; a pattern begins with a name, and one that ends in / means folders."""
        is_wanted = _matching(pattern.rstrip("/"))
        names = filter(is_wanted, self._names[pattern.partition("/")[0]])
        return (name for name in names if name not in self.files) if pattern.endswith("/") else names

    def below(self, name: str) -> list[str]:
        """Return the files at or below a name, sorted."""
        if name in self.files:
            return [name]
        begin, end = (bisect_left(self._sorted, name + mark) for mark in ("/", "0"))  # "0" comes after "/"
        return self._sorted[begin:end]


def listing_of(root: Path, tops: Collection[str]) -> Listing:
    """Look at what lies below some folders of a place; files that go meanwhile are left out."""
    if not is_local(root):
        found = stats_below(root).items()
        return Listing({n: Held(s.size, s.mtime_ns / 1e9) for n, s in found if n.partition("/")[0] in tops}, {})
    files: dict[str, Held] = {}
    folders: dict[str, Held] = {}
    for top in tops:
        with suppress(OSError):
            if (root / top).is_file():
                files[top] = _held(root / top)
        for folder, _, names in os.walk(root / top):
            below = Path(folder).relative_to(root)
            with suppress(OSError):
                folders[below.as_posix()] = Held(0, Path(folder).stat().st_mtime)
            for name in names:
                with suppress(OSError):
                    files[(below / name).as_posix()] = _held(Path(folder, name))
    return Listing(files, folders)


def _held(path: Path) -> Held:
    status = path.stat()
    return Held(status.st_size if status.st_nlink == 1 else 0, status.st_mtime)


@cache
def _matching(pattern: str) -> Callable[[str], Any]:
    """Return what says whether a name matches: `*` and `?` stay inside a folder, `**/` is any number of them."""
    signs = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.findall(r"\*\*/|\[[^]]+\]|.", pattern)
    return re.compile("".join(signs.get(t, t if t[0] == "[" else re.escape(t)) for t in tokens)).fullmatch
