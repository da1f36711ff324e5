"""Tables in Markdown, for the cards of mixtures."""

from typing import Any


def markdown_table(head: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table, numbers to the right."""
    right = [bool(rows) and all(isinstance(r[i], (int, float)) for r in rows) for i in range(len(head))]
    lines = [head, ["---:" if r else "---" for r in right], *([_cell(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|").replace("\n", " ")
