"""Make features and selectors from their entries in `flows.yaml`, with errors that name the nearest valid key."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ..features.base import Feature
from ..features.registry import REGISTRY as FEATURES
from ..features.tokens import Tokens
from ..selectors.base import Selector
from ..selectors.registry import REGISTRY as SELECTORS
from ..storage.errors import ConfigError
from ..storage.places import is_url
from ..storage.plugins import nearest
from .config import FeatureEntry
from .measuring import feature_key

T = TypeVar("T")


def make_feature(alias: str, entry: FeatureEntry, root: Path) -> Feature:
    """Return the feature of an entry; relative paths among its parameters are below `root`."""
    kind = FEATURES.find(entry.use)
    parameters = {k: _below(root, k, v) for k, v in entry.parameters.items()}
    return checked(kind, parameters, f"features.{alias}")


def make_tokens(tokenizer: str, root: Path) -> Tokens:
    """Return the feature that counts tokens; a tokenizer that is a file is looked for below `root`."""
    close = difflib.get_close_matches(tokenizer, ("words", "bytes"), n=1, cutoff=0.7)
    if close and tokenizer != close[0]:
        raise ConfigError(f"tokenizer: {tokenizer!r} is unknown; did you mean {close[0]!r}?")
    return Tokens(tokenizer=_below(root, "tokenizer", tokenizer))


def make_selector(kind: str, name: str, parameters: Mapping[str, Any], features: Mapping[str, Feature]) -> Selector:
    """Return the selector of a step; `kind` is select or dedup, `features` are those that parameters may name."""
    found = SELECTORS.find(name)
    if found.groups != (kind == "dedup"):
        other = "dedup" if found.groups else "select"
        raise ConfigError(f"{kind}: {name!r} belongs to another kind of step; write `{other}: {name}`")
    place = f"{kind}: {name}"
    required = {f.name for f in fields(found) if f.default is MISSING}
    for name in sorted(_feature_fields(found) & required - set(parameters)):
        raise ConfigError(
            f"{place}: {name!r} is missing, expected the name of an entry of `features`: "
            f"{', '.join(features) or 'there is none yet'}"
        )
    named = {k: _named(features, v, f"{place}: {k}") for k, v in parameters.items() if k in _feature_fields(found)}
    return checked(found, {**parameters, **named}, place)


def _feature_fields(kind: type[Any]) -> set[str]:
    """Return the names of the parameters that are features."""
    return {name for name, type_ in get_type_hints(kind).items() if type_ is Feature}


def _named(features: Mapping[str, Feature], alias: Any, place: str) -> Feature:
    if not isinstance(alias, str) or alias not in features:
        close = nearest(str(alias), list(features))
        raise ConfigError(f"{place}: {alias!r} is no entry of `features`{close}")
    return features[alias]


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Put the place before what a ConfigError says."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def selector_recipe(selector: Selector) -> dict[str, Any]:
    """Return what a selector's numbers are made by, beside its data; features stand there by their keys."""
    by_key = _feature_fields(type(selector))
    return {
        "selector": selector.name,
        "version": selector.version,
        "parameters": {name: value for name, value in asdict(selector).items() if name not in by_key},
        "needs": {name: feature_key(f) for name, f in selector.needs.items()},
        **({"identity": identity} if (identity := selector.identity()) else {}),
    }


def summary_recipe(selector: Selector) -> dict[str, Any]:
    """Return what a selector's summaries are made by: other parameters may share them."""
    recipe = selector_recipe(selector)
    if selector.summary_parameters is None:
        return recipe
    parameters = {name: recipe["parameters"][name] for name in selector.summary_parameters}
    return {name: recipe[name] for name in ("selector", "version", "needs")} | {"parameters": parameters}


def checked(kind: type[T], parameters: Mapping[str, Any], place: str) -> T:
    """Return a dataclass made of parameters. Raises ConfigError for one that is unknown or of another type."""
    _refuse_unknown(kind, parameters, place)
    try:
        return TypeAdapter(kind).validate_python(_with_group_defaults(kind, parameters))
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        )
        raise ConfigError(f"{place}: {found}") from None


def _with_group_defaults(kind: type[Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters in which a group of parameters keeps its defaults where it is given in part."""
    groups: dict[str, Any] = {f.name: f.default for f in fields(kind) if is_dataclass(f.default)}
    partly = {
        name: asdict(group) | dict(parameters[name])
        for name, group in groups.items()
        if isinstance(parameters.get(name), Mapping)
    }
    return {**parameters, **partly}


def _refuse_unknown(kind: type[Any], parameters: Mapping[str, Any], place: str) -> None:
    """Raise ConfigError for a key that is no parameter, also within a parameter that is a group of them."""
    types = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    for key, value in parameters.items():
        if key not in known:
            raise ConfigError(f"{place}: unknown parameter {key!r}{nearest(key, known)}")
        if is_dataclass(types[key]) and isinstance(value, Mapping):
            _refuse_unknown(types[key], value, f"{place}: {key}")


def _below(root: Path, key: str, value: Any) -> Any:
    """Make paths relative to the configuration: `files`, a `tokenizer` that is a file there, a `model`'s folder."""
    if isinstance(value, str) and is_url(value):
        return value
    if key == "tokenizer" and isinstance(value, str) and (root / value).is_file():
        return str(root / value)
    if key == "model" and isinstance(value, str) and (root / value).is_dir():
        return str(root / value)
    if key == "files":
        return [v if is_url(v) else str(root / v) for v in ([value] if isinstance(value, str) else value)]
    return value
