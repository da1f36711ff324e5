"""What one number says of every choice, beside what random documents have: the rows of the comparison's tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .comparison_texts import Groups
from .intervals import prediction


@dataclass(frozen=True)
class Kind:
    """What is measured: how it is called, said in a sentence and explained, and which end is the better one."""

    key: str
    title: str
    about: str
    how: str
    better: Literal["higher", "lower"] | None = None
    form: Literal["number", "percent", "count"] = "number"
    glance: bool = False
    """Whether the first table has it."""


def measure_row(
    kind: Kind, groups: Groups, value: Callable[[str], float | None], target: str | None = None, note: str = ""
) -> dict[str, Any]:
    """Return a measure of each choice, and the mean of the draws with the range in which 95% of others would lie.

    `value` is asked by the group's name.
    """
    drawn = [found for name in groups.draws if (found := value(name)) is not None]
    chosen = [name for name in groups.names if name and name not in groups.draws]
    return {
        "key": kind.key, "target": target, "title": kind.title, "about": f"{kind.about}{note and '; '}{note}",
        "how": kind.how, "better": kind.better, "form": kind.form, "glance": kind.glance,
        "values": {name: value(name) for name in chosen},
        "by_lot": _lot(kind, drawn) if drawn else None,
    }  # fmt: skip


def _lot(kind: Kind, drawn: Sequence[float]) -> dict[str, float]:
    mean = sum(drawn) / len(drawn)
    low, high = prediction(drawn) or (mean, mean)
    if kind.form == "percent":
        low, high = max(0.0, low), min(1.0, high)
    return {"mean": mean, "low": low, "high": high}


def by_name(names: Sequence[str], found: Any) -> Mapping[str, Any]:
    """Return numbers in the order of the groups by the groups' names."""
    return dict(zip(names, found, strict=True))
