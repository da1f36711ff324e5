"""Several targets in one step: a score column each, and each its share of the budget.

The targets are served in their order, and a document that one took is not seen by the later ones, as in the official
DSIR code.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..storage.errors import SelectionError
from .base import Choice, Draw, remaining
from .budget import Cut, CutRule, Parts, make_cut


def score_columns(names: Sequence[str]) -> list[str]:
    """Return the names of the score columns, in the order of the targets."""
    return ["score"] if len(names) == 1 else [f"score_{name}" for name in names]


def proportions(selector: str, weights: Sequence[float | None], sizes: Sequence[float]) -> tuple[float, ...]:
    """Return each target's share of the budget: as given, or by its size. Raises SelectionError."""
    if any(w is None for w in weights):
        if not all(w is None for w in weights):
            raise SelectionError(
                f"{selector}: some targets have a proportion and some have none; give all of them, or none"
            )
        weights = list(sizes)
    given = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
        raise SelectionError(f"{selector}: proportions {list(weights)} are not numbers from 0 of which one is above 0")
    return tuple((given / given.sum()).tolist())


def cut_by_target(
    parts: Callable[[str], Parts], names: Sequence[str], shares: Sequence[float], rule: CutRule, draw: Draw
) -> Choice:
    """Cut once for each target with its share of the budget; a document goes to the first target that takes it."""
    columns = score_columns(names)
    if len(columns) == 1:
        return Choice({"score": make_cut(parts("score"), rule, draw("cut"))})
    budgets: list[int | None] = [None] * len(columns)
    if rule.budget is not None:
        budgets = list(_share(rule.budget, shares))
    cuts: dict[str, Cut] = {}
    streams = {name: parts(name) for name in columns}
    for i, name in enumerate(columns):
        stream = streams[name]
        for earlier in columns[:i]:
            stream = remaining(stream, streams[earlier], cuts[earlier])
        streams[name] = stream
        percent = None if rule.percent is None else rule.percent * shares[i]
        cuts[name] = make_cut(stream, replace(rule, budget=budgets[i], percent=percent), draw(f"cut/{names[i]}"))
    return Choice(cuts)


def _share(budget: int, shares: Sequence[float]) -> list[int]:
    """Split a budget as the official code does: rounded down, the last target takes the rest."""
    parts = [int(budget * p) for p in shares[:-1]]
    return [*parts, budget - sum(parts)]
