"""Plug-ins by name: one file a plug-in, found without a list that could drift.

Built-in plug-ins are found by the text of their files (`class X(Base)` and `name = "..."`), so that only the file that
is asked for is imported: an embedding model does not load because somebody wants a random sample. Other packages
register theirs as entry points.
"""

import difflib
import re
from dataclasses import fields
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """The plug-ins of one kind, e.g. all selectors."""

    def __init__(self, base: str, group: str, kind: str) -> None:
        self._base, self._group, self._kind = base, group, kind

    @cached_property
    def _outside(self) -> dict[str, EntryPoint]:
        return {e.name: e for e in entry_points(group=self._group)}

    @cached_property
    def _files(self) -> dict[str, str]:
        """Module by name."""
        folders = [Path(p) for p in import_module(self._group).__path__]
        found = ((_declared(path, self._base), path.stem) for f in folders for path in f.glob("*.py"))
        return {name: module for name, module in found if name}

    def names(self) -> tuple[str, ...]:
        """Return the names of all plug-ins."""
        return tuple(sorted({*self._files, *self._outside}))

    def find(self, name: str) -> type[T]:
        """Return the class with this name. Raises ConfigError that lists the names there are."""
        if name in self._files:
            module = import_module(f"{self._group}.{self._files[name]}")
        elif name in self._outside:
            found = self._outside[name].load()
            return self._checked(found, name)
        else:
            raise ConfigError(f"unknown {self._kind} {name!r}{nearest(name, self.names())}")
        own: list[Any] = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
        return self._checked(next(c for c in own if getattr(c, "name", None) == name), name)

    def _checked(self, found: Any, name: str) -> type[T]:
        bases = [b.__name__ for b in getattr(found, "__mro__", ())]
        if self._base not in bases or getattr(found, "name", None) != name:
            raise ConfigError(
                f"{self._kind} {name!r}: its entry point gives {found!r}, not a {self._base} of that name"
            )
        kind: type[T] = found
        return kind

    def parameters(self, name: str) -> tuple[str, ...]:
        """Return the names of a plug-in's parameters."""
        return tuple(f.name for f in fields(self.find(name)))  # type: ignore[arg-type]


def nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    """Return the end of an error message: the nearest valid name, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of: {', '.join(sorted(known)) or 'none'}"


def _declared(path: Path, base: str) -> str | None:
    """Return the name of the plug-in that a file declares, from its text alone."""
    text = path.read_text(encoding="utf-8")
    found = re.search(rf'^class \w+\({base}\):.*?^    name(?:: ClassVar\[str\])? = "(\w+)"', text, re.M | re.S)
    return found[1] if found else None
