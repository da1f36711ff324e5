"""One process of this machine at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import TamisError


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
