"""A user's own scores, from anywhere: Parquet files that are joined by document id.

Nothing is computed and nothing is stored in the lake: a batch of documents is looked up in a table that is held in
memory, 8 bytes, the id and the values for each of its rows (twice that while it is loaded). A document that the files
do not have gets nulls, which a filter's rule drops.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from ..storage.external_scores import ScoreFiles, ScoreTable, find_rows
from .base import Feature


@dataclass(frozen=True)
class External(Feature):
    """Look up the columns `values` (default: all others) of Parquet `files` by the id in their column `join`.

    Ids are text; whole numbers become text. Of a feature that is named `mine`, a rule reads `mine.<column>`.
    """

    name: ClassVar[str] = "external"
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("doc_id",)

    files: tuple[str, ...]
    """Globs of Parquet files, relative to flows.yaml."""
    join: str = "id"
    """Their column that holds the ids."""
    values: tuple[str, ...] | None = None
    """Their columns that are looked up; default: all others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", (self.files,) if isinstance(self.files, str) else tuple(self.files))
        object.__setattr__(self, "values", None if self.values is None else tuple(self.values))

    @property
    def stored(self) -> bool:
        """The files are there already."""
        return False

    @property
    def columns(self) -> pa.Schema:
        """The columns as the files' footers have them. Raises ConfigError for files that do not fit."""
        return self._scores.schema()

    def identity(self) -> dict[str, Any]:
        """Return the SHA-256 of the files. Raises ConfigError."""
        return {"files": self._scores.sha256()}

    def load(self, device: str = "cpu") -> ScoreTable:
        """Return all rows of the files. Raises ConfigError for an id that is given twice."""
        return self._scores.read()

    def compute(self, batch: pa.RecordBatch, model: ScoreTable | None = None) -> pa.RecordBatch:
        """Return the values of each document, nulls where the files do not have it."""
        table = self._scores.read() if model is None else model
        found = table.values.take(find_rows(table, batch.column("doc_id"))).combine_chunks()
        return pa.RecordBatch.from_arrays([_whole(column) for column in found.columns], schema=found.schema)

    @property
    def _scores(self) -> ScoreFiles:
        return ScoreFiles(self.files, self.join, self.values)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
