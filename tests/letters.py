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


@dataclass(frozen=True)
class MadeUpLosses(Feature):
    """What a language model would say of a text: so many nats for each of its words, and for each letter e."""

    name = "made_up_losses"
    version = 1

    a_word: float = 2.0
    an_e: float = 0.5

    @property
    def columns(self):
        return pa.schema([pa.field("nll", pa.float32()), pa.field("n_predicted", pa.int64())])

    def compute(self, batch, model=None):
        texts = batch.column("text").to_pylist()
        counts = [len(text.split()) for text in texts]
        nll = [self.a_word * n + self.an_e * text.count("e") for n, text in zip(counts, texts, strict=True)]
        return pa.record_batch([pa.array(nll, pa.float32()), pa.array(counts, pa.int64())], schema=self.columns)
