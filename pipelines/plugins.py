"""Make features and selectors from their entries in `flows.yaml`, with errors that name the nearest valid key."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..features.base import Feature
from ..features.registry import REGISTRY as FEATURES
from ..features.tokens import Tokens
from ..selectors.base import Selector
from ..selectors.registry import REGISTRY as SELECTORS
from ..storage.errors import ConfigError
from ..storage.plugins import nearest
from .config import FeatureEntry
from .measuring import feature_key

T = TypeVar("T")


def make_feature(alias: str, entry: FeatureEntry, root: Path) -> Feature:
    """Return the feature of an entry; relative paths among its parameters are below `root`."""
    kind = FEATURES.find(entry.use)
    parameters = {k: _below(root, k, v) for k, v in entry.parameters.items()}
    return _make(kind, parameters, f"features.{alias}")


def make_tokens(tokenizer: str, root: Path) -> Tokens:
    """Return the feature that counts tokens; a tokenizer that is a file is looked for below `root`."""
    close = difflib.get_close_matches(tokenizer, ("words", "bytes"), n=1, cutoff=0.7)
    if close and tokenizer != close[0]:
        raise ConfigError(f"tokenizer: {tokenizer!r} is unknown; did you mean {close[0]!r}?")
    return Tokens(tokenizer=_below(root, "tokenizer", tokenizer))


def make_selector(kind: str, name: str, parameters: Mapping[str, Any]) -> Selector:
    """Return the selector of a step; `kind` is select or dedup."""
    found = SELECTORS.find(name)
    if found.groups != (kind == "dedup"):
        other = "dedup" if found.groups else "select"
        raise ConfigError(f"{kind}: {name!r} belongs to another kind of step; write `{other}: {name}`")
    return _make(found, parameters, f"{kind}: {name}")


def selector_recipe(selector: Selector) -> dict[str, Any]:
    """Return what a selector's numbers are made by, beside its data."""
    return {
        "selector": selector.name,
        "version": selector.version,
        "parameters": asdict(selector),
        "needs": [feature_key(f) for f in selector.needs],
        **({"identity": identity} if (identity := selector.identity()) else {}),
    }


def summary_recipe(selector: Selector) -> dict[str, Any]:
    """Return what a selector's summaries are made by: other parameters may share them."""
    recipe = selector_recipe(selector)
    if selector.summary_parameters is None:
        return recipe
    parameters = {name: recipe["parameters"][name] for name in selector.summary_parameters}
    return {name: recipe[name] for name in ("selector", "version", "needs")} | {"parameters": parameters}


def _make(kind: type[T], parameters: Mapping[str, Any], place: str) -> T:
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in parameters:
        if key not in known:
            raise ConfigError(f"{place}: unknown parameter {key!r}{nearest(key, known)}")
    try:
        return TypeAdapter(kind).validate_python(dict(parameters))
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        )
        raise ConfigError(f"{place}: {found}") from None


def _below(root: Path, key: str, value: Any) -> Any:
    """Make paths relative to the configuration: those of `files`, and a `tokenizer` that is a file there."""
    if key == "tokenizer" and isinstance(value, str) and (root / value).is_file():
        return str(root / value)
    if key == "files":
        return [str(root / v) for v in ([value] if isinstance(value, str) else value)]
    return value
