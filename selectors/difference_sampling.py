"""Difference sampling: documents that a large model has learned and a small one has not.

Gu et al. 2024, "MiniPLM", https://arxiv.org/abs/2410.17215: the mean loss of a small reference model minus that of a
large teacher, both a token, largest first. (Their README writes log p / log p_ref; the code takes the difference.) They
keep half of the documents: `cut: {by: percentile, percent: 50}`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..features.base import Feature
from ..storage.errors import ConfigError
from .base import Around, Draw, Selector, Target
from .exact import Nothing
from .model_losses import check_losses, mean_loss, scored
from .reasons import Reason
from .token_reasons import Term, token_reasons


@dataclass(frozen=True)
class DifferenceSampling(Selector):
    """Choose the documents that a large model predicts better than a small one.

    `small` and `large` name features with losses of the two models, which must share their tokenizer.
    """

    name = "difference_sampling"
    version = 1
    fit_parameters = ()
    asks_models = True
    state_type = Nothing

    small: Feature
    """Name of the feature with the losses of the small model."""
    large: Feature
    """Name of the feature with the losses of the large model."""
    min_tokens: int = 0
    """Documents of which fewer tokens were predicted are not chosen: their differences are noise."""

    def __post_init__(self) -> None:
        check_losses("difference_sampling", "small", self.small)
        check_losses("difference_sampling", "large", self.large)
        if self.min_tokens < 0:
            raise ConfigError(f"difference_sampling: min_tokens is {self.min_tokens}, expected 0 or more")

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> Nothing:
        """Return an empty state."""
        return Nothing()

    def score(self, batch: pa.RecordBatch, state: Nothing) -> pa.Table:
        """Return the difference of the losses in nats a token, larger is better."""
        return scored(batch, "small", mean_loss(batch, "small") - mean_loss(batch, "large"), self.min_tokens)

    def reasons(
        self, batch: pa.RecordBatch, state: Nothing, scores: pa.Table, around: Around
    ) -> list[Reason | None] | None:
        """Say which tokens the difference of the losses comes from."""
        terms = [Term("small", self.small, 1.0), Term("large", self.large, -1.0)]
        return token_reasons(batch, scores, terms, around.most)
