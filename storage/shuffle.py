"""Bring rows together by a number, with the memory of one partition.

Rows are appended to one file a partition (Arrow IPC in the lake's scratch folder) and read back a partition at a time.
This is how deduplication sees whole groups of a corpus that does not fit in memory: two sequential passes, no sort.
"""

import contextlib
import resource
import shutil
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .disks import writing
from .errors import DiskError
from .lake import Lake
from .memory import Budget
from .publish import temporary_path

FILES_OPEN = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
MOST_PARTITIONS = max(8, min(256, (FILES_OPEN - 64) // 4))  # two shuffles are open at once, and DuckDB and Prefect


def partitions_for(memory: Budget, n_rows: int, row_bytes: int = 0) -> int:
    """Return how many partitions keep one of them near its share; with 256 files of 400,000 rows that is 10^8 rows."""
    wanted = max(-(-n_rows // memory.partition_rows), n_rows * row_bytes // memory.partition_bytes)
    return max(1, min(MOST_PARTITIONS, wanted))


class Shuffle:
    """Tables of one schema, spread over partitions; a context manager that removes its files."""

    def __init__(self, lake: Lake, schema: pa.Schema, partitions: int) -> None:
        self._folder = temporary_path(lake.scratch, "shuffle")
        self._schema = schema
        self.partitions = partitions
        self._writers: dict[int, Any] = {}

    def __enter__(self) -> "Shuffle":
        self._folder.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, DiskError):  # the files go anyway
            self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, table: pa.Table, partition: npt.NDArray[np.int64]) -> None:
        """Append rows; `partition` gives each row's, in [0, partitions)."""
        order = np.argsort(partition, kind="stable")
        numbers, starts, sizes = np.unique(partition[order], return_index=True, return_counts=True)
        sorted_table = table.take(pa.array(order))
        with writing(self._folder, self._folder, sorted_table.nbytes):
            for number, start, size in zip(numbers.tolist(), starts.tolist(), sizes.tolist(), strict=True):
                self._writer(number).write_table(sorted_table.slice(start, size))

    def close(self) -> None:
        """Finish writing; partitions can be read now."""
        writers, self._writers = self._writers, {}
        with writing(self._folder, self._folder):
            for writer in writers.values():
                writer.close()

    def partition(self, number: int) -> pa.Table:
        """Return the rows of one partition, in the order in which they were added."""
        path = self._folder / f"{number}.arrow"
        if not path.exists():
            return self._schema.empty_table()
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_stream(source).read_all()

    def _writer(self, number: int) -> Any:
        if number not in self._writers:
            self._writers[number] = pa.ipc.new_stream(str(self._folder / f"{number}.arrow"), self._schema)
        return self._writers[number]
