"""Places: a path on this machine, or one in an object store, from the same text.

`lake: s3://bucket/lake` and `files: ["s3://bucket/raw/*.jsonl"]` mean places in a store that fsspec knows (s3, gs,
abfs, …); everything else is a plain `pathlib.Path`, and nothing here costs it anything. A place in a store is a
`StorePath`, which answers what the program asks of a `Path`, and is typed as one.

What needs a real file (maps of memory, safetensors, folders of models) gets a copy, kept on this machine up to 20 GB
and named by the object's version: it is fetched once.
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

from .errors import ConfigError, LakeError
from .possible_paths import possible

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.+)", re.DOTALL)
ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"})
"""The stores in which an object appears whole or not at all; a lake lies in no other."""
SCRATCH = "tmp"
"""Of a lake on this machine: the folder of what is being written."""
CACHE_BYTES = 20 << 30
"""Of copies on this machine; those that were not used for longest go first. `TAMIS_CACHE_BYTES` says otherwise."""


def is_url(text: str) -> bool:
    """Say whether a text means a place in a store: `file://` does not."""
    found = _URL.fullmatch(text)
    return found is not None and found[1] not in ("file", "local")


def place(text: str | Path, below: Path | None = None) -> Path:
    """Return the place that a text means, a relative path from `below` on.

    Raises ConfigError for an unknown store, and for what cannot be a path here.
    """
    if not isinstance(text, str):
        return possible(text if below is None or not is_local(text) else below / text)
    if not is_url(text):
        if text.partition(":/")[0] in ATOMIC and ":/" in text:  # else a folder of that name would be made
            raise ConfigError(f'"{text}" is no place in a store: expected {text.partition(":")[0]}://bucket/folder')
        path = Path(text.removeprefix("file://").removeprefix("local://"))
        return possible(path if below is None else below / path)
    try:
        from .store_paths import StorePath
    except ImportError:
        raise ConfigError(f"\"{text}\" is in an object store: pip install 'tamis[s3]'") from None
    return cast("Path", StorePath.of(text))


def is_local(path: Path) -> bool:
    """Say whether a path is one of this machine."""
    return isinstance(path, Path)


def parquet_source(path: Path) -> Any:
    """Return what pyarrow reads a Parquet file from: the path, or an open object of which ranges are read."""
    return path if is_local(path) else cast("Any", path).ranges()


def published_source(path: Path) -> Any:
    """Return the same of a file of the lake, of which it is known that it does not change."""
    return path if is_local(path) else cast("Any", path).published()


def presence(folder: Path) -> Callable[[Path], bool]:
    """Return what says whether files below a folder exist: of a store one listing answers for all of them."""
    if is_local(folder):
        return Path.exists
    known = {str(found) for found in folder.glob("**/*")}
    return lambda path: str(path) in known


def read_all(paths: Sequence[Path]) -> list[bytes | Exception]:
    """Return the content of small files, or what reading one raised; from a store many at a time."""
    if paths and not is_local(paths[0]):
        return cast("list[bytes | Exception]", cast("Any", paths[0]).read_beside(paths))
    return [_content(path) for path in paths]


def _content(path: Path) -> bytes | Exception:
    try:
        return path.read_bytes()
    except OSError as error:
        return error


def versions(folder: Path, pattern: str) -> list[tuple[str, str]]:
    """Return the files that match and what changes when one is written again: of a store with one listing."""
    if is_local(folder):
        return sorted((str(path), version_of(path)) for path in folder.glob(pattern))
    return [(str(path), repr(details)) for path, details in cast("Any", folder).listed(pattern)]


def version_of(path: Path) -> str:
    """Return what changes when a file is written again."""
    return str(path.stat().st_mtime_ns) if is_local(path) else cast("Any", path).version


class Seen(NamedTuple):
    """What tells whether a file is still the same."""

    size: int
    mtime_ns: int
    etag: str = ""


def stats_below(folder: Path) -> dict[str, Seen]:
    """Return what one listing of a store says of everything below a place, by the names below it."""
    return {name: Seen(*details) for name, details in cast("Any", folder).details_below().items()}


def now_at(path: Path) -> float:
    """Return the time, in seconds of the epoch, by the clock that the time of this file is of."""
    if is_local(path):
        with suppress(OSError), tempfile.TemporaryFile(dir=path.parent) as probe:
            return os.fstat(probe.fileno()).st_mtime  # the disk may be another machine's
        return time.time()
    from . import store_calls

    return store_calls.now(cast("Any", path))


def age_of(path: Path) -> float:
    """Return how many seconds ago a file was written. Raises OSError where it is gone."""
    written = stat_of_path(path).mtime_ns / 1e9
    return now_at(path) - written


def remove_files(files: Sequence[Path]) -> None:
    """Remove files, those that are gone already too: of a store many at a time, in no order among them."""
    if files and not is_local(files[0]):
        from . import store_calls

        store_calls.remove(cast("Any", files))
        return
    for file in files:
        file.unlink(missing_ok=True)


def remove_empty(folder: Path) -> None:
    """Remove a folder without files; where somebody wrote into it meanwhile, it stays. A store has none."""
    if is_local(folder):
        with suppress(OSError):
            for inner in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
                inner.rmdir()
            folder.rmdir()


def uploads_below(folder: Path) -> list[Any]:
    """Return what was put in parts and never finished, as `store_calls.Upload`; a folder has none."""
    if is_local(folder):
        return []
    from . import store_calls

    return list(store_calls.uploads(cast("Any", folder)))


def abandon_upload(folder: Path, name: str, upload: str) -> None:
    """Throw away what came of such a put."""
    from . import store_calls

    store_calls.abandon(cast("Any", folder), name, upload)


def open_to_duckdb(connection: Any, root: Path) -> None:
    """Let a DuckDB connection read the files below `root`, which it could not of a store."""
    if not is_local(root):
        from .store_duckdb import read_store

        read_store(connection, root)


def stat_of_path(path: Path) -> Seen:
    """Look at a file. Raises OSError where it is gone."""
    if not is_local(path):
        return Seen(*cast("Any", path).details())
    found = path.stat()
    return Seen(found.st_size, found.st_mtime_ns)


def stat_of_open(handle: Any) -> Seen:
    """Look at an open file: a store says what it was when it was opened."""
    if details := getattr(getattr(handle, "raw", None), "details", None):
        return Seen(*details)
    found = os.fstat(handle.fileno())
    return Seen(found.st_size, found.st_mtime_ns)


def home(name: str) -> Path:
    """Return a folder of this user and machine, made where there is none. Raises LakeError where it is somebody's."""
    folder = Path(tempfile.gettempdir()) / f"tamis-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise LakeError(f'"{folder}" belongs to another user; set TMPDIR to a folder of your own')
    return folder / name


def scratch_of(root: Path) -> Path:
    """Return the folder on this machine in which files of a lake are written before they are published."""
    if is_local(root):
        return root / SCRATCH
    return home("scratch") / f"{hashlib.blake2b(str(root).encode(), digest_size=8).hexdigest()}-{root.name}"


def disk_of(root: Path) -> Path:
    """Return a folder on the disk that fills when a lake does; of a store that is where its files are written first."""
    return root if is_local(root) else Path(tempfile.gettempdir())


def local(path: Path) -> Path:
    """Return a file that can be mapped into memory: itself, or the copy of an object of a store."""
    if is_local(path):
        return path
    return _cached(f"{path}\n{version_of(path)}", path.name, cast("Any", path).fetch)


def local_folder(folder: Path) -> Path:
    """Return a folder that any library can read: itself, or a copy of everything below a place in a store."""
    if is_local(folder):
        return folder
    files = sorted(folder.glob("**/*"))
    names = {file.relative_to(folder).as_posix(): file for file in files}

    def fetch(target: Path) -> None:
        for name, file in names.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            cast("Any", file).fetch(target / name)

    versions = [[name, version_of(file)] for name, file in names.items()]
    return _cached(f"{folder}\n{versions}", folder.name, fetch)


def _cached(content: str, name: str, fetch: Callable[[Path], None]) -> Path:
    """Return the copy of what `content` names, fetched where there is none: beside first, then renamed."""
    folder = home("copies") / hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    found = folder / name
    if found.exists():
        with suppress(OSError):
            os.utime(folder)
        return found
    beside = folder.with_name(f"{folder.name}~{uuid.uuid4().hex[:12]}")
    beside.mkdir(parents=True)
    try:
        fetch(beside / name)
        with suppress(OSError):  # another process was faster
            beside.rename(folder)
        if not found.exists():
            raise LakeError(f'no copy of "{content.splitlines()[0]}" can be kept in {folder.parent}')
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    _bound(folder)
    return found


def _bound(newest: Path) -> None:
    """Remove the copies that were not used for longest until the others fit; a map of a removed file stays whole."""
    most = int(os.environ.get("TAMIS_CACHE_BYTES", CACHE_BYTES))
    kept = []
    for folder in newest.parent.iterdir():
        with suppress(OSError):
            kept.append((folder.stat().st_mtime, sum(p.stat().st_size for p in folder.rglob("*")), folder))
    total = sum(size for _, size, _ in kept)
    for _, size, folder in sorted(kept):
        if total > most and folder != newest and "~" not in folder.name:
            shutil.rmtree(folder, ignore_errors=True)
            total -= size
