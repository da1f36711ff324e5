"""The entries of `mixtures` in `flows.yaml`: which selections and corpora, how much of each, in which order."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from .amounts import Count
from .strict import Name, Strict


class MixtureBudget(Strict):
    """How large the mixture is, copies included."""

    tokens: Count = Field(gt=0, description="of the configuration's tokenizer")


class PartEntry(Strict):
    """One part of a mixture: what a flow chooses, or a whole corpus; or only some sources of it."""

    flow: Name | None = Field(None, description="what this flow chooses; it is run where it has not been")
    corpus: Name | None = Field(None, description="a whole corpus")
    name: Name | None = Field(None, description="what the part is called; default: the name of the flow or corpus")
    sources: list[str] | None = Field(None, min_length=1, description="only documents of these sources")
    weight: float | None = Field(None, gt=0, allow_inf_nan=False, description="share of the tokens, relative to others")
    max_epochs: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="how often its documents may stand in the mixture; default: 1"
    )

    @field_validator("sources", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_origin(self) -> "PartEntry":
        if (self.flow is None) == (self.corpus is None):
            raise ValueError("a part has exactly one of `flow` and `corpus`")
        return self

    @property
    def title(self) -> str:
        """What the part is called."""
        return self.name or self.flow or self.corpus or ""


class Weights(Strict):
    """How the budget is divided; nothing set: by the weights of the parts, or by their sizes where none has one."""

    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="weights are tokens^(1/T): 1 by size, towards infinity equal"
    )
    limit: Count | None = Field(None, gt=0, description="with temperature: nothing counts as more tokens than this")
    unimax: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="as even as possible with at most so many epochs of each"
    )

    @property
    def given(self) -> bool:
        """Whether the weights are those of the parts."""
        return self.temperature is None and self.unimax is None

    @model_validator(mode="after")
    def _one_rule(self) -> "Weights":
        if self.temperature is not None and self.unimax is not None:
            raise ValueError("weights go by `temperature` or by `unimax`, not by both")
        if self.limit is not None and self.temperature is None:
            raise ValueError("`limit` belongs to `temperature`")
        return self


class Order(Strict):
    """In which order the documents stand; nothing set: shuffled by keyed numbers."""

    by: str | None = Field(
        None, description="a curriculum: `score` (of the flow's last step) or an SQL expression over features"
    )
    ascending: bool = Field(True, description="lowest first; documents without a number stand last either way")


class Mixture(Strict):
    """Several selections and corpora as one training mixture."""

    budget: MixtureBudget
    parts: list[PartEntry] = Field(
        min_length=1, description="a document that several parts have belongs to the first of them"
    )
    weights: Weights = Field(Weights(), description="given | {temperature: 2} | {unimax: 4}")
    per: Literal["part", "source"] = Field("part", description="what has a share: each part, or each source of a part")
    redistribute: bool = Field(
        False, description="with given weights: what a part cannot fill goes to the others in proportion"
    )
    dedup: Literal["id", "text"] = Field("id", description="what makes two documents the same: corpus and id, or text")
    order: Order = Field(Order(), description="shuffle | {by: score, ascending: false}")

    @field_validator("weights", mode="before", json_schema_input_type=Literal["given"] | Weights)
    @classmethod
    def _given(cls, value: Any) -> Any:
        return {} if value == "given" else value

    @field_validator("order", mode="before", json_schema_input_type=Literal["shuffle"] | Order)
    @classmethod
    def _shuffled(cls, value: Any) -> Any:
        return {} if value == "shuffle" else value

    @model_validator(mode="after")
    def _consistent(self) -> "Mixture":
        titles = [part.title for part in self.parts]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"two parts are named {twice[0]!r}; give one of them another `name`")
        weighed = [part.title for part in self.parts if part.weight is not None]
        if weighed and not self.weights.given:
            raise ValueError(f"part {weighed[0]!r} has a weight, but `weights` are not `given`; leave one of them out")
        if 0 < len(weighed) < len(titles):
            without = next(title for title in titles if title not in weighed)
            raise ValueError(f"part {without!r} has no weight; give every part one, or none")
        if not self.weights.given and "redistribute" in self.model_fields_set:
            raise ValueError("`redistribute` belongs to given weights; temperature and unimax always redistribute")
        return self
