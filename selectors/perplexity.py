"""Perplexity: the documents that a reference model finds easy, usual or hard.

Marion et al. 2023, "When Less is More", https://arxiv.org/abs/2309.04564: of low, middle and high perplexity the middle
pretrained best, and the lowest never did. Wenzek et al. 2020 (CCNet, https://arxiv.org/abs/1911.00359) call documents
below the 30th percentile head, below the 60th middle, the others tail: here that is the column `bucket`, so that
`cut: {per: bucket, shares: {head: 0.5, middle: 0.5}}` gives each its share. Percentiles are those of a random sample of
100,000 documents: their standard error is at most 0.16 points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from ..storage.errors import ConfigError
from .base import Around, Draw, Selector, Target
from .model_losses import check_losses, mean_loss, scored
from .reasons import Reason
from .token_reasons import Term, token_reasons

BUCKETS = ("head", "middle", "tail")


@dataclass(frozen=True)
class LossSample:
    """The losses of a sample of the pool, ascending."""

    losses: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Perplexity(Selector):
    """Choose documents of low, middle or high perplexity.

    `losses` names a feature with the losses of a model.
    """

    name = "perplexity"
    version = 1
    fit_parameters = ("sample",)
    asks_models = True
    state_type = LossSample

    losses: Feature
    """Name of the feature with the losses."""
    keep: Literal["low", "middle", "high"] = "middle"
    """Which come first: the lowest, the highest, or those nearest to the median by percentiles."""
    head: float = 30.0
    """Percentile below which a document's `bucket` is head."""
    tail: float = 60.0
    """Percentile from which on a document's `bucket` is tail."""
    min_tokens: int = 0
    """Documents of which fewer tokens were predicted are not chosen."""
    sample: int = 100_000
    """Documents of the pool that percentiles are taken from."""

    def __post_init__(self) -> None:
        check_losses("perplexity", "losses", self.losses)
        if not 0 <= self.head <= self.tail <= 100:
            raise ConfigError(
                f"perplexity: head is {self.head} and tail is {self.tail}, expected 0 <= head <= tail <= 100"
            )
        if self.min_tokens < 0 or self.sample < 1:
            raise ConfigError(
                f"perplexity: min_tokens is {self.min_tokens} and sample is {self.sample}; "
                "expected 0 or more, and 1 or more"
            )

    @property
    def sample_size(self) -> int:
        """Documents that percentiles are taken from."""
        return self.sample

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> LossSample:
        """Return the losses of the sample."""
        found = np.empty(0) if summary is None else mean_loss(summary, "losses")
        return LossSample(np.sort(found[~np.isnan(found)]))

    def score(self, batch: pa.RecordBatch, state: LossSample) -> pa.Table:
        """Return minus the loss, the loss, or minus the distance to the median in percentiles; and `bucket`."""
        loss = mean_loss(batch, "losses")
        percentile = _percentiles(loss, state.losses)
        score = {"low": -loss, "high": loss, "middle": -np.abs(percentile - 50)}[self.keep]
        bucket = np.digitize(percentile, [self.head, self.tail])  # NaN: the last
        names = pa.array(np.array(BUCKETS)[bucket], pa.string(), mask=np.isnan(loss))
        return scored(batch, "losses", score, self.min_tokens).append_column("bucket", names)

    def reasons(
        self, batch: pa.RecordBatch, state: LossSample, scores: pa.Table, around: Around
    ) -> list[Reason | None] | None:
        """Say which tokens the loss comes from, whatever loss is wanted: the score itself may be its percentile's."""
        return token_reasons(batch, scores, [Term("losses", self.losses, 1.0)], around.most)


def _percentiles(loss: npt.NDArray[np.float64], sample: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return where each loss lies in the sample, 0 to 100, between its values in proportion; NaN stays NaN."""
    if not len(sample):
        return np.where(np.isnan(loss), np.nan, 50.0)
    places = 100 * (np.arange(len(sample)) + 0.5) / len(sample)
    found: npt.NDArray[np.float64] = np.interp(loss, sample, places, left=0.0, right=100.0)
    return np.where(np.isnan(loss), np.nan, found)
