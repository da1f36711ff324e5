"""What is free on a disk, and what a disk refuses, as one error: where, how much is free and how much is missing.

Each library says it in its own way. Python and Arrow raise OSError (Arrow's without the path), DuckDB, Polars and
safetensors exceptions of their own with the system's words in them, and DuckDB's spill speaks of memory. They are told
by the system's number where there is one, else by those words. Where it is known how large a file will be, the bytes
that are missing are said; else that it is a block at least.
"""

import errno
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import DiskError, TamisError

BLOCK_BYTES = 4096
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota on that disk is used up",
    errno.EFBIG: "the file is larger than the file system or `ulimit -f` allows",
}
_REFUSED = {
    errno.EROFS: ("cannot be written: the file system is read-only", "mount it for writing, or name another place"),
    errno.EACCES: ("may not be used: permission denied", "get the right to it, or name another place"),
    errno.EPERM: ("may not be used: operation not permitted", "get the right to it, or name another place"),
    errno.EIO: (
        "cannot be read or written: input/output error",
        "look into the system's log for its disk; `tamis verify` says what of a lake is damaged",
    ),
    errno.EMFILE: ("cannot be opened: too many files are open", "raise `ulimit -n`"),
}
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "failed to offload data block": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "Input/output error": errno.EIO,
}
_LIBRARIES = {"duckdb", "_duckdb", "polars", "safetensors", "pyarrow", "builtins"}


def free_bytes(folder: Path) -> int:
    """Return what this user may still write to the disk that a folder is on, or would be on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def writing(path: Path, folder: Path, n_bytes: int | None = None, temporary: Path | None = None) -> Iterator[None]:
    """Turn what a full disk raises, whatever the library, into a DiskError that names `path` and the missing bytes.

    `folder` is on the disk that fills; `n_bytes` is how large the file will be, `temporary` what of it is there.
    """
    try:
        yield
    except DiskError:
        raise
    except Exception as error:
        if (number := _number(error, FULL)) is None:
            raise
        written = temporary.stat().st_size if temporary and temporary.is_file() else 0
        raise DiskError(_full(number, path, folder, None if n_bytes is None else n_bytes - written)) from error


def disk_error(error: BaseException, folder: Path | None = None) -> DiskError | None:
    """Return an error as one of a disk, None where it is none; a path that it does not name is taken to be `folder`.

    What tamis raised on purpose stays as it is, but where a full disk was the cause.
    """
    if isinstance(error, DiskError):
        return error
    number = _number(error, FULL if isinstance(error, TamisError) else [*FULL, *_REFUSED])
    path = _path(error) or folder
    if number is None or path is None:
        return None
    if number in FULL:
        return DiskError(_full(number, path, folder or path, None))
    what, advice = _REFUSED[number]
    return DiskError(f'"{path}" {what}; {advice}. What is finished is kept')


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn what a disk refuses into a DiskError, which names `folder` where nothing else is known."""
    try:
        yield
    except Exception as error:
        found = disk_error(error, folder)
        if found is None or found is error:
            raise
        raise found from error


def _full(number: int, path: Path, folder: Path, n_bytes: int | None) -> str:
    free = free_bytes(folder)
    missing = f"{BLOCK_BYTES:,} more are" if n_bytes is None else f"about {max(BLOCK_BYTES, n_bytes - free):,} more are"
    free_there = f'{free:,} bytes are free in "{folder}", {missing} needed' + (" at least" if n_bytes is None else "")
    advice = "free some (`tamis clean` removes what nothing in a lake needs), or put the lake on a larger disk"
    return f'"{path}" cannot be written, {FULL[number]}: {free_there}; {advice}. What is finished is kept'


def _number(error: BaseException, among: Collection[int]) -> int | None:
    """Return the system's number for what a disk refused, also where the error was raised from that one."""
    seen: BaseException | None = error
    while seen is not None:
        number = getattr(seen, "errno", None) if isinstance(seen, OSError) else None
        if number is None and type(seen).__module__.partition(".")[0] in _LIBRARIES:
            said = str(seen)
            number = next((found for words, found in _WORDS.items() if words in said), None)
        if number in among:
            return number
        seen = seen.__cause__
    return None


def _path(error: BaseException) -> Path | None:
    """Return the path that an error names: Python's own in a field, DuckDB's in quotes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(name := getattr(seen, "filename", None), (str, os.PathLike)) and os.fspath(name):
            return Path(name)
        if found := re.search(r'"(/[^"\n]*?)\\?"', str(seen)):
            return Path(found[1])
        seen = seen.__cause__
    return None


class Reserve:
    """Room that is kept from others while a run goes on, so that the record of one that fills the disk can be written.

    A disk that has not so much left has no reserve: then the run fails as soon as it writes more.
    """

    def __init__(self, path: Path, n_bytes: int) -> None:
        self._path = path
        with suppress(OSError), path.open("xb") as file:
            getattr(os, "posix_fallocate", lambda *_: None)(file.fileno(), 0, n_bytes)

    def release(self) -> None:
        """Give it back."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
