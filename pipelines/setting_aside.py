"""Damaged files out of the way of the runs that make them again, and back where none of them did.

What a run finds it does not make again, so a damaged file has to go before; but who cannot make it again may still want
what is left of it. Aside means a folder in the lake's `tmp/`. After a kill the next repair puts back what lies there.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self, cast

from ..storage.lake import SET_ASIDE, Lake, stale
from ..storage.places import is_local
from ..storage.publish import temporary_path
from .damage import manifest_of


class Aside:
    """The files of one repair that are out of the way; on leaving they are put back unless they were given up.

    Names are paths below the lake's root. `back` gets those that were put back.
    """

    def __init__(self, lake: Lake, back: list[str]) -> None:
        self._lake, self._back = lake, back
        self._folder = temporary_path(lake.scratch, SET_ASIDE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._back += _put_back(self._lake, self._folder, _files_below(self._folder))

    def take(self, names: Iterable[str]) -> None:
        """Move files away, in this order: a manifest goes before what it says is there."""
        for name in names:
            _move(self._lake.root / name, self._folder / name)

    def give_up(self) -> None:
        """Remove all that lies aside: what can be had again is there again."""
        shutil.rmtree(self._folder, ignore_errors=True)


def put_back_left(lake: Lake) -> list[str]:
    """Put back what repairs that were killed had set aside; return the names."""
    back = []
    for folder in stale(lake.scratch):
        if folder.name.endswith(f"~{SET_ASIDE}"):
            names = [name for name in _files_below(folder) if _leads_nowhere_else(lake, name)]
            back += _put_back(lake, folder, names)
    return back


def _put_back(lake: Lake, folder: Path, names: Iterable[str]) -> list[str]:
    """Put back the files of artefacts that nobody made again; manifests last, which say that the others are there."""
    back = list(_not_made_again(lake, names))
    for name in sorted(back, key=lambda name: name == manifest_of(name)):
        _move(folder / name, lake.root / name)
    shutil.rmtree(folder, ignore_errors=True)
    return sorted(back)


def _leads_nowhere_else(lake: Lake, name: str) -> bool:
    """Say whether no link in a lake, which may be somebody else's, leads a file out of it."""
    return not is_local(lake.root) or (lake.root / name).parent.resolve().is_relative_to(lake.root)


def _files_below(folder: Path) -> list[str]:
    """Return the names of the files below a folder; links are nothing that a repair put there."""
    found = []
    for inner, _, names in os.walk(folder) if not folder.is_symlink() else ():
        found += [Path(inner, name) for name in names]
    return sorted(path.relative_to(folder).as_posix() for path in found if not path.is_symlink())


def _not_made_again(lake: Lake, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        manifest = manifest_of(name)
        if not (lake.root / name).exists() and not (manifest and (lake.root / manifest).exists()):
            yield name


def _move(source: Path, target: Path) -> None:
    """Move a file as it is: nothing is noted of it, because it is not what was published."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_local(source) and is_local(target):
        shutil.move(source, target)  # a folder of mixtures may lie on another disk
    elif is_local(source):
        cast("Any", target).put(source)
        source.unlink()
    else:
        cast("Any", source).fetch(target)
        source.unlink()
