"""Files that one process makes and others look at: of two who try it, one has it, in a folder and in a store."""

import errno
import os
from pathlib import Path
from typing import Any, cast

from .disks import writing
from .locks import alone_in
from .places import is_local, version_of


def claim(path: Path, content: bytes, instead_of: str = "") -> str:
    """Make a file, or take over the version `instead_of` of it; return its version. Of two who try one does it.

    Raises FileExistsError for the other one.
    """
    if not is_local(path):
        from . import store_calls

        return store_calls.claim(cast("Any", path), content, instead_of)
    with alone_in(path.parent):
        if instead_of and _is_version(path, instead_of):
            path.unlink()
        with writing(path, path.parent, len(content)), path.open("xb", buffering=0) as file:
            try:
                file.write(content)
            except OSError:  # an empty claim would be nobody's
                path.unlink()
                raise
        return version_of(path)


def claim_again(path: Path, content: bytes, version: str) -> str:
    """Give a claimed file a new time; return its version. Raises FileExistsError where it is somebody else's now."""
    if not is_local(path):
        return claim(path, content, version)
    with alone_in(path.parent):
        if not _is_version(path, version):
            raise FileExistsError(errno.EEXIST, "is somebody else's by now", str(path))
        os.utime(path)
        return version_of(path)


def unclaim(path: Path, version: str) -> None:
    """Remove a claimed file, unless it is another version by now."""
    if not is_local(path):
        if _is_version(path, version):  # few stores can remove under a condition
            path.unlink(missing_ok=True)
        return
    with alone_in(path.parent):
        if _is_version(path, version):
            path.unlink()


def _is_version(path: Path, version: str) -> bool:
    try:
        return version_of(path) == version
    except FileNotFoundError:
        return False
