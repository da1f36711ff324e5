"""When a step's numbers are an alarm: the entries `alarms` of the configuration, of a flow and of a step.

Nothing that is computed depends on them. What a step says goes before what its flow says, and that before the
configuration's own.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from .amounts import Written, parse_fraction
from .strict import Strict


class AlarmLimits(Strict):
    """From which share on each alarm goes off; `off` silences it."""

    removes_nothing: float | None = Field(0.0, description="a step drops no more than this share of its documents")
    removes_most: float | None = Field(
        0.95, description="a step that has no budget drops more than this share of its documents"
    )
    nan_scores: float | None = Field(0.0, description="more than this share of a step's scores is NaN")
    follows_length: float | None = Field(
        0.9, description="the rank correlation of score and bytes is above this, or below minus this"
    )
    few_effective: float | None = Field(
        0.01, description="by: gumbel: the weight lies on fewer documents than this share of those that it drew"
    )
    score_drift: float | None = Field(
        0.2,
        description="the population stability index of a step's scores, of all or of new documents, beside those of "
        "the run before, is above this",
    )
    budget_not_met: bool = Field(True, description="off: the exit code is 3 all the same, and the warning stays")

    @field_validator("*", mode="before", json_schema_input_type=Written | bool | None)
    @classmethod
    def _on_or_off(cls, value: Any, info: ValidationInfo) -> Any:
        """Read a share, or on and off, of which YAML makes booleans where they stand without quotes."""
        default = cls.model_fields[info.field_name or ""].default
        if value is True or value == "on":
            return default
        if value is None or value is False or value == "off":
            return None if isinstance(default, float) else False
        if not isinstance(default, float):
            raise ValueError(f"{value!r} is neither on nor off")
        return parse_fraction(value)


def _all_off(value: Any) -> Any:
    return dict.fromkeys(AlarmLimits.model_fields, False) if value is False or value == "off" else value


Alarms = Annotated[AlarmLimits, BeforeValidator(_all_off, json_schema_input_type=AlarmLimits | Literal[False, "off"])]
"""The limits, or `off` for all of them."""


def limits_of(*levels: AlarmLimits) -> AlarmLimits:
    """Return the limits that hold: what a level says goes before what those to its left say."""
    return AlarmLimits(**{name: getattr(level, name) for level in levels for name in level.model_fields_set})
