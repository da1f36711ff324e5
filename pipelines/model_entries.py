"""The entries of `models` in `flows.yaml`: language models that a flow trains, and whose losses choose documents."""

from typing import Any, Literal

from pydantic import Field, model_validator

from .amounts import Count
from .strict import Name, Strict

SHAPE = ("depth", "width", "heads", "context")


class TokenBudget(Strict):
    """How much a model is trained on."""

    tokens: Count = Field(gt=0, description="of the model's own tokenizer")


class ModelEntry(Strict):
    """A model of its own, or one that goes on from another; trained on the pool, or on a target."""

    size: Literal["tiny", "small", "base"] | None = Field(
        None, description="a new decoder of 3M, 20M or 150M parameters (with a vocabulary of 8,192)"
    )
    depth: int | None = Field(None, ge=1, description="layers; default: those of `size`, as with the next three")
    width: int | None = Field(None, ge=1, description="numbers of the residual stream")
    heads: int | None = Field(None, ge=1, description="attention heads of a layer")
    context: int | None = Field(
        None, ge=2, description="tokens of a sequence; of a new decoder also the most it can read"
    )
    vocabulary: int = Field(8_192, ge=257, description="tokens of a new decoder's tokenizer, learned from the pool")
    base: str | None = Field(
        None, alias="from", description="go on from an entry of `models`, a model's folder or a name on the Hub"
    )
    target: Name | None = Field(None, description="train on the visible part of this target; default: on the pool")
    budget: TokenBudget | None = Field(None, description="most tokens; the pool's are those of a keyed random sample")
    epochs: float | None = Field(
        None, gt=0, description="most passes over the documents; default: 1 over the pool, 6 over a target"
    )
    held_out: Count = Field(
        65_536, description="tokens that are not trained on but watched, at most a tenth of what there is; 0: none"
    )
    evaluations: int = Field(20, ge=1, description="how often the held-out loss is taken, evenly over the training")
    device: str = Field("auto", description="auto (a GPU where there is one), cpu, cuda, cuda:1 or mps")
    parameters: dict[str, Any] = Field(
        default_factory=dict, alias="with", description="batch, accumulation, peak_rate, weight_decay, patience, ..."
    )

    @property
    def tokens(self) -> int | None:
        """The budget."""
        return None if self.budget is None else self.budget.tokens

    @model_validator(mode="after")
    def _consistent(self) -> "ModelEntry":
        if (self.size is None) == (self.base is None):
            raise ValueError("a model has exactly one of `size` (a new one) and `from` (go on from another)")
        given = [name for name in ("depth", "width", "heads", "vocabulary") if name in self.model_fields_set]
        if self.base is not None and given:
            raise ValueError(f"`{given[0]}` is that of the model in `from`; leave it out")
        if self.target is None and self.budget is None and self.epochs is None:
            raise ValueError(
                "a model that is trained on the pool needs a `budget` of tokens, or `epochs` over all of it"
            )
        return self
