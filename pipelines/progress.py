"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing where nobody wants any."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Reporter:
    """Show how far a stage is."""

    quiet: bool = False
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def track(self, results: Iterable[T], sizes: Sequence[int], name: str, unit: str = "") -> Iterator[T]:
        """Yield the results and show how much of the work has gone by: `sizes` is what each counts, in `unit`."""
        total = sum(sizes)
        if self.quiet or total == 0:
            yield from results
        elif self.console.is_terminal:
            yield from self._bar(results, sizes, name, unit)
        else:
            yield from self._lines(results, sizes, name, unit)

    def say(self, message: str) -> None:
        """Print a line for people."""
        if not self.quiet:
            self.console.print(message, highlight=False, markup=False)

    def _bar(self, results: Iterable[T], sizes: Sequence[int], name: str, unit: str) -> Iterator[T]:
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Speed(unit),
            TimeRemainingColumn(),
        ]
        with Progress(*columns, console=self.console, transient=True, speed_estimate_period=300) as progress:
            task = progress.add_task(name, total=sum(sizes))
            for size, result in zip(sizes, results, strict=True):
                yield result
                progress.advance(task, size)

    def _lines(self, results: Iterable[T], sizes: Sequence[int], name: str, unit: str) -> Iterator[T]:
        total, done = sum(sizes), 0
        begin = last = time.monotonic()
        for size, result in zip(sizes, results, strict=True):
            yield result
            now, done = time.monotonic(), done + size
            if now - last >= SECONDS_BETWEEN_LINES and 0 < done < total:
                a_second = done / (now - begin)
                speed = f" {unit}, {a_second:,.3g} a second" if unit else ""
                left = (total - done) / a_second
                print(f"{name}: {done:,} of {total:,}{speed}, about {left:,.0f} s left", file=sys.stderr)  # noqa: T201
                last = now


class _Speed(ProgressColumn):
    """What goes by in a second, where its unit says something."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return nothing until there is a speed."""
        return Text(f"{task.speed:,.0f} {self._unit}/s" if self._unit and task.speed else "")
