"""What a plug-in says of itself: its docstring, and of each parameter the values, the default and the text below it.

Python keeps no text that stands below a field, so it is read from the source: said once, where the parameter is.
"""

import ast
import dataclasses
import inspect
import textwrap
from types import UnionType
from typing import Any, Literal, Union, get_origin, get_type_hints

from ..features.base import Feature
from ..features.registry import REGISTRY as FEATURES
from ..selectors.registry import REGISTRY as SELECTORS
from ..storage.errors import ConfigError
from ..storage.plugins import nearest


def describe(name: str) -> dict[str, Any]:
    """Return kind, name, docstring and parameters of a selector or feature. Raises ConfigError."""
    for kind, registry in (("selector", SELECTORS), ("feature", FEATURES)):
        if name in registry.names():
            found: type[Any] = registry.find(name)
            about = inspect.cleandoc(found.__doc__ or "")
            return {"kind": kind, "name": name, "about": about, "parameters": parameters(found)}
    known = [*SELECTORS.names(), *FEATURES.names()]
    raise ConfigError(f"no selector or feature is named {name!r}{nearest(name, known)}")


def parameters(plugin: type[Any], prefix: str = "", given: Any = None) -> list[dict[str, Any]]:
    """Return name, values, default (None where it must be given) and meaning of each parameter.

    A parameter that is a group of others comes as these, named `group.name`, with their defaults in that group.
    """
    texts, types, found = _texts_below_fields(plugin), get_type_hints(plugin), []
    for field in dataclasses.fields(plugin):
        default = getattr(given, field.name, None if field.default is dataclasses.MISSING else field.default)
        if dataclasses.is_dataclass(default):
            found += parameters(types[field.name], f"{prefix}{field.name}.", default)
            continue
        found.append(
            {
                "name": prefix + field.name,
                "values": _values(types[field.name]),
                "default": default,
                "about": texts.get(field.name, ""),
            }
        )
    return found


def _values(kind: Any) -> str:
    """Return a type as people write it: the choices of a Literal, or the type's name."""
    if kind is Feature:
        return "name of a feature"
    arguments = getattr(kind, "__args__", None)
    if arguments is None:
        return getattr(kind, "__name__", str(kind))
    if get_origin(kind) is Literal:
        return " | ".join(map(str, arguments))
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(map(_values, arguments))
    return str(kind)


def _texts_below_fields(plugin: type[Any]) -> dict[str, str]:
    """Return the string that follows each annotated field in the source of the class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(plugin))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = " ".join(text.split())
    return found
