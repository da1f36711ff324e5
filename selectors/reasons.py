"""Why a document has its score: what a selector says of single documents, as data that becomes JSON.

A reason divides a score into parts that sum to it, where the score is a sum, and marks the pieces of the text that they
come from. It is made from the state of the step that chose, never from a new fit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

MOST_MARKS = 2_000
"""Of a longer list those with the largest weights are kept."""

Mark = tuple[int, int, float]
"""First character, the one after the last, and a weight."""
Parts = list[dict[str, Any]]


@dataclass(frozen=True)
class Reason:
    """Why one document has its score."""

    kind: str
    """What the parts are: ngrams, targets, tokens, cluster, chance; missing: the lake has no more what it takes."""
    about: str
    """One sentence, with units."""
    parts: Parts = field(default_factory=list)
    """Those that say most, most important first: `text`, `weight` (its share of `total`, if it has one), and more."""
    marks: list[Mark] = field(default_factory=list)
    """Pieces of the document's text in their order, in characters."""
    total: float | None = None
    """What the weights of all parts, those left out included, sum to."""
    rest: float | None = None
    """What those left out have of it."""


def largest_marks(marks: Sequence[Mark]) -> list[Mark]:
    """Return the marks in text order, at most `MOST_MARKS`: those with the largest weights, up or down."""
    kept = sorted(marks, key=lambda mark: -abs(mark[2]))[:MOST_MARKS]
    return sorted(kept)


def divided(parts: Parts, most: int) -> tuple[Parts, float, float]:
    """Return the `most` parts of the largest weights, up or down, the sum of all weights, and that of the others."""
    ordered = sorted(parts, key=lambda part: -abs(part["weight"]))
    total, rest = (math.fsum(part["weight"] for part in some) for some in (ordered, ordered[most:]))
    return ordered[:most], total, rest


def judged_by(scores: pa.Table, columns: Sequence[str]) -> list[str | None]:
    """Return which score column each document was judged by; None: it had no score.

    `scores` has `kept` and `judged`. A document belongs to the first target that took it, or to the last.
    """
    kept, judged = scores.column("kept").to_pylist(), scores.column("judged").to_pylist()
    values = [scores.column(name).to_pylist() for name in columns]
    found: list[str | None] = []
    for row, (took, score) in enumerate(zip(kept, judged, strict=True)):
        mine = [name for name, column in zip(columns, values, strict=True) if column[row] == score]
        found.append(None if score is None else mine[0] if took and mine else columns[-1])
    return found


def not_scored(kind: str, scores: pa.Table, row: int) -> Reason:
    """Return the reason of a document that has no score."""
    given = scores.column("reason")[row].as_py() if "reason" in scores.column_names else None
    if scores.column("judged")[row].as_py() is not None:
        return Reason(kind, "its score is no number")
    return Reason(kind, f"it has no score: {given or 'the selector would not have it'}")
