"""What a feature is: numbers about a document that depend on that document alone.

A feature is one frozen dataclass in one file; its fields are its parameters and the schema of its entry in
`flows.yaml`. It speaks Arrow and NumPy only, so that it can run on a machine that has nothing else.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa


@dataclass(frozen=True)
class Feature(ABC):
    """Measure documents; the fields of a subclass are its parameters."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised when the numbers change: it is part of every fingerprint."""
    reads: ClassVar[tuple[str, ...]] = ("text",)
    """Columns of the document shard that `compute` needs."""
    no_numbers: ClassVar[tuple[str, ...]] = ()
    """Parameters that change how the numbers come about, but not the numbers: they are not in the fingerprint."""
    cost: ClassVar[int] = 0
    """0 a pass over the bytes, 1 compression, 2 a small model, 3 a language model: filters ask the cheap ones first."""

    @property
    def stored(self) -> bool:
        """False: cheaper to compute again than to keep, so nothing is written to the lake."""
        return True

    @property
    @abstractmethod
    def columns(self) -> pa.Schema:
        """The columns that `compute` returns."""

    def identity(self) -> dict[str, Any]:
        """Return what the numbers depend on beside version and parameters: digests of files, library versions."""
        return {}

    def load(self, device: str = "cpu") -> Any:
        """Return what `compute` needs once a worker: a model, a tokenizer, tables. `device` is a torch device name."""
        return None

    def compute(self, batch: pa.RecordBatch, model: Any) -> pa.RecordBatch:
        """Return one row a document of `batch`, in its order; a row never depends on the other rows.

        `batch` has at least the columns that `reads` names; the result has exactly `columns`.
        """
        raise NotImplementedError
