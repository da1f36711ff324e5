"""What is served: a flow with a schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .schedule_entry import Schedule

Say = Callable[[str], object]


@dataclass(frozen=True)
class Served:
    """A flow with a schedule, and what its deployment is called."""

    flow: str
    schedule: Schedule
    config: Path
    lake: Path
    overrides: tuple[str, ...]
    deployment: str
