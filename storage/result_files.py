"""Results in files that people name: there whole or not at all, and never inside the lake that was asked.

Only a regular file is replaced, where there is one. A link stays a link, and the file behind it is replaced: so does a
shell's `>`. What is no regular file, such as `/dev/null` or a named pipe, would be a file afterwards, so it is refused.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import ConfigError
from .lake import Lake
from .places import is_local
from .publish import PARQUET, publishing


def result_target(lake: Lake, path: Path) -> Path:
    """Return the file that a result named `path` will be.

    Raises ConfigError for a path in the lake, for what is there and is no regular file, and where its folder is not
    there: to be asked before the work, which may take minutes.
    """
    try:
        target = path.resolve()
        mode = path.stat().st_mode if path.exists() else None
        has_folder = target.parent.is_dir()
    except (OSError, RuntimeError) as error:  # links that lead to one another are a RuntimeError up to Python 3.12
        raise ConfigError(f'"{path}" cannot be written: {getattr(error, "strerror", None) or error}') from error
    if is_local(lake.root) and target.is_relative_to(lake.root.resolve()):
        raise ConfigError(f'"{path}" is in the lake, which only runs write to; name a file elsewhere')
    if mode is not None and not stat.S_ISREG(mode):
        raise ConfigError(f'"{path}" is {"a folder" if stat.S_ISDIR(mode) else "no regular file"}; name another')
    if not has_folder:
        raise ConfigError(f'"{path}" cannot be written: there is no folder "{target.parent}"; make it, or name another')
    return target


@contextmanager
def result_file(lake: Lake, path: Path) -> Iterator[Path]:
    """Yield a temporary path beside the result, which gets its name where all went well.

    Raises ConfigError as `result_target` does, and where nothing can be written there.
    """
    target = result_target(lake, path)
    try:
        with publishing(target, target.parent) as temporary:
            yield temporary
    except OSError as error:
        if error.errno is None:  # none of the file system: Arrow says so where a query fails halfway
            raise
        raise ConfigError(f'"{path}" cannot be written: {error.strerror or error}') from error


@contextmanager
def result_text(lake: Lake, path: Path) -> Iterator[TextIO]:
    """Yield a file that text is written into. Raises ConfigError as `result_file` does."""
    with result_file(lake, path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file


def write_parquet(lake: Lake, path: Path, batches: pa.RecordBatchReader) -> None:
    """Write batches as row groups, one at a time. Raises ConfigError as `result_file` does."""
    with result_file(lake, path) as temporary, pq.ParquetWriter(temporary, batches.schema, **PARQUET) as writer:
        for batch in batches:
            writer.write_batch(batch)
