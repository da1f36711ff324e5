"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing where nobody wants any."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from .printing import harmless

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


class Advance(Protocol):
    """Say how much has gone by since the last call, and what is worth a note."""

    def __call__(self, size: int, note: str = "") -> object:
        """Show it."""
        ...


@dataclass(frozen=True)
class Reporter:
    """Show how far a stage is."""

    quiet: bool = False
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def track(self, results: Iterable[T], sizes: Sequence[int], name: str, unit: str = "") -> Iterator[T]:
        """Yield the results and show how much of the work has gone by: `sizes` is what each counts, in `unit`."""
        with self.meter(sum(sizes), name, unit) as advance:
            for size, result in zip(sizes, results, strict=True):
                yield result
                advance(size)

    @contextmanager
    def meter(self, total: int, name: str, unit: str = "", done: int = 0) -> Iterator[Advance]:
        """Yield what is to be called with how much has gone by since the last call; `done` was before the first."""
        if self.quiet or total == 0:
            yield lambda size, note="": None
        elif self.console.is_terminal:
            with self._bar(total, name, unit, done) as advance:
                yield advance
        else:
            yield _Lines(total, name, unit, done)

    def say(self, message: str) -> None:
        """Print a line for people."""
        if not self.quiet:
            self.console.print(harmless(message), highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def _bar(self, total: int, name: str, unit: str, done: int) -> Iterator[Advance]:
        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Speed(unit),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
        ]
        with Progress(*columns, console=self.console, transient=True, speed_estimate_period=300) as progress:
            task = progress.add_task(harmless(name), total=total, completed=done, note="")
            yield lambda size, note="": progress.update(task, advance=size, note=harmless(note))


class _Lines:
    """A line on stderr now and then."""

    def __init__(self, total: int, name: str, unit: str, done: int) -> None:
        self._total, self._name, self._unit = total, name, unit
        self._before = self._done = done
        self._begin = self._last = time.monotonic()

    def __call__(self, size: int, note: str = "") -> None:
        now, self._done = time.monotonic(), self._done + size
        new = self._done - self._before
        if now - self._last < SECONDS_BETWEEN_LINES or not new or self._done >= self._total:
            return
        a_second = new / (now - self._begin)
        speed = f" {self._unit}, {a_second:,.3g} a second" if self._unit else ""
        left = (self._total - self._done) / a_second
        found = (
            f"{self._name}: {self._done:,} of {self._total:,}{speed}{note and ', ' + note}, about {left:,.0f} s left"
        )
        print(harmless(found), file=sys.stderr)  # noqa: T201
        self._last = now


class _Speed(ProgressColumn):
    """What goes by in a second, where its unit says something."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return nothing until there is a speed."""
        return Text(f"{task.speed:,.0f} {self._unit}/s" if self._unit and task.speed else "")
