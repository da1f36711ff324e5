"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing where nobody wants any."""

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Reporter:
    """Show how far a stage is."""

    quiet: bool = False
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def track(self, items: Iterable[T], total: int, name: str) -> Iterator[T]:
        """Yield the items and show how many of `total` have gone by."""
        if self.quiet or total == 0:
            yield from items
        elif self.console.is_terminal:
            yield from self._bar(items, total, name)
        else:
            yield from self._lines(items, total, name)

    def say(self, message: str) -> None:
        """Print a line for people."""
        if not self.quiet:
            self.console.print(message, highlight=False, markup=False)

    def _bar(self, items: Iterable[T], total: int, name: str) -> Iterator[T]:
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(name, total=total)
            for item in items:
                yield item
                progress.advance(task)

    def _lines(self, items: Iterable[T], total: int, name: str) -> Iterator[T]:
        begin = last = time.monotonic()
        for done, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - last >= SECONDS_BETWEEN_LINES and done < total:
                left = (now - begin) / done * (total - done)
                print(f"{name}: {done:,} of {total:,}, about {left:,.0f} s left", file=sys.stderr)  # noqa: T201
                last = now
