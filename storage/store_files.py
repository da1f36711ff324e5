"""Objects of a store that are open for reading: those that may change, and those of a lake, which never do.

A raw file is read under the version that it had when it was opened, and another version is an error. Of a published
file the size is known from when it was written or listed, so that reading begins with what is wanted; what was read
last is kept, and so a small Parquet file is one request.
"""

import errno
import io
from collections import OrderedDict
from datetime import UTC, datetime
from threading import Lock, local
from typing import Any, NamedTuple

from .store_errors import OTHER_VERSION, asking, code_of

SIZES_KEPT = 100_000


class Details(NamedTuple):
    """What a store says of an object."""

    size: int
    mtime_ns: int
    etag: str

    @property
    def version(self) -> str:
        """What changes when the object is written again."""
        return f"{self.etag} {self.size} {'' if self.etag else self.mtime_ns}"


class _Sizes:
    """Sizes of objects that were seen, of the last 100,000."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[str, int] = OrderedDict()

    def get(self, name: str) -> int | None:
        with self._lock:
            return self._known.get(name)

    def keep(self, name: str, size: int) -> None:
        with self._lock:
            self._known[name] = size
            self._known.move_to_end(name)
            while len(self._known) > SIZES_KEPT:
                self._known.popitem(last=False)

    def forget(self, name: str) -> None:
        with self._lock:
            self._known.pop(name, None)


SIZES = _Sizes()


class StoreFile(io.RawIOBase):
    """An object that is open for reading, as the version that it was then."""

    def __init__(self, path: Any, options: dict[str, Any]) -> None:
        self._path = path
        with asking(path):
            self._file = path.fs.open(path.path, "rb", **options)

    @property
    def details(self) -> Details:
        """What the store said when it was opened."""
        return details_of(self._file.details)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position."""
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer. Raises OSError (EBUSY) where the object is another one by now."""
        try:
            with asking(self._path):
                data = self._file.read(len(buffer))
        except Exception as error:  # of an answer without a message, as Ceph's, s3fs makes a TypeError
            if code_of(error) == OTHER_VERSION:
                raise OSError(errno.EBUSY, "was replaced while it was read", str(self._path)) from error
            raise
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Forget what was read ahead."""
        if not self.closed:
            self._file.close()
        super().close()


class PublishedFile(io.RawIOBase):
    """A file of a lake that is open for reading ranges; each thread has a position of its own.

    DuckDB lets several threads share an open file, and each of them seeks first and reads then.
    """

    def __init__(self, path: Any) -> None:
        self._path, self._size = path, path.published_size
        self._position = local()
        self._last = (0, b"")

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return int(getattr(self._position, "at", 0))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position."""
        self._position.at = max(0, offset + (0, self.tell(), self._size)[whence])
        return self.tell()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as the file goes."""
        at = self.tell()
        end = min(at + len(buffer), self._size)
        if at >= end:
            return 0
        begin, block = self._last
        if not begin <= at <= end <= begin + len(block):
            with asking(self._path):
                begin, block = at, self._path.fs.cat_file(self._path.path, start=at, end=end)
            self._last = (begin, block)
        data = memoryview(block)[at - begin : end - begin]
        buffer[: len(data)] = data
        self._position.at = at + len(data)
        return len(data)


def details_of(found: dict[str, Any]) -> Details:
    """Return what fsspec says of an object; each of its stores has words of its own."""
    when = found.get("LastModified") or found.get("mtime") or found.get("updated") or found.get("created") or 0
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        since = (when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
        nanoseconds = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
    else:
        nanoseconds = int(when * 10**9)
    etag = found.get("ETag") or found.get("etag") or ""
    return Details(int(found["size"]), nanoseconds, str(etag).strip('"'))
