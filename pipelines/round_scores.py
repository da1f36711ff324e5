"""What scores the documents of a round: SQL over the configuration's features, or over a model's that learns meanwhile.

The driver of the rounds (`refining`) asks for the features after each round, with what has been chosen so far. So a
model that was trained on that can take the place of a fixed one, and nothing else changes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..features.base import Feature
from ..selectors.base import Selector
from ..storage.errors import ConfigError
from ..storage.survivors import Survivors
from .aux_models import Plan, model_of, plan, with_models
from .aux_training import train_model
from .config import Config
from .expressions import Expression, FeatureSchemas, compile_expression
from .measuring import Column
from .plugins import naming
from .step_entries import SelectStep
from .work import Work


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


@dataclass(frozen=True)
class TrainedScores:
    """Scores by a model that is trained after each round, on all that is chosen so far."""

    work: Work
    fixed: FixedScores
    plan: Plan

    @property
    def expression(self) -> Expression:
        """The score."""
        return self.fixed.expression

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The expression, the names of the features whose numbers do not follow the model, and what makes the model."""
        features = {
            column.alias: asdict(column.feature) if self._is_trained(column.feature) else column.key
            for column in self.fixed.asked
        }
        base = self.work.models.get(self.plan.base.name) if isinstance(self.plan.base, Plan) else None
        return {
            "score": self.expression.sql, "features": features, "model": self.plan.recipe(), "base": base and base.key
        }  # fmt: skip

    def columns(self, number: int, chosen: Survivors) -> tuple[Column, ...]:
        """Train the model; return the features, with its losses among them."""
        trained = train_model(self.work, self.plan, chosen, {}, self.work.models)
        asked = {column.alias: column.feature for column in self.fixed.asked}
        found = with_models(asked, {self.plan.name: trained.folder})
        return tuple(Column(alias, feature) for alias, feature in found.items())

    def _is_trained(self, feature: Feature) -> bool:
        return model_of(feature, [self.plan.name]) is not None


def scores_of_rounds(work: Work, step: SelectStep, selector: Selector) -> FixedScores | TrainedScores | None:
    """Return what scores the rounds of a step of this run; None for a step without."""
    fixed = round_scores(step, selector, work.features)
    if fixed is None or step.refine is None or step.refine.train is None:
        return fixed
    return TrainedScores(work, fixed, plan(work.config, work.root, step.refine.train))


def check_student(config: Config, root: Path, step: SelectStep, asked: Iterable[Feature], trained: list[str]) -> None:
    """Raise ConfigError where the model that a refined step trains is none that can be trained on its rounds."""
    if step.refine is None or (name := step.refine.train) is None:
        return
    place = f"step {step.name!r}: refine: train"
    with naming(place):
        found = plan(config, root, name)
    if found.entry.target is not None:
        raise ConfigError(
            f"{place}: the model {name!r} is trained on the target {found.entry.target!r}, not on the rounds"
        )
    if isinstance(found.base, Plan) and found.base.name not in trained:
        raise ConfigError(
            f"{place}: the model {name!r} goes on from {found.base.name!r}, which no step before it trains; "
            f"put {{name: models, train: {found.base.name}}} before it"
        )
    if all(model_of(feature, [name]) is None for feature in asked):
        raise ConfigError(f"{place}: `score` does not read the losses of the model {name!r}")


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
