"""Paths in an object store, by what fsspec knows of it: the methods of `Path` that tamis uses, and those a store needs.

Nothing is cached of what a store lists, because other machines write to it too. A file is read under the version (ETag)
that it had when it was opened. Requests end after seconds, not minutes, and what a store refuses becomes a StoreError
that says which place and what to do.
"""

import errno
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.utils import glob_translate
from upath import UPath
from upath.extensions import ProxyUPath

from .errors import ConfigError, StoreError
from .store_errors import OTHER_VERSION, asking, code_of
from .store_files import SIZES, Details, PublishedFile, StoreFile, details_of

READ_BYTES, BLOCKS = 8 << 20, 4
"""A raw file is read ahead by blocks of so many bytes; of each open file as many are kept."""
PART_BYTES, PARTS_AT_ONCE, MOST_PARTS = 8 << 20, 4, 9_000
FETCHES = 5
_MAGIC = re.compile(r"[*?\[]")


class StorePath(ProxyUPath):
    """A place in a store. Folders are no more than the beginnings of names: none is made, none is left over."""

    @classmethod
    def of(cls, text: str) -> "StorePath":
        """Return the place that a URL means. Raises ConfigError where nothing knows its store."""
        protocol = text.partition("://")[0]
        try:
            path = cls(text.rstrip("/"), **_options(protocol))
            _ = path.fs
        except (ImportError, ValueError) as error:
            raise ConfigError(f'"{text}" cannot be opened: {error}') from None
        if path.is_s3:
            path.fs.retries = 2  # the client below tries three times each
        return path

    def details(self) -> Details:
        """Return size, time and version. Raises FileNotFoundError."""
        with asking(self):
            found = self.fs.info(self.path)
        if found["type"] != "file":
            raise FileNotFoundError(2, "no such object", str(self))
        return details_of(found)

    @property
    def version(self) -> str:
        """What changes when the object is written again."""
        return self.details().version

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Say whether there is an object of this name."""
        try:
            self.details()
        except FileNotFoundError:
            return False
        return True

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Say the same."""
        return self.exists()

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Say whether there is any object below."""
        return next(self.iterdir(), None) is not None

    def iterdir(self) -> Iterator["StorePath"]:
        """Yield what is directly below."""
        with asking(self):
            try:
                found = self.fs.ls(self.path, detail=False)
            except (FileNotFoundError, NotADirectoryError) as error:
                if code_of(error) == "NoSuchBucket":
                    raise
                found = []
        return (self._at(name) for name in sorted(found) if name.rstrip("/") != self.path.rstrip("/"))

    def glob(self, pattern: str, **_: Any) -> Iterator["StorePath"]:
        """Yield the objects below that match, sorted: with one listing of what the pattern's fixed part begins."""
        return (path for path, _ in self.listed(pattern))

    def rglob(self, pattern: str, **_: Any) -> Iterator["StorePath"]:
        """Yield the objects that match at any depth."""
        return self.glob(f"**/{pattern}")

    def listed(self, pattern: str) -> Iterator[tuple["StorePath", Details]]:
        """Yield what `glob` does, and what the listing says of each."""
        parts = PurePosixPath(pattern).parts
        wild = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
        folder = "/".join([self.path.rstrip("/"), *parts[:wild]])
        is_wanted = re.compile(glob_translate("/".join(parts[wild:]))).match
        found = self._found(folder)
        for name in sorted(found):
            below = name.removeprefix(folder).lstrip("/")
            if below != name and is_wanted(below):
                path, details = self._at(name), details_of(found[name])
                SIZES.keep(str(path), details.size)
                yield path, details

    def details_below(self) -> dict[str, Details]:
        """Return what one listing says of everything below, by the names below; no path is made of any of them."""
        folder = self.path.rstrip("/") + "/"
        found = self._found(folder.rstrip("/")).items()
        return {name.removeprefix(folder): details_of(one) for name, one in found if name.startswith(folder)}

    def _found(self, folder: str) -> dict[str, dict[str, Any]]:
        with asking(self):
            try:
                return dict(self.fs.find(folder, detail=True))
            except FileNotFoundError as error:
                if code_of(error) == "NoSuchBucket":
                    raise
                return {}

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing."""

    def resolve(self, strict: bool = False) -> "StorePath":
        """Return itself: stores have no links."""
        return self

    def open(self, mode: str = "r", buffering: int = -1, encoding: str | None = None, *_: Any, **__: Any) -> Any:
        """Open for reading from the beginning on; the next block is fetched meanwhile."""
        if mode not in ("r", "rt", "rb"):
            raise io.UnsupportedOperation(f'"{self}" is published whole, not opened with {mode!r}')
        options = {"cache_type": "background", "block_size": READ_BYTES, "cache_options": {"maxblocks": BLOCKS}}
        binary = io.BufferedReader(StoreFile(self, options), 1 << 20)
        return binary if mode == "rb" else io.TextIOWrapper(binary, encoding or "utf-8")

    def ranges(self) -> "StoreFile":
        """Open for reading ranges here and there: each is one request."""
        file = StoreFile(self, {"cache_type": "none"})
        SIZES.keep(str(self), file.details.size)
        return file

    def published(self) -> "PublishedFile":
        """Open a file of a lake, which never changes, for reading ranges."""
        return PublishedFile(self)

    @property
    def published_size(self) -> int:
        """Size of a file of a lake: remembered from when it was published, listed or asked for before."""
        if (size := SIZES.get(str(self))) is None:
            SIZES.keep(str(self), size := self.details().size)
        return size

    def read_bytes(self) -> bytes:
        """Return the whole object."""
        with asking(self):
            return bytes(self.fs.cat_file(self.path, **self._whole))

    def read_text(self, encoding: str | None = None, *_: Any, **__: Any) -> str:
        """Return the whole object as text."""
        return self.read_bytes().decode(encoding or "utf-8")

    def read_beside(self, paths: Sequence[Any]) -> list[bytes | Exception]:
        """Return the content of objects of one store, or what reading one raised, many at a time."""
        names = [path.path for path in paths] if len(paths) > 1 else []
        with asking(self):
            found = self.fs.cat(names, on_error="return", **self._whole) if names else {}
        return [found[p.path] if p.path in found else _tried(p.read_bytes) for p in paths]

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        SIZES.forget(str(self))
        with asking(self):
            try:
                self.fs.rm_file(self.path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def remove_tree(self) -> None:
        """Remove everything below."""
        with asking(self):
            if found := self.fs.find(self.path):
                self.fs.rm(found)

    def put(self, file: Path, *, create: bool = False) -> None:
        """Make a local file the object, whole or not at all. Raises FileExistsError for `create` where there is one.

        Stores other than S3 may not know `create`; there the last writer wins.
        """
        options: dict[str, Any] = {}
        if self.is_s3:
            part = max(PART_BYTES, file.stat().st_size // MOST_PARTS)
            options = {"chunksize": part, "max_concurrency": PARTS_AT_ONCE, **({"mode": "create"} if create else {})}
        try:
            with asking(self):
                self.fs.put_file(str(file), self.path, **options)
        except OSError as error:
            if code_of(error) == OTHER_VERSION:
                raise FileExistsError(errno.EEXIST, "there is one already", str(self)) from error
            raise
        SIZES.keep(str(self), file.stat().st_size)

    def copy_from(self, source: "StorePath") -> None:
        """Make the object a copy of another one of the store, which does the copying."""
        with asking(self):
            self.fs.cp_file(source.path, self.path)

    def fetch(self, target: Path) -> None:
        """Write the object into a local file; one that was replaced meanwhile is fetched again."""
        for _ in range(FETCHES):
            try:
                with self.open("rb") as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, READ_BYTES)
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
        raise StoreError(f'"{self}" changes all the time; try again when nobody writes to it')

    def __truediv__(self, other: Any) -> "StorePath":
        """Return what is below."""
        return super().__truediv__(str(other))

    @property
    def is_s3(self) -> bool:
        """Whether its store speaks S3."""
        return self.protocol in ("s3", "s3a")

    @property
    def _whole(self) -> dict[str, Any]:
        """How a small object is read: without asking for its size first."""
        return {"max_concurrency": 1} if self.is_s3 else {}

    def _at(self, name: str) -> "StorePath":
        """Return the place that fsspec calls so."""
        inside = self.fs._strip_protocol(name)
        return self._from_upath(UPath(f"{self.protocol}://{inside.lstrip('/')}", **self.storage_options))


def _tried(read: Callable[[], bytes]) -> bytes | Exception:
    try:
        return read()
    except OSError as error:
        return error


def _options(protocol: str) -> dict[str, Any]:
    """Return how fsspec opens a store: what it lists is not kept, and a server that does not answer is given up."""
    if protocol not in ("s3", "s3a"):
        return {"use_listings_cache": False}
    retries = {"total_max_attempts": 3, "mode": "standard"}
    return {
        "use_listings_cache": False,
        "config_kwargs": {"connect_timeout": 5, "read_timeout": 15, "retries": retries},
    }
