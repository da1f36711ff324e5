"""What could not be read, on disk: file, line, reason and the first bytes of each bad record.

Written as it comes: a file of which every line is bad must not need the memory of all of them.
"""

from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .fingerprint import TableDigest
from .publish import DIGEST_FIELD, PARQUET, move_into_place, open_writer, temporary_path
from .readers import BadRecord
from .schema import QUARANTINE

ROWS_A_GROUP = 1_000


class QuarantineWriter:
    """Write the bad records of one pack; a context manager that leaves nothing behind without `finish`."""

    def __init__(self, target: Path, scratch: Path) -> None:
        self._target, self._scratch = target, scratch
        self._waiting: list[BadRecord] = []
        self._digest = TableDigest(QUARANTINE)
        self._file: Path | None = None
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "QuarantineWriter":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the disk may be full; the file goes anyway
            if self._writer:
                self._writer.close()
        if self._file:
            self._file.unlink(missing_ok=True)

    def add(self, bad: BadRecord) -> None:
        """Add one record."""
        self._waiting.append(bad)
        if len(self._waiting) >= ROWS_A_GROUP:
            self._flush()

    def finish(self) -> None:
        """Publish what was added; nothing where nothing was."""
        self._flush()
        if self._writer and self._file:
            self._writer.add_key_value_metadata({DIGEST_FIELD: self._digest.hexdigest().encode()})
            self._writer.close()
            move_into_place(self._file, self._target)
            self._writer = self._file = None

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._writer is None:
            self._file = temporary_path(self._scratch, "quarantine.parquet")
            self._writer = open_writer(self._file, QUARANTINE, **PARQUET)
        rows = self._waiting
        columns = [[b.file for b in rows], [b.line for b in rows], [b.reason for b in rows], [b.raw for b in rows]]
        table = pa.table([pa.array(c, f.type) for c, f in zip(columns, QUARANTINE, strict=True)], schema=QUARANTINE)
        self._digest.update(table)
        self._writer.write_table(table)
        self._waiting = []
