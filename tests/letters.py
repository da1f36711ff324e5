"""A feature with vectors that takes no model and no time."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from tamis.features.base import Feature

DIMENSIONS = 8


@dataclass(frozen=True)
class Letters(Feature):
    """How often a text has each of eight letters."""

    name = "letters"
    version = 1

    @property
    def columns(self):
        return pa.schema([pa.field("vector", pa.list_(pa.float16(), DIMENSIONS), nullable=False)])

    def compute(self, batch, model=None):
        counts = [[text.lower().count(letter) for letter in "aehinost"] for text in batch.column("text").to_pylist()]
        return pa.record_batch([vectors(np.array(counts).reshape(-1, DIMENSIONS))], schema=self.columns)


def vectors(rows):
    """Return rows of numbers as the column of a feature."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float16).reshape(-1)), rows.shape[1])
