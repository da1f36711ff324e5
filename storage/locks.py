"""One process of this machine at a time: locks that end with who holds them, whatever ended it."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import TamisError

WAIT_S = 0.2
"""Between two looks at a lock: a wait that a signal can end."""


@contextmanager
def held(path: Path, refusal: str) -> Iterator[IO[bytes]]:
    """Hold a lock that ends with this process; its file, which is emptied, may be written to.

    Raises TamisError with `refusal` where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TamisError(refusal) from None
        file.truncate(0)
        yield file


class Hold:
    """Hold a file, made where there is none, until `close` or until nobody has this, where the disk can do that."""

    _handle: int | None = None

    def __init__(self, path: Path) -> None:
        """Hold it from now on."""
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        with suppress(OSError):
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Let go."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    __del__ = close


def is_held(path: Path) -> bool | None:
    """Say whether a process of this kernel, in whatever container, holds a file; None where nothing tells."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for a moment, where the file system can do that; others who do this wait."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with alone_with(handle):
            yield
    finally:
        os.close(handle)


@contextmanager
def alone_with(handle: int) -> Iterator[None]:
    """Hold what is open for a moment, where the file system can do that; others who do this wait."""
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def only_one(folder: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Hold a folder, made where there is none, while others wait, who call `waiting` once; it may be removed meanwhile.

    A file system that cannot do that keeps nobody waiting.
    """
    handle = _held_folder(folder, waiting)
    try:
        yield
    finally:
        with suppress(OSError):  # it is not empty, or gone
            folder.rmdir()
        os.close(handle)


def _held_folder(folder: Path, waiting: Callable[[], object]) -> int:
    told = False
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            while not _is_ours(handle):
                if not told:
                    waiting()
                    told = True
                time.sleep(WAIT_S)
            if folder.exists() and os.path.samestat(os.fstat(handle), folder.stat()):
                return handle  # else who had it has removed it
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_ours(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
