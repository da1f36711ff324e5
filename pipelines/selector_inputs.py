"""What the batches of a selector carry: columns of the shard, its features, and the values of its expressions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..features.base import Feature
from ..selectors.base import Selector
from ..storage.lake import Lake
from ..storage.survivors import Survivors
from .expressions import Expression, FeatureSchemas, compile_expression
from .measuring import Column, Reader
from .plugins import selector_recipe


@dataclass(frozen=True)
class SelectorInputs:
    """A selector with the features that it needs, and those that only its expressions read."""

    selector: Selector
    columns: tuple[Column, ...]
    asked: tuple[Column, ...]
    expressions: tuple[Expression, ...]

    def pool(self, lake: Lake, survivors: Survivors, *more: str) -> Reader:
        """Return what reads the pool; `more` are further columns of the shard."""
        read = (name for e in self.expressions for name in e.document_columns)
        reads = tuple(dict.fromkeys([*more, *self.selector.reads, *read]))
        return Reader(lake, survivors, reads, self.columns, self.expressions, self.asked)

    def target(self, lake: Lake, survivors: Survivors) -> Reader:
        """Return what reads a target: expressions are over the pool alone."""
        return Reader(lake, survivors, self.selector.reads, self.columns)

    def recipe(self) -> dict[str, Any]:
        """Return what the selector's choice is made by, beside the documents and the budget."""
        recipe = selector_recipe(self.selector)
        if self.expressions:
            recipe["expressions"] = {e.name: e.sql for e in self.expressions}
            recipe["expression_features"] = {c.alias: c.key for c in self.asked}
        return recipe

    def fit_recipe(self) -> dict[str, Any]:
        """Return what its state is made by: other parameters may share it."""
        return fit_recipe(self.selector, self.recipe())

    def score_recipe(self) -> dict[str, Any]:
        """Return what its scores are made by."""
        return score_recipe(self.selector, self.recipe())


def fit_recipe(selector: Selector, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the part of `SelectorInputs.recipe` that makes the state."""
    if selector.fit_parameters is None:
        return recipe
    without = {name: value for name, value in recipe.items() if name not in ("expressions", "expression_features")}
    return _narrowed(without, selector.fit_parameters)


def score_recipe(selector: Selector, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the part of `SelectorInputs.recipe` that makes the scores."""
    return recipe if selector.score_parameters is None else _narrowed(recipe, selector.score_parameters)


def _narrowed(recipe: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return recipe | {"parameters": {name: value for name, value in recipe["parameters"].items() if name in names}}


def selector_inputs(selector: Selector, features: Mapping[str, Feature], place: str) -> SelectorInputs:
    """Return what a selector reads; `features` are those that expressions may name. Raises ConfigError."""
    schemas = FeatureSchemas(features)
    expressions = tuple(
        compile_expression(f"{place}: {name}", name, text, schemas, "DOUBLE")
        for name, text in selector.expressions.items()
    )
    aliases = dict.fromkeys(alias for e in expressions for alias in e.aliases)
    asked = tuple(Column(alias, features[alias]) for alias in aliases)
    columns = tuple(Column(name, f, f.name) for name, f in selector.needs.items())
    return SelectorInputs(selector, columns, asked, expressions)
