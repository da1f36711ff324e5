"""CoLoR-Filter: documents that a model fine-tuned on the target predicts better than the model that it came from.

Brandfonbrener et al. 2024, https://arxiv.org/abs/2406.10670. The score is the loss of the prior minus that of the
conditional model, a token; the authors score sequences of 512 tokens, here a document counts by the sums over its
tokens. Its mean over a pool is negative, so 0 is no threshold. The paper's tau (the best n of tau n at random) is the
ratio of two budgets: a step `select: random` before this one. Two quirks of the official code are not repeated: NaN
ranks first there, last here; and a budget of 0 takes everything there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from ..features.base import Feature
from ..storage.errors import ConfigError
from .base import Around, Draw, Selector, Target
from .exact import Nothing
from .model_losses import check_losses, mean_loss, scored
from .reasons import Reason
from .token_reasons import Term, token_reasons


@dataclass(frozen=True)
class ColorFilter(Selector):
    """Choose the documents whose loss falls most when a model is fine-tuned on the target.

    `prior` and `conditional` name features with losses of the two models, which must share their tokenizer.
    """

    name = "color_filter"
    version = 1
    fit_parameters = ()
    asks_models = True
    state_type = Nothing

    prior: Feature
    """Name of the feature with the losses of the model before it was fine-tuned."""
    conditional: Feature
    """Name of the feature with the losses of the fine-tuned model."""
    score_by: Literal["difference", "conditional", "prior"] = "difference"
    """The baselines of the paper: the loss of one of the models alone, lower is better."""
    min_tokens: int = 0
    """Documents of which fewer tokens were predicted are not chosen: their differences are noise."""

    def __post_init__(self) -> None:
        check_losses("color_filter", "prior", self.prior)
        check_losses("color_filter", "conditional", self.conditional)
        if self.min_tokens < 0:
            raise ConfigError(f"color_filter: min_tokens is {self.min_tokens}, expected 0 or more")

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> Nothing:
        """Return an empty state: the target is in the conditional model."""
        return Nothing()

    def score(self, batch: pa.RecordBatch, state: Nothing) -> pa.Table:
        """Return the difference of the losses in nats a token, larger is better."""
        prior, conditional = mean_loss(batch, "prior"), mean_loss(batch, "conditional")
        score = {"difference": prior - conditional, "conditional": -conditional, "prior": -prior}[self.score_by]
        return scored(batch, "prior", score, self.min_tokens)

    def reasons(
        self, batch: pa.RecordBatch, state: Nothing, scores: pa.Table, around: Around
    ) -> list[Reason | None] | None:
        """Say which tokens the difference of the losses comes from."""
        prior, conditional = Term("prior", self.prior, 1.0), Term("conditional", self.conditional, -1.0)
        alone = Term("prior", self.prior, -1.0)
        terms = {"difference": [prior, conditional], "conditional": [conditional], "prior": [alone]}[self.score_by]
        return token_reasons(batch, scores, terms, around.most)
