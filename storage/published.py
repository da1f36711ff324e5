"""What lies in a lake, read: manifests and Parquet files, and a LakeError that names the damaged one.

From a store many manifests come at a time, and the wanted columns of a Parquet file in few requests.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import LakeError
from .manifest_shapes import check_shape
from .places import is_local, parquet_source, published_source, read_all

AT_ONCE = 256
"""Manifests that are asked of a store at a time."""


def read_json(path: Path) -> Any:
    """Read a manifest. Raises LakeError that names a damaged one."""
    return _parsed(path, *read_all([path]))


def _parsed(path: Path, content: bytes | Exception) -> Any:
    try:
        if isinstance(content, Exception):
            raise content
        value = json.loads(content)
        check_shape(path, value)
    except (ValueError, OSError, RecursionError) as error:  # one that is of another shape is a ValueError too
        raise LakeError(f'"{path}" cannot be read ({error}); `tamis repair` mends what is damaged') from error
    return value


def read_jsons(paths: Sequence[Path]) -> Iterator[Any]:
    """Read manifests, from a store many at a time. Raises LakeError that names a damaged one."""
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        for path, content in zip(some, read_all(some), strict=True):
            yield _parsed(path, content)


def readable_jsons(paths: Sequence[Path]) -> Iterator[tuple[Path, Any]]:
    """Yield path and content of the manifests that are not damaged, from a store read many at a time."""
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        for path, content in zip(some, read_all(some), strict=True):
            with contextlib.suppress(LakeError):
                yield path, _parsed(path, content)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turn what a damaged or missing file of the lake raises into a LakeError that names it."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        first_line = str(error).strip().splitlines()[0][:200]
        raise LakeError(f'"{path}" is damaged ({first_line}); `tamis repair` mends it') from error


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of the lake, its pages to be checked. Raises LakeError where it is damaged.

    From a store the wanted columns come in few requests.
    """
    options = {"pre_buffer": not is_local(path), "page_checksum_verification": True}
    with whole(path), _of_parquet(path, lambda source: pq.ParquetFile(source, **options)) as parquet:
        yield parquet


def _of_parquet(path: Path, read: Callable[[Any], Any]) -> Any:
    """Read a file as it is known; where that fails in a store, as it is now: another run may have put it again."""
    try:
        return read(published_source(path))
    except (OSError, pa.ArrowException):
        if is_local(path):
            raise
        return read(parquet_source(path))


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return a Parquet file of the lake, or some of its columns. Raises LakeError where its pages are damaged."""
    with whole(path):
        options: dict[str, Any] = {"columns": columns, "use_threads": False, "page_checksum_verification": True}
        return _of_parquet(path, lambda source: pq.read_table(source, **options))
