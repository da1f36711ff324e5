"""What workers on other machines leave in a folder of the lake for the one who waits for it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .lake import Lake, scratch_folder
from .places import is_local


@contextmanager
def exchange_folder(lake: Lake) -> Iterator[Path]:
    """Yield a folder that all machines see, and that is gone afterwards.

    The scratch folder of a lake in an object store is of one machine, so there it is a prefix in the lake.
    """
    if is_local(lake.root):
        with scratch_folder(lake, "exchange") as folder:
            folder.mkdir()
            yield folder
        return
    prefix = lake.root / "tmp" / f"exchange-{uuid.uuid4().hex}"
    try:
        yield prefix
    finally:
        with suppress(OSError):  # what nobody took
            for path in prefix.glob("*"):
                path.unlink()


def left(folder: Path, data: bytes) -> Path:
    """Leave data under a name that nobody else has; return where."""
    path = folder / uuid.uuid4().hex
    path.write_bytes(data)
    return path


def taken(path: Path) -> bytes:
    """Return what was left, and remove it."""
    data = path.read_bytes()
    path.unlink()
    return data
