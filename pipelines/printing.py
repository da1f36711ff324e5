"""How commands print: JSON, tables, lines, always on stdout."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..storage.places import is_local
from ..storage.publish import json_ready

CELL_SHOWN = 200


def print_json(value: Any) -> None:
    """Print JSON; NaN becomes null and bytes become hex."""
    print(json.dumps(json_ready(value), indent=1, ensure_ascii=False, default=str))  # noqa: T201


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table: numbers to the right, plain where stdout is no terminal."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [list(row) for row in rows]
    for i, name in enumerate(head):
        numeric = bool(rows) and all(isinstance(r[i], (int, float)) or r[i] is None for r in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(shown(v).replace("[", "\\[") for v in row))  # which rich would take for its markup
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
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


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
    """Print a line."""
    print(text)  # noqa: T201
