"""The one way a file gets into the lake: temporary name, fsync, rename; into an object store, one put.

A reader therefore sees a whole file or none, and `kill -9` leaves at most files under `tmp/`. Manifests are published
last: a manifest exists, therefore what it names is complete. The two fsyncs cost some milliseconds a file, which shards
of 128 MB hide. A store cannot rename, and need not: an object appears whole when its put (or the last request of a put
in parts) is done. Temporary files of such a lake lie on this machine.
"""

import contextlib
import errno
import json
import math
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from .disks import writing
from .fingerprint import TableDigest
from .places import SCRATCH, is_local
from .processes import this_process
from .sums import note, note_gone

MARKER = "lake.json"
"""The file that makes a folder a lake."""
DIGEST_FIELD = b"tamis.digest"
PARQUET: dict[str, Any] = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True}
"""How every Parquet file of the lake is written; the checksums are compared when its pages are read."""


@contextmanager
def publishing(target: Path, scratch: Path, n_bytes: int | None = None) -> Iterator[Path]:
    """Yield a temporary path; on leaving without an error, make it `target` atomically.

    `scratch` is a folder on the same file system, or for a store any. On an error the temporary file is removed.
    `n_bytes` is how large it will be, at most. Raises DiskError where the disk is full.
    """
    with writing(target, scratch):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(scratch, target.name)
    try:
        with writing(target, scratch, n_bytes, temporary):
            yield temporary
            move_into_place(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_path(scratch: Path, name: str) -> Path:
    """Return an unused path in `scratch` that names its machine and process: a later one knows what is stale."""
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch / f"{this_process().name}~{uuid.uuid4().hex[:12]}~{name}"


def move_into_place(temporary: Path, target: Path) -> None:
    """Make a finished temporary file durable and give it its name."""
    if not is_local(target):
        cast("Any", target).put(temporary)
        _PUBLISHED.add(temporary.stat().st_size)
        temporary.unlink()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(temporary, os.O_RDWR)
    status, root, is_new = temporary.stat(), _lake_of(temporary.parent), not target.exists()
    if root and not is_new:
        note(root, target, temporary)
    temporary.replace(target)
    if root and is_new:  # who is killed before this leaves a file that nobody noted, not one that is missed
        note(root, target, target)
    _sync(target.parent, os.O_RDONLY)
    if status.st_nlink == 1:  # a second name of a file takes no room
        _PUBLISHED.add(status.st_size)


def open_writer(path: Path, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """Begin a temporary Parquet file; where that fails, nothing is left of it."""
    try:
        return pq.ParquetWriter(path, schema, **options)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


_LAKES: dict[Path, Path] = {}


def _lake_of(folder: Path) -> Path | None:
    """Return the lake whose scratch folder a temporary file lies in, None where that is of none, or not made yet."""
    if folder not in _LAKES:
        above = next((p.parent for p in (folder, *folder.parents) if p.name == SCRATCH), None)
        if above is None or not (above / MARKER).exists():
            return None
        if len(_LAKES) > 1_000:  # folders of models are used once
            _LAKES.clear()
        _LAKES[folder] = above
    return _LAKES[folder]


class _Published:
    """How many bytes this process has published."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.n_bytes = 0

    def add(self, n_bytes: int) -> None:
        with self._lock:
            self.n_bytes += n_bytes


_PUBLISHED = _Published()


def published_bytes() -> int:
    """Return how many bytes this process has published and not taken back: two readings tell what came between."""
    return _PUBLISHED.n_bytes


def count_published(n_bytes: int) -> None:
    """Count what another process has published for this one."""
    _PUBLISHED.add(n_bytes)


def take_back(path: Path) -> None:
    """Remove a published file or folder that was needed for a while; what is not there needs no removal."""
    is_folder = path.is_dir()
    files = [p for p in path.rglob("*") if p.is_file()] if is_folder else [path]
    if is_local(path) and (root := next((p for p in path.parents if (p / MARKER).exists()), None)):
        note_gone(root, [file.relative_to(root).as_posix() for file in files])
    with contextlib.suppress(OSError):
        _PUBLISHED.add(-sum(file.stat().st_size for file in files))
    if is_folder:
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder, or whatever of it there is."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        cast("Any", folder).remove_tree()


def publish_bytes(target: Path, data: bytes, scratch: Path) -> None:
    """Publish a small file."""
    with publishing(target, scratch, len(data)) as temporary:
        temporary.write_bytes(data)


def publish_link(target: Path, source: Path, scratch: Path) -> None:
    """Publish a file of the lake under another name: a hard link, or a copy where the file system has none.

    A store copies its own objects itself.
    """
    if not is_local(source):
        _copy_object(target, source, scratch)
        return
    if is_local(target) and target.exists() and target.samefile(source):
        return  # renaming one hard link to another of the same file would do nothing
    with publishing(target, scratch, source.stat().st_size) as temporary:
        try:
            temporary.hardlink_to(source)
            temporary.chmod(0o444)  # it is the lake's own file: who writes into one writes into both
        except OSError:
            shutil.copyfile(source, temporary)


def _copy_object(target: Path, source: Path, scratch: Path) -> None:
    if is_local(target):
        with publishing(target, scratch) as temporary:
            cast("Any", source).fetch(temporary)
    else:
        cast("Any", target).copy_from(source)


class GrowingFile:
    """A text that grows. An object cannot, so for a store it grows on this machine, and `show` publishes it."""

    def __init__(self, target: Path, scratch: Path) -> None:
        self._target = target
        self._file = target if is_local(target) else temporary_path(scratch, target.name)
        self._scratch = scratch
        self._shown = True

    def append(self, text: str) -> None:
        """Add text to the end: all of it, or nothing where the disk is full."""
        data = text.encode()
        with writing(self._target, self._scratch, len(data)), self._file.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._file))
            except OSError:
                file.truncate(before)
                raise
        self._shown = False

    def show(self) -> None:
        """Let others see what there is, and note its digest."""
        if self._shown:
            return
        if self._file != self._target:
            publish_bytes(self._target, self._file.read_bytes(), self._scratch)
        elif root := _lake_of(self._scratch):
            note(root, self._target, self._target)
        self._shown = True


def publish_json(target: Path, value: Any, scratch: Path) -> None:
    """Publish a manifest, indented and with sorted keys, so that two can be compared by eye."""
    text = json.dumps(json_ready(value), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    publish_bytes(target, (text + "\n").encode(), scratch)


def json_ready(value: Any) -> Any:
    """Return a value with what JSON cannot hold replaced: NaN and infinities by null, bytes by hex, keys by text."""
    if isinstance(value, dict):
        return {_json_key(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.hex() if isinstance(value, bytes) else value


def _json_key(key: Any) -> Any:
    """Return a key that `json` takes: bytes as hex, dates and the like as text; numbers it turns into text itself."""
    if isinstance(key, bytes):
        return key.hex()
    return key if key is None or isinstance(key, (str, int, float)) else str(key)


def publish_table(target: Path, table: pa.Table, scratch: Path) -> str:
    """Publish a table as Parquet (zstd level 3) with the digest of its content in the footer; return that digest.

    Each of the table's chunks becomes a row group. Vectors get no dictionary: trying one triples the time.
    """
    digest = TableDigest(table.schema)
    digest.update(table)
    name = digest.hexdigest()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), DIGEST_FIELD: name.encode()})
    dictionaries = not any(pa.types.is_fixed_size_list(kind) for kind in table.schema.types)
    options = {**PARQUET, "use_dictionary": dictionaries}
    with (
        publishing(target, scratch, table.nbytes) as temporary,
        pq.ParquetWriter(temporary, table.schema, **options) as writer,
    ):
        for chunk in table.to_batches() or [table]:
            writer.write(chunk)
    return name


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
