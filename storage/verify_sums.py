"""What was noted of the files of a lake, compared with them."""

from collections.abc import Iterator
from pathlib import Path

from .lake import Lake
from .listings import Listing
from .places import is_local
from .sums import Sum, Sums, is_whole, journals, read_sums
from .sweeping import held

Found = Iterator[tuple[Path, str]]


def files_of(lake: Lake) -> Listing:
    """Look at all that a lake holds but its marker, journals and scratch."""
    return held(lake, {"mixtures", lake.catalog.name})


def not_covered(lake: Lake) -> list[str]:
    """Return the files whose digest nobody noted: an older tamis published them, or they lie in a store."""
    sums = read_sums(lake.root) if is_local(lake.root) else Sums()
    return [name for name in files_of(lake).files if not sums.published(name)]


class Noted:
    """The journals of a lake, read once, and again where a file is not as they say: a run may have replaced it."""

    def __init__(self, lake: Lake) -> None:
        self._root, self._sums = lake.root, Sums()
        self._read: list[tuple[str, int]] = []
        self._look()
        # After the journals, or what a run publishes between would be missed.
        self._there = files_of(lake).files if is_local(lake.root) else {}

    def published(self) -> Found:
        """Yield what is not what was noted of it, and what is wrong; journals too."""
        for journal, lines in self._sums.damaged.items():
            said = ", ".join(str(line) for line in lines[:5]) + (", …" if len(lines) > 5 else "")
            yield self._root / journal, f"line {said} is damaged"
        for name in sorted(self._there):
            path = self._root / name
            try:
                if not self._is_whole(name, path):
                    yield path, "does not have the digest that was noted of it"
            except FileNotFoundError:
                continue  # somebody removed it just now
            except OSError as error:
                yield path, f"cannot be read: {error}"

    def absent(self) -> Found:
        """Yield what was published and is not there, although nobody removed it on purpose."""
        gone = {name for name in self._sums.expected() if name not in self._there}
        if gone:
            self._look()
        for name in sorted(gone.intersection(self._sums.expected())):
            yield self._root / name, "is missing"

    def _is_whole(self, name: str, path: Path) -> bool:
        known: list[Sum] = []
        while (found := self._sums.published(name)) != known:
            if is_whole(path, found):
                return True
            known = found
            self._look()
        return not known

    def _look(self) -> None:
        """Read the journals, where anything was added to them since they were read."""
        if not is_local(self._root):
            return
        there = [(path.name, path.stat().st_size) for path in journals(self._root)]
        if there != self._read:
            self._read, self._sums = there, read_sums(self._root)
