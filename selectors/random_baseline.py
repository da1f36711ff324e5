"""A uniform random subset: the baseline that every other selector has to beat.

The score is a keyed uniform number, so the same documents come out for any number of shards and workers, and a larger
budget only adds documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from .base import Around, Draw, Selector, Target
from .keyed import uniform
from .reasons import Reason


@dataclass(frozen=True)
class RandomState:
    """The key of this step's random numbers."""

    key: int


@dataclass(frozen=True)
class Random(Selector):
    """Choose documents uniformly at random."""

    name = "random"
    version = 1
    state_type = RandomState

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> RandomState:
        """Return the key of the step."""
        return RandomState(draw("score"))

    def score(self, batch: pa.RecordBatch, state: RandomState) -> pa.Table:
        """Return a uniform number in (0, 1) for each document."""
        keys = np.asarray(batch.column("doc_key"))
        return pa.table({"score": uniform(keys, state.key)})

    def reasons(
        self, batch: pa.RecordBatch, state: RandomState, scores: pa.Table, around: Around
    ) -> list[Reason | None]:
        """Say that it was chance."""
        about = "drawn by its key, from 0 to 1: the largest numbers are chosen"
        return [Reason("chance", about, total=score) for score in scores.column("judged").to_pylist()]
