"""Tables in Markdown, for the cards of mixtures: what comes from data is text there, and neither markup nor HTML."""

import re
from typing import Any

_MARKS = re.compile(r"[\\`*{}\[\]<>#|!]|(?<!\w)_|_(?!\w)")


def markdown_table(head: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table, numbers to the right."""
    right = [bool(rows) and all(isinstance(r[i], (int, float)) for r in rows) for i in range(len(head))]
    lines = [head, ["---:" if r else "---" for r in right], *([_cell(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Return a text as Markdown that shows it as it is, in one line."""
    return _MARKS.sub(r"\\\g<0>", "".join(c if c.isprintable() else " " for c in text))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else _told(str(value))


def _told(text: str) -> str:
    """Keep what tamis itself sets as code: names of flows and corpora, which have no marks in them."""
    parts = re.split(r"(`[A-Za-z_][\w-]*`)", text)
    return "".join(part if n % 2 else plain(part) for n, part in enumerate(parts))
