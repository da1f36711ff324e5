"""From the text of `flows.yaml` to a checked configuration: the environment, overrides, errors people can act on."""

import os
import re
import sysconfig
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ..storage.errors import ConfigError
from ..storage.places import place
from ..storage.plugins import nearest
from .config import Config
from .step_entries import STEP_KINDS

MAX_VALUES, MAX_DEPTH = 100_000, 50
"""A thousand times what a large configuration holds: no alias of aliases may fill the memory."""


@dataclass(frozen=True)
class Loaded:
    """A configuration, the folder that its paths are relative to, and its resolved text."""

    config: Config
    root: Path
    resolved: str

    @property
    def lake(self) -> Path:
        """Place of the lake: a folder, or one in an object store."""
        return place(self.config.lake, self.root)


def load_config(path: Path | str, overrides: list[str] | None = None) -> Loaded:
    """Read and check a configuration.

    `overrides` are `dotted.key=value` (a list of named things is addressed by name). Raises ConfigError.
    """
    path = place(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f'no configuration at "{path}"; name one with --config') from None
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f'"{path}" cannot be read as UTF-8: {error}') from error
    tree = _parsed(text, f'"{path}"')
    if not isinstance(tree, dict):
        raise ConfigError(f'"{path}" holds {type(tree).__name__}, expected a mapping that starts with `version: 1`')
    for override in overrides or []:
        _override(tree, override)
    tree = _expanded(tree)
    config = _validated(tree, f"{path.name} with --set" if overrides else path.name)
    resolved = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return Loaded(config, path.resolve().parent, resolved)


def rehashing(loaded: Loaded) -> Loaded:
    """Return the configuration with every file of its corpora and targets to be digested again."""
    config = loaded.config
    entries = {
        group: {name: entry.model_copy(update={"rehash": True}) for name, entry in getattr(config, group).items()}
        for group in ("corpora", "targets")
    }
    return replace(loaded, config=config.model_copy(update=entries))


@lru_cache(maxsize=8)
def resolved_config(text: str) -> Config:
    """Return the configuration whose resolved text a run noted. Raises ConfigError where this version reads it not."""
    return _validated(_parsed(text, "a run's configuration"), "a run's configuration")


def _validated(tree: Any, place: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{place}: " + "; ".join(_explain(e) for e in error.errors())) from None


def _parsed(text: str, place: str) -> Any:
    """Return the value of a YAML text in which nothing is shared. Raises ConfigError."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        n_values, depth = _checked_size(node, place, {})
        if n_values > MAX_VALUES or depth > MAX_DEPTH:
            found = f"{n_values:,} values (aliases resolved), {depth} deep"
            raise ConfigError(f"{place} holds {found}; expected at most {MAX_VALUES:,} and {MAX_DEPTH}")
        return _unshared(loader.construct_document(node))
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError(f"{place} is nested too deeply, expected at most {MAX_DEPTH} levels") from None
    except Exception as error:  # for a scalar that only looks like its type PyYAML raises whatever Python raises
        raise ConfigError(f"{place} cannot be read as YAML: {error}") from error


def _checked_size(node: yaml.Node, place: str, seen: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return how many values a node has, each alias counted as what it stands for, and how deep they go.

    Raises ConfigError for a key that is given twice, and for a node that contains itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1, 1
    if id(node) not in seen:
        seen[id(node)] = (0, 0)
        children = node.value
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node, place)
            children = [child for pair in node.value for child in pair]
        sizes = [_checked_size(child, place, seen) for child in children]
        seen[id(node)] = (1 + sum(n for n, _ in sizes), 1 + max((depth for _, depth in sizes), default=0))
    elif seen[id(node)] == (0, 0):
        raise ConfigError(f"{place} line {node.start_mark.line + 1}: this value contains itself")
    return seen[id(node)]


def _refuse_repeated_keys(node: yaml.MappingNode, place: str) -> None:
    found = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in found:
                line = key.start_mark.line + 1
                raise ConfigError(f"{place} line {line}: {key.value!r} is given twice; remove one of them")
            found.add(key.value)


def _unshared(value: Any) -> Any:
    """Copy what aliases share, so that an override changes one place only."""
    if isinstance(value, dict):
        return {k: _unshared(v) for k, v in value.items()}
    return [_unshared(v) for v in value] if isinstance(value, list) else value


def _override(tree: Any, override: str) -> None:
    """Set one dotted key in place."""
    key, found, text = override.partition("=")
    if not found:
        raise ConfigError(f"--set {override!r}: expected dotted.key=value")
    *path, last = key.split(".")
    node = tree
    for name in path:
        node = _child(node, name, key)
    if not isinstance(node, dict):
        raise ConfigError(f"--set {key}: {'.'.join(path)} is no mapping")
    node[last] = _parsed(text, f"--set {key}")


def _names(entry: dict[str, Any]) -> list[str]:
    """Return what an entry of a list may be called by: its name, or else what it is of."""
    return [str(entry[key]) for key in ("name", "flow", "corpus", "format") if key in entry]


def _child(node: Any, name: str, key: str) -> Any:
    if isinstance(node, list):
        found = next((c for c in node if isinstance(c, dict) and name in _names(c)), None)
        if found is None:
            known = [one for c in node if isinstance(c, dict) for one in _names(c)[:1]]
            raise ConfigError(f"--set {key}: nothing is named {name!r}{nearest(name, known)}")
        return found
    if not isinstance(node, dict):
        raise ConfigError(f"--set {key}: {name!r} is below a value")
    if node.get(name) is None:
        node[name] = {}
    return node[name]


_VARIABLE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


def _expanded(value: Any) -> Any:
    """Replace ${NAME} by the environment's value, and ${python.stdlib} and the like by this Python's folders."""
    if isinstance(value, dict):
        return {_encodable(k): _expanded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_expanded(v) for v in value]
    return _encodable(_VARIABLE.sub(lambda m: _variable(m[1]), value)) if isinstance(value, str) else value


def _encodable(value: Any) -> Any:
    """Refuse text that cannot be written again: half of a surrogate pair, or a variable that is not UTF-8."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{value!a} cannot be written as UTF-8, expected text without lone surrogates") from None
    return value


def _variable(name: str) -> str:
    if name.startswith("python."):
        paths = sysconfig.get_paths()
        if name[7:] not in paths:
            raise ConfigError(f"${{{name}}}: this Python knows no such folder{nearest(name[7:], list(paths))}")
        return paths[name[7:]]
    if name not in os.environ:
        raise ConfigError(f"${{{name}}} is not set in the environment")
    return os.environ[name]


def _explain(error: Any) -> str:
    """Return one validation error as people read it: the place, what is wrong, what was expected."""
    place = ".".join(str(p) for p in error["loc"])
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        return f"{place}: unknown key{nearest(key, _valid_keys(error['loc'][:-1]))}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("value_error", "missing"):
        return f"{place}: {message}" if place else message
    return f"{place}: {message}, found {str(error['input'])[:80]!r}"


def _valid_keys(loc: tuple[Any, ...]) -> list[str]:
    """Return the keys that the model at a place of the configuration knows."""
    model: Any = Config
    for before, part in pairwise((None, *loc)):
        model = STEP_KINDS[part] if isinstance(before, int) and part in STEP_KINDS else _model_below(model, part)
        if model is None:
            return []
    return [f.alias or n for n, f in model.model_fields.items()]


def _model_below(model: type[BaseModel], part: Any) -> Any:
    """Follow one key: by a field's annotation to the model it holds, or by a mapping's key or a list's index."""
    field = model.model_fields.get(str(part)) or next((f for f in model.model_fields.values() if f.alias == part), None)
    if field is None:
        return model  # the key of a mapping or the index of a list: the model was found with its field
    return _first_model(field.annotation)


def _first_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = getattr(annotation, "__args__", ())
    return next((m for m in map(_first_model, reversed(arguments)) if m), None)
