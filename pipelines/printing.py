"""How commands print: JSON, tables, lines, always on stdout."""

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..storage.places import is_local
from ..storage.publish import json_ready

CELL_SHOWN = 200
_KEPT = "\n\t\u200c\u200d"
"""Not printable, and harmless: the joiners are part of words in Persian and Hindi."""
_INDENT = 10 * " "


def harmless(text: str) -> str:
    """Return a text without what a terminal would obey, or what would show it in another order than it has.

    That is everything that is not printable: escapes and other controls, marks of direction, halves of surrogate pairs.
    """
    return text if text.isprintable() else "".join(c if _is_harmless(c) else "�" for c in text)


def as_json(value: Any, indent: int | None = None) -> str:
    r"""Return JSON in which all that `harmless` would take away is written as `\uXXXX`; NaN becomes null, bytes hex."""
    text = json.dumps(json_ready(value), indent=indent, ensure_ascii=False, default=str)
    return text if text.isprintable() else "".join(c if _is_harmless(c) else _escaped(c) for c in text)


def _is_harmless(sign: str) -> bool:
    return sign.isprintable() or sign in _KEPT or unicodedata.category(sign) == "Zs"


def _escaped(sign: str) -> str:
    return r"\u007f" if sign == "\x7f" else json.dumps(sign)[1:-1]


def print_json(value: Any) -> None:
    """Print JSON."""
    print(as_json(value, indent=1))  # noqa: T201


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table: numbers to the right, plain where stdout is no terminal."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [list(row) for row in rows]
    for i, name in enumerate(head):
        numeric = bool(rows) and all(isinstance(r[i], (int, float)) or r[i] is None for r in rows)
        table.add_column(Text(shown(name)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(v)) for v in row))  # as text: brackets are no markup
    console.print(table)


def shown(value: Any) -> str:
    """Return a value as a cell of a table: short, numbers with separators, nothing that a terminal would obey.

    Nothing is the empty cell. NaN is said, "nan": it is what was computed, and no table may hide that.
    """
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    text = text if len(text) <= CELL_SHOWN else text[: CELL_SHOWN - 1] + "…"
    return harmless(text)


def command_name() -> str:
    """Return what calls tamis here: its name where the shell finds it, else the path that was called."""
    return (
        "tamis"
        if shutil.which("tamis") or not sys.argv[0].endswith("tamis")
        else short_path(Path(sys.argv[0]).absolute())
    )


def short_path(path: Path) -> str:
    """Return a path as people would type it here."""
    return str(path.relative_to(Path.cwd())) if is_local(path) and path.is_relative_to(Path.cwd()) else str(path)


def print_line(text: str) -> None:
    """Print a line. Of lines inside it, which may come from data, those after the first are moved to the right."""
    print(_one_line(text))  # noqa: T201


def complain(text: str) -> None:
    """Print what is wrong, on stderr, likewise."""
    print(_one_line(f"tamis: {text}"), file=sys.stderr)  # noqa: T201


def _one_line(text: str) -> str:
    return re.sub(r"(?<=[^\n])(\n+)(?=[^\n])", rf"\1{_INDENT}", harmless(text))
