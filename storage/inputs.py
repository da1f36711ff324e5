"""What is to be read, and what reading hands back.

Globs are expanded here and nowhere else. A file's size and modification time are taken when it is listed, so that a
reader can tell later that somebody wrote to it meanwhile. Identity is the resolved path: a link and its target are one
file.
"""

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal, NamedTuple, cast

from .errors import ConfigError
from .patterns import matching, status_of
from .places import is_url, place

#: So much of what could not be read goes to quarantine.
RAW_BYTES = 4096


@dataclass(frozen=True, order=True)
class InputFile:
    """A raw file as it was when it was listed."""

    name: str  # as shown to people and stored as origin: the path as the glob gives it
    path: Path  # absolute
    below: str  # POSIX path below the glob's fixed part; of a plain path, the file name
    size: int
    mtime_ns: int
    inode: int
    etag: str = ""  # in a store

    def as_listed(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "etag" or self.etag}
        return found | {"path": self.path.as_posix()}


@dataclass(frozen=True)
class ReadOptions:
    """How raw files become documents. Field names may be dotted: `meta.text` is `text` inside the object `meta`."""

    text: str = "text"
    id: str = "id"
    source: str = "source"
    format: Literal["auto", "jsonl", "parquet", "text"] = "auto"
    file_id: Literal["path", "stem"] = "path"  # id of a one-document file: `below` (less .txt), or the stem
    batch_bytes: int = 8 << 20  # about so many bytes of text in a batch
    max_record_bytes: int = 256 << 20  # a longer record costs itself
    max_ratio: int = 1000  # a file unpacks to so many times its size, or to 256 MB where that is more; the rest is lost
    max_unpacked_bytes: int = 1 << 40  # and to no more than this


MOST_NAME_BYTES = 1 << 16
"""Longer ids and sources are refused: all of a corpus are in memory at times."""
FREE_BYTES = 256 << 20
"""So much any file may unpack to: a small one of blanks is no attack."""


class Allowance:
    """How much a packed file may still unpack to. Tiny files that become terabytes are made to fill disks."""

    def __init__(self, options: ReadOptions, size: int) -> None:
        self._most = min(max(FREE_BYTES, options.max_ratio * size), options.max_unpacked_bytes)
        self.left = self._most
        self._options = options

    def spend(self, n_bytes: int) -> str | None:
        """Count unpacked bytes; return the reason to stop, once there are too many."""
        self.left -= n_bytes
        if self.left >= 0:
            return None
        limit = "max_unpacked_bytes" if self._most == self._options.max_unpacked_bytes else "max_ratio"
        return f"it unpacks to more than {self._most:,} bytes ({limit} of the corpus); what follows was not read"


class Record(NamedTuple):
    """One document, in the order of the columns of `schema.RECORD`."""

    doc_id: str | None
    text: str
    source: str | None
    meta: str | None
    line: int | None
    repaired: bool


@dataclass(frozen=True)
class BadRecord:
    """What could not be read, and why, in words for the person who can mend it."""

    file: str
    line: int | None  # counted from 1: line of JSON Lines, row of Parquet; null: the file as a whole
    reason: str
    raw: bytes  # the first 4 KB


class RefusedError(Exception):
    """A record that costs itself: the message is the reason. Never leaves the readers."""


def checked_name(value: str | None, field: str) -> str | None:
    """Return an id or a source. Raises RefusedError for one that is too long."""
    if value is not None and 4 * len(value) > MOST_NAME_BYTES < len(value.encode()):
        raise RefusedError(f'"{field}" is longer than {MOST_NAME_BYTES:,} bytes')
    return value


def list_inputs(patterns: Sequence[str], root: Path) -> list[InputFile]:
    """List the regular files that the patterns match, each once, sorted by name.

    A relative pattern starts at `root`; `**` goes into folders; names that begin with a dot must be asked for, as in a
    shell. Of two patterns for one file the first counts. A path that exists is taken literally, whatever signs are in
    it. Raises `ConfigError` for a pattern that matches no file, and `DiskError` where a folder cannot be listed.
    """
    found: dict[Path, InputFile] = {}
    for pattern in patterns:
        matches = sorted(_expand(pattern, root), key=lambda file: file.name)
        if not matches:
            raise ConfigError(_nothing_matches(pattern, root))
        for file in matches:
            found.setdefault(file.path.resolve(), file)
    return sorted(found.values(), key=lambda file: file.name)


def _expand(pattern: str, root: Path) -> Iterator[InputFile]:
    if is_url(pattern):
        yield from _expand_in_store(pattern)
        return
    names: Iterable[str] = [pattern]
    fixed = PurePath(pattern).parent
    if not (root / pattern).exists():
        names, fixed = matching(pattern, root), _fixed_part(pattern)
    for name in names:
        path = (root / name).absolute()
        status = status_of(path)  # none: a link to nothing, or gone since
        if status and stat.S_ISREG(status.st_mode):
            below = _printable(PurePath(name).relative_to(fixed).as_posix())
            yield InputFile(_printable(name), path, below, status.st_size, status.st_mtime_ns, status.st_ino)


def _expand_in_store(pattern: str) -> Iterator[InputFile]:
    """List the objects that a URL matches; what it is below is its part before the first wildcard."""
    if (exact := place(pattern)).exists():
        pattern, listed = str(exact), [(exact, cast("Any", exact).details())]
        yield from (InputFile(str(path), path, path.name, d.size, d.mtime_ns, 0, d.etag) for path, d in listed)
        return
    store, _, inside = pattern.partition("://")
    parts = PurePosixPath(inside).parts
    wild = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    folder = place(f"{store}://{'/'.join(parts[: max(1, wild)])}")
    for path, found in cast("Any", folder).listed("/".join(parts[max(1, wild) :])):
        below = path.relative_to(folder).as_posix()
        if "/." in f"/{below}" and "/." not in pattern:
            continue  # as in a folder
        yield InputFile(str(path), cast("Path", path), below, found.size, found.mtime_ns, 0, found.etag)


def _fixed_part(pattern: str) -> PurePath:
    """Return the folders before the first wildcard."""
    parts = PurePath(pattern).parts
    wild = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return PurePath(*parts[:wild])


def _printable(name: str) -> str:
    r"""Write bytes of a file name that are not UTF-8 as `\xNN`, because Arrow and JSON hold nothing else."""
    if re.search("[\udc80-\udcff]", name):
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


def _nothing_matches(pattern: str, root: Path) -> str:
    if is_url(pattern):
        return f'"{pattern}" matches no object: check the name, the pattern and AWS_ENDPOINT_URL'
    if (root / pattern).is_dir():
        inside = f"{pattern.rstrip('/')}/**/*"
        return f'"{pattern}" is a folder, expected files: write "{inside}" for everything below it'
    if (root / pattern).exists():
        return f'"{pattern}" is no regular file but a pipe, a socket or a device, which has no end: write it to a file'
    return f'"{pattern}" matches no file below {root}: check the path and the pattern'
