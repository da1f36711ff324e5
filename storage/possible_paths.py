"""Texts that cannot be paths: a whole document as an argument would else fail wherever it is looked for."""

import os
from pathlib import Path

from .errors import ConfigError

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes, on Linux and macOS."""


def possible(path: Path) -> Path:
    """Return a path, as it is where it is one in a store. Raises ConfigError for what no file can be called."""
    if isinstance(path, Path):
        whole = os.fsencode(path)
        if b"\0" in whole or len(whole) > LONGEST_PATH or max(map(len, whole.split(b"/"))) > LONGEST_NAME:
            raise ConfigError(f"{str(path)[:80]!r}… is no path: too long, or with a NUL in it; name a file or folder")
    return path
