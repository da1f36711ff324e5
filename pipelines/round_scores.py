"""What scores the documents of a round: SQL over the configuration's features, or over a model's that learns meanwhile.

The driver of the rounds (`refining`) asks for the features after each round, with what has been chosen so far. So a
model that was trained on that can take the place of a fixed one, and nothing else changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..features.base import Feature
from ..selectors.base import Selector
from ..storage.errors import ConfigError
from ..storage.survivors import Survivors
from .config import SelectStep
from .expressions import Expression, FeatureSchemas, compile_expression
from .measuring import Column


class RoundScores(Protocol):
    """What scores the documents of each round of a step."""

    @property
    def expression(self) -> Expression:
        """The score."""
        ...

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What the scores are made by, beside the chosen documents: part of the name of the choice."""
        ...

    def columns(self, number: int, chosen: Survivors) -> tuple[Column, ...]:
        """Return the features that the expression reads, after round `number`; `chosen` are all documents so far."""
        ...


@dataclass(frozen=True)
class FixedScores:
    """Scores by features that are the same after every round."""

    expression: Expression
    asked: tuple[Column, ...]

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The expression and the names of its features' numbers."""
        return {"score": self.expression.sql, "features": {column.alias: column.key for column in self.asked}}

    def columns(self, number: int, chosen: Survivors) -> tuple[Column, ...]:
        """Return the features of the configuration."""
        return self.asked


def round_scores(step: SelectStep, selector: Selector, features: Mapping[str, Feature]) -> FixedScores | None:
    """Return what scores the rounds of a step; None for a step without. Raises ConfigError."""
    if step.refine is None:
        return None
    place = f"step {step.name!r}: refine"
    if selector.first_shares is None:
        raise ConfigError(f"{place}: {step.select} does not choose from clusters by shares, as `kmeans` does")
    if step.cut.budget is None or step.cut.percent is not None:
        raise ConfigError(f"{place}: the rounds divide a budget; give `cut` a `budget`, and no `percent`")
    expression = compile_expression(f"{place}: score", "score", step.refine.score, FeatureSchemas(features), "DOUBLE")
    return FixedScores(expression, tuple(Column(alias, features[alias]) for alias in expression.aliases))
