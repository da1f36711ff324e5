"""Who gets which share of the memory that a run may use: the only place that says so.

What `memory:` in `flows.yaml` leaves beside what the process has before it reads anything (Python, Arrow, DuckDB,
Numba) is the *room*. Workers get a fixed part of it each, which is what one was measured to take at most; what has to
see all documents at once, one such thing at a time, works in blocks that go by the room, and beyond these on the disk.
No share decides what comes out, only how much of it is in memory at a time. Row groups (8 MB) are no share: they are
part of what is published.
"""

from dataclasses import dataclass

MB = 1 << 20
WORKER = 150 * MB
DRIVER = 200 * MB
"""What comes with the first work and stays: libraries, compiled kernels, what is held of all shards. In a flow of five
steps a process of 277 MB came to 445 between its stages, and to 606 at its peak with one worker."""
ROOMY = 1 << 40


@dataclass(frozen=True)
class Budget:
    """What a process may have resident and what it has before any work, in bytes; by default all shares are largest."""

    limit: int = ROOMY
    has: int = 0

    @property
    def room(self) -> int:
        """What is shared out."""
        return self.limit - self.has

    @property
    def is_enough(self) -> bool:
        """Whether a worker can work in it."""
        return self.room >= LEAST_ROOM

    def is_tight(self, workers: int) -> bool:
        """Whether it matters what so many workers leave unused, which takes a little time to give back."""
        return self.room < 4 * (DRIVER + workers * WORKER)

    def workers(self, asked: int) -> int:
        """Return how many of so many workers there is room for, at least one."""
        return max(1, min(asked, (self.room - DRIVER) // WORKER))

    @property
    def row_groups_ahead(self) -> int:
        """How many row groups of 8 MB a worker may have waiting for being written while a file is read."""
        return max(1, min(4, self.room // (200 * MB)))

    @property
    def query(self) -> int:
        """Of DuckDB, for a query over all documents, which goes to disk beyond it."""
        return max(64 * MB, min(512 * MB, self.room // 3))

    @property
    def query_config(self) -> dict[str, str | bool | int | float | list[str]]:
        """The same as DuckDB's settings; two threads, because each has blocks of its own."""
        return {"memory_limit": f"{self.query >> 20}MiB", "threads": 2}

    @property
    def partition_bytes(self) -> int:
        """Of a shuffle, one partition; what is made of it takes two or three times as much."""
        return max(16 * MB, min(256 * MB, self.room // 8))

    @property
    def partition_rows(self) -> int:
        """The same where rows are short."""
        return 400_000 * self.partition_bytes // (256 * MB)

    @property
    def range_bytes(self) -> int:
        """Of a sort on disk, one range of rows."""
        return max(4 * MB, min(32 * MB, self.room // 24))


LEAST_ROOM = DRIVER + WORKER
"""What one worker takes, and the smallest shares."""
