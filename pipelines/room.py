"""Whether the disk has room for what a stage is about to write: looked at before the stage writes anything.

A stage says what it will write: `about` of what is compressed, `exact` of what is not and whose size is known (tensors,
texts as they are), `scratch` of what lies there meanwhile. Where less is free than that, it is said, and the stage
begins nevertheless: texts pack tenfold or not at all, and nothing is lost by a disk that fills. Where less is free than
the least, it does not begin: that is `exact`, and a thousandth of `about`, because not even copies of one document pack
better. So no estimate stops a run that would have succeeded. A store has no end; of its lakes only `scratch` is here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from ..storage.disks import disk_error, free_bytes
from ..storage.errors import DiskError
from ..storage.lake import Lake
from ..storage.places import is_local
from ..storage.publish import published_bytes
from ..storage.usage import folder_bytes
from .runs import Stage

PACKED_AT_MOST = 1_000
TEXT_PACKED = 0.42
"""What is left of text in a shard or a mixture, as it was measured (`docs/scaling.md`)."""
FILE_BYTES = 4_000
"""Of a Parquet file beside its rows: the footer, and a page of each column."""
TEXT_BYTES = 16
"""Of a short text or list in a table, about: nothing says how long it is."""
ADVICE = (
    "free some (`tamis clean` removes what nothing in a lake needs), or put the lake on a larger disk. "
    "What is finished is kept"
)


class TooSmall(DiskError):
    """A disk would be full before a stage is done."""


def look_for_room(
    lake: Lake, stage: Stage, about: float, exact: float, scratch: float, say: Callable[[str], None]
) -> None:
    """Say where less is free than a stage usually takes. Raises DiskError where it is less than the least."""
    here = is_local(lake.root)
    stage.expected_bytes = int(about + exact + scratch if here else scratch)
    least = int(exact + scratch + about / PACKED_AT_MOST if here else scratch)
    free = free_bytes(lake.scratch)
    if free < least:
        raise TooSmall(
            f'nothing is begun, the disk is too small: {free:,} bytes are free in "{lake.scratch}", '
            f"{least - free:,} more are needed at least, and usually {stage.expected_bytes:,} in all; {ADVICE}"
        )
    if free < stage.expected_bytes:
        say(
            f"{stage.name}: takes about {stage.expected_bytes:,} bytes, and {free:,} are free in "
            f'"{lake.scratch}": the disk may be full before it is done; `tamis clean` removes what nothing needs'
        )


@contextmanager
def stage_room(lake: Lake, stage: Stage) -> Iterator[None]:
    """Turn what a disk refuses into a DiskError that names the stage, and what it has still to write."""
    before = published_bytes()
    try:
        yield
    except Exception as error:
        if (found := disk_error(error, lake.scratch)) is None:
            raise
        if isinstance(found, TooSmall):
            raise TooSmall(f"{stage.name}: {found}") from None
        rest = stage.expected_bytes - (published_bytes() - before)
        whole = f". To its end the stage needs about {rest:,} bytes" if rest > 0 else ""
        raise DiskError(f"{stage.name}: {found}{whole}") from error


def left_to_write(room: tuple[float, float], folder: Path) -> tuple[float, float]:
    """Return what of about and exact bytes is left: the files that an earlier run left in a folder are replaced."""
    there = folder_bytes(folder) if is_local(folder) else 0
    about, exact = room
    return max(0.0, about - there), max(0.0, exact - there)


def table_bytes(schema: pa.Schema, rows: int, files: int) -> float:
    """Return what rows take in Parquet files, about: as they are in memory, which for numbers is near."""
    return rows * sum(_width(field.type) for field in schema) + files * FILE_BYTES


def _width(kind: pa.DataType) -> float:
    if pa.types.is_fixed_size_list(kind):
        return float(kind.list_size * _width(kind.value_type))
    try:
        return float(kind.bit_width / 8)
    except ValueError:
        return TEXT_BYTES
