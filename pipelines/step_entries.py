"""The steps of a flow as `flows.yaml` says them: filter, dedup, decontaminate, train, and select with its cut."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from ..selectors.cut_rule import CutRule
from ..storage.errors import ConfigError
from .alarm_limits import AlarmLimits, Alarms
from .amounts import CountOrShare, SizeOrShare
from .refine_entry import Refine
from .refit_entry import ABOUT_REFIT, Refit
from .strict import Name, Strict


class Budget(Strict):
    """How much to keep, in exactly one unit: a count, or a percentage of what enters the step."""

    tokens: CountOrShare | None = None
    documents: CountOrShare | None = None
    bytes: SizeOrShare | None = None
    fraction: float | None = Field(None, ge=0, le=1, description="of the documents")
    of: Literal["step", "corpus"] = Field("step", description="what percentages refer to")

    @model_validator(mode="after")
    def _one_unit(self) -> "Budget":
        given = [u for u in ("tokens", "documents", "bytes", "fraction") if getattr(self, u) is not None]
        if len(given) != 1:
            raise ValueError(f"a budget has exactly one of tokens, documents, bytes, fraction; found {given or 'none'}")
        return self

    @property
    def unit(self) -> Literal["tokens", "documents", "bytes"]:
        """What is counted."""
        if self.tokens is not None:
            return "tokens"
        return "bytes" if self.bytes is not None else "documents"

    @property
    def amount(self) -> int | float:
        """A count (int), or a share of what enters (float)."""
        if self.fraction is not None:
            return float(self.fraction)
        found = self.tokens if self.tokens is not None else self.bytes if self.bytes is not None else self.documents
        assert found is not None  # _one_unit
        return found


class CutEntry(Strict):
    """How scores become a choice."""

    by: Literal["top", "gumbel", "threshold", "percentile"] = "top"
    temperature: float = Field(1.0, gt=0, description="gumbel: key = score / temperature + Gumbel noise")
    min_score: float | None = None
    percent: float | None = Field(None, ge=0, le=100, description="percentile: keep the best percent% of the documents")
    budget: Budget | None = None
    per: str | None = Field(
        None, description="a column (source, meta.x, or a column of the selector): each value gets its share"
    )
    shares: dict[str, float] | None = Field(
        None, description="share of the budget of each value of `per`; default: by size"
    )
    redistribute: bool = Field(False, description="give an unmet share to the values that still have documents")

    @model_validator(mode="after")
    def _consistent(self) -> "CutEntry":
        if self.by == "threshold" and self.min_score is None:
            raise ValueError("`by: threshold` needs `min_score`")
        if self.by == "percentile" and self.percent is None:
            raise ValueError("`by: percentile` needs `percent`")
        if self.by in ("top", "gumbel") and self.budget is None and self.min_score is None:
            raise ValueError(f"`by: {self.by}` needs a `budget` (or a `min_score`)")
        if (self.shares or self.redistribute) and not self.per:
            raise ValueError("`shares` and `redistribute` need `per`")
        try:
            CutRule(
                by=self.by, temperature=self.temperature, min_score=self.min_score, percent=self.percent,
                budget=None if self.budget is None else 0, shares=self.shares, per=self.per is not None,
                redistribute=self.redistribute,
            )  # fmt: skip
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("cut: ")) from None
        return self


class FilterStep(Strict):
    """Drop the documents for which a rule is not true."""

    name: Name
    filter: dict[Name, str] = Field(min_length=1, description="name of the rule: SQL expression")
    alarms: Alarms = AlarmLimits()


class DedupStep(Strict):
    """Keep one document of each group of equals."""

    name: Name
    dedup: str
    parameters: dict[str, Any] = Field(default_factory=dict, alias="with")
    alarms: Alarms = AlarmLimits()


class SelectStep(Strict):
    """Score the documents and cut."""

    name: Name
    select: str
    target: dict[str, float | None] = Field(
        default_factory=dict, description="a name, a list of names, or names with proportions"
    )
    parameters: dict[str, Any] = Field(default_factory=dict, alias="with")
    cut: CutEntry
    refine: Refine | None = Field(None, description="spend the budget in rounds; for selectors that go by clusters")
    refit: Refit = Field("fresh", description=ABOUT_REFIT)
    alarms: Alarms = AlarmLimits()

    @field_validator("target", mode="before", json_schema_input_type=str | list[str] | dict[str, float | None])
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {value: None}
        return dict.fromkeys(value) if isinstance(value, list) else value


class SharedWords(Strict):
    """By how many words a document repeats an evaluation document, and what becomes of it."""

    words: int = Field(13, ge=1, le=1000, description="so many in a row, without case, punctuation and accents")
    min_words: int = Field(
        8, ge=1, le=1000, description="an evaluation document below `words` is matched whole from so many words on"
    )
    action: Literal["drop", "flag"] = Field(
        "drop",
        description="flag: keep the document, and say in its row of this step which evaluation document it repeats",
    )


class DecontaminateStep(Strict):
    """Find the documents that repeat an evaluation document; the held-out part of a target counts too."""

    name: Name
    decontaminate: list[str] = Field(min_length=1, description="names of `targets`")
    parameters: SharedWords = Field(SharedWords(), alias="with")
    alarms: Alarms = AlarmLimits()

    @field_validator("decontaminate", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class TrainStep(Strict):
    """Train models on what has survived up to here, or on targets; all documents go on to the next step."""

    name: Name
    train: list[Name] = Field(
        min_length=1, description="names of `models`; those that they come from are trained before them"
    )

    @field_validator("train", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


def step_kind(step: Any) -> str | None:
    """Return which of the kinds of steps a step is, None where not exactly one."""
    if not isinstance(step, dict):
        return next((kind for kind, model in STEP_KINDS.items() if isinstance(step, model)), None)
    given = [kind for kind in STEP_KINDS if kind in step]
    return given[0] if len(given) == 1 else None


STEP_KINDS: dict[str, type[Strict]] = {
    "filter": FilterStep, "dedup": DedupStep, "select": SelectStep, "decontaminate": DecontaminateStep,
    "train": TrainStep,
}  # fmt: skip

Step = Annotated[
    Annotated[FilterStep, Tag("filter")]
    | Annotated[DedupStep, Tag("dedup")]
    | Annotated[SelectStep, Tag("select")]
    | Annotated[DecontaminateStep, Tag("decontaminate")]
    | Annotated[TrainStep, Tag("train")],
    Discriminator(
        step_kind,
        custom_error_type="step_kind",
        custom_error_message="a step has a name and exactly one of " + ", ".join(f"`{kind}`" for kind in STEP_KINDS),
    ),
]
