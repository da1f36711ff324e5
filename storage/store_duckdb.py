"""What DuckDB reads from an object store: through fsspec, with no extension, and nothing is downloaded at run time.

DuckDB asks a file system five times for the size of a file that it reads once, and looks for each name of a list. The
files of a lake never change, so here a size is asked once, and a name that was given is there.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from fsspec import AbstractFileSystem

from .store_paths import StorePath


class Published(AbstractFileSystem):  # type: ignore[misc]
    """The published files of one store, to be read."""

    cachable = False

    def __init__(self, root: StorePath) -> None:
        super().__init__()
        self.protocol = root.protocol

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the name that was given."""
        return [path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return the size, asked once."""
        return {"name": path, "size": self._at(path).published_size, "type": "file"}

    def modified(self, path: str) -> datetime:
        """Return always the same time: what is published does not change."""
        return datetime.fromtimestamp(0, UTC)

    def exists(self, path: str, **_: Any) -> bool:
        """Say whether there is such an object."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Open for reading ranges."""
        if "w" in mode or "a" in mode or "+" in mode:
            raise PermissionError(f"{path} is in the lake, which only runs write to")
        return self._at(path).published()

    def _at(self, path: str) -> StorePath:
        return StorePath.of(path if "://" in path else f"{self.protocol}://{path.lstrip('/')}")


def read_store(connection: Any, root: Path) -> None:
    """Let a connection read what lies in the store of `root`."""
    connection.register_filesystem(Published(cast("Any", root)))
