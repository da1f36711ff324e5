"""The result of a query as a file: there whole or not at all, and never inside the lake that was asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import ConfigError
from .lake import Lake
from .publish import PARQUET, publishing


@contextmanager
def query_file(lake: Lake, path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which gets that name where all went well.

    Raises ConfigError where nothing can be written there, and for a path in the lake, which queries only read.
    """
    target = path.resolve()
    if target.is_relative_to(lake.root.resolve()):
        raise ConfigError(f'"{path}" is in the lake, which a query only reads; name a file elsewhere')
    if target.is_dir():
        raise ConfigError(f'"{path}" is a folder; name a file')
    try:
        with publishing(target, target.parent) as temporary:
            yield temporary
    except OSError as error:
        if error.errno is None:  # none of the file system: Arrow says so where a query fails halfway
            raise
        raise ConfigError(f'"{path}" cannot be written: {error.strerror or error}') from error


@contextmanager
def text_file(lake: Lake, path: Path) -> Iterator[TextIO]:
    """Yield a file that text is written into. Raises ConfigError as `query_file` does."""
    with query_file(lake, path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file


def write_parquet(lake: Lake, path: Path, batches: pa.RecordBatchReader) -> None:
    """Write batches as row groups, one at a time. Raises ConfigError as `query_file` does."""
    with query_file(lake, path) as temporary, pq.ParquetWriter(temporary, batches.schema, **PARQUET) as writer:
        for batch in batches:
            writer.write_batch(batch)
