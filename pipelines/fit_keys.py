"""What names a state, its scores, and the fits that differ in nothing but the pool.

A state is named by what made it. Its scores are named by it and by the rows that were scored, shard by shard, and not
by the whole pool: a state that stays while the pool grows scores new shards only.
"""

from collections.abc import Mapping
from typing import Any

from ..selectors.base import Selector
from ..storage.fingerprint import fingerprint
from .selector_inputs import fit_recipe, score_recipe

POOL, STATE = "survivors", "state"
_DATA = (POOL, "targets", "seed", "step")


def state_key(selector: Selector, made_by: Mapping[str, Any]) -> str:
    """Name the state of a step: `made_by` is `SelectorInputs.recipe`, its data, and the state where history chose it.

    Where the selector learns nothing from the pool, the pool is no part of it.
    """
    if STATE in made_by:
        return str(made_by[STATE])
    return fingerprint(_fit_parts(selector, made_by))


def warm_key(selector: Selector, made_by: Mapping[str, Any], parent: str) -> str:
    """Name the state that was found from another one."""
    return fingerprint(_fit_parts(selector, made_by) | {"warm": parent})


def scores_key(selector: Selector, made_by: Mapping[str, Any]) -> str:
    """Name the scores of a state."""
    return fingerprint(score_recipe(selector, _recipe(made_by)) | {"state": state_key(selector, made_by)})


def kinship(selector: Selector, made_by: Mapping[str, Any]) -> dict[str, str]:
    """Return what makes a state, but for the pool: two fits that have the same could share theirs."""
    parts = {name: value for name, value in _fit_parts(selector, made_by).items() if name != POOL}
    named = {"targets": parts.pop("targets"), "features": [parts.pop("needs"), parts.pop("expression_features", None)]}
    named |= {"seed": parts.pop("seed"), "parameters": parts}
    return {name: fingerprint(value) for name, value in named.items()}


def _recipe(made_by: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made_by.items() if name not in (*_DATA, STATE)}


def _fit_parts(selector: Selector, made_by: Mapping[str, Any]) -> dict[str, Any]:
    data = {name: made_by[name] for name in _DATA if selector.learns or name != POOL}
    return fit_recipe(selector, _recipe(made_by)) | data
