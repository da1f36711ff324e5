"""Find the artefacts of a lake that nothing needs, and remove them: what refers to others goes first.

So a `kill -9` at any moment leaves files that nothing refers to, never a record whose files are gone, and the next
sweep finds them again. While one goes on it holds a lease, `cleaning.json`: a run that begins meanwhile waits for it,
and a sweep does not begin while a run goes on. A run publishes its record before it looks for a lease, and a sweep its
lease before it looks for runs, so at least one of them sees the other.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import LakeError
from .lake import Lake, process_alive, read_json
from .publish import HOST
from .references import KINDS, Kind, Needed

SILENT = 15 * 60
"""Seconds after which the lease of another machine counts as left behind; a sweep renews its own every few."""
RENEWED = 5
LEFT_BEHIND = 7 * 24 * 3600
"""Seconds after which a temporary file of another machine is nobody's any more."""


@dataclass(frozen=True)
class Artefact:
    """What can be removed as one."""

    kind: str
    path: str
    """Below the lake's root."""
    files: tuple[str, ...]
    """In the order in which they go, below the root too; those of artefacts that go before it are not among them."""
    n_bytes: int
    """What becomes free: files with another name somewhere take nothing."""
    oldest: float
    newest: float
    """Seconds of the epoch."""


def artefacts(lake: Lake) -> Iterator[Artefact]:
    """Yield everything that a lake holds beside mixtures and catalogue, in the order in which it could be removed."""
    claimed: set[str] = set()
    for kind in KINDS:
        for path in sorted(lake.root.glob(kind.pattern)):
            if kind.pattern == "runs/[0-9]*" or path.name != "finished":
                yield _artefact(lake, kind, path, claimed)
    for path in sorted(lake.scratch.glob("*")):
        if _left_behind(path):
            yield _artefact(lake, Kind("temporary", "tmp/*"), path, claimed)


def _artefact(lake: Lake, kind: Kind, path: Path, claimed: set[str]) -> Artefact:
    n_bytes, times, files = 0, [], []
    for file in sorted(p for p in path.rglob("*") if not p.is_dir()) if path.is_dir() else [path]:
        name = file.relative_to(lake.root).as_posix()
        with contextlib.suppress(OSError):  # it may go meanwhile
            status = file.stat()
            times.append(status.st_mtime)
            if name not in claimed:
                n_bytes += status.st_size if status.st_nlink == 1 else 0
                files.append(name)
    if not times:
        times = [path.stat().st_mtime] if path.exists() else [0.0]
    claimed.update(files)
    place = {kind.first: -1, kind.last: 1}
    files.sort(key=lambda name: place.get(name.rpartition("/")[2], 0) if kind.first or kind.last else 0)
    name = path.relative_to(lake.root).as_posix()
    return Artefact(kind.name, name, tuple(files), n_bytes, min(times), max(times))


def _left_behind(path: Path) -> bool:
    """Say whether a temporary file belongs to no process any more."""
    host, _, rest = path.name.partition("~")
    pid = rest.partition("~")[0]
    if host == HOST and pid.isdigit():
        return not process_alive(int(pid))
    return time.time() - path.stat().st_mtime > LEFT_BEHIND


def unneeded(lake: Lake, found: Iterable[Artefact], needed: Needed, kept: Callable[[Artefact], bool]) -> list[Artefact]:
    """Return the artefacts that are not needed and not `kept` for another reason, in the order of their removal."""
    gone = [one for one in found if one.kind == "temporary" or not (needed.has(one.path) or kept(one))]
    return [one for one in gone if one.files or (lake.root / one.path).is_dir()]


def remove(lake: Lake, gone: Collection[Artefact], renew: Callable[[], None] = lambda: None) -> None:
    """Remove artefacts in their order, and the folders that are empty then."""
    for one in gone:
        renew()
        for file in one.files:
            (lake.root / file).unlink(missing_ok=True)
        _remove_empty(lake.root / one.path)


def _remove_empty(path: Path) -> None:
    """Remove a folder without files; where somebody wrote into it meanwhile, it stays."""
    with contextlib.suppress(OSError):
        for folder in sorted((p for p in path.rglob("*") if p.is_dir()), reverse=True):
            folder.rmdir()
        path.rmdir()


def lease_of(lake: Lake) -> Path:
    """Return the file that says that somebody removes artefacts."""
    return lake.root / "cleaning.json"


def being_cleaned(lake: Lake) -> bool:
    """Say whether a process removes artefacts now."""
    path = lease_of(lake)
    try:
        found, age = read_json(path), time.time() - path.stat().st_mtime
    except (LakeError, OSError):  # none, or half written: it is some milliseconds old, or of a killed process
        return path.exists() and time.time() - path.stat().st_mtime < RENEWED
    return process_alive(found["pid"]) if found["host"] == HOST else age < SILENT


@contextmanager
def lease(lake: Lake) -> Iterator[Callable[[], None]]:
    """Hold the right to remove artefacts; yield what renews it. Raises LakeError where another process holds it."""
    path = lease_of(lake)
    if being_cleaned(lake):
        raise LakeError(f'another `tamis clean` goes on in "{lake.root}"; it says so in cleaning.json. Wait for it.')
    path.unlink(missing_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump({"host": HOST, "pid": os.getpid()}, file)
    except FileExistsError:
        raise LakeError(f'another `tamis clean` began in "{lake.root}" just now; wait for it') from None
    last = time.monotonic()

    def renew() -> None:
        nonlocal last
        if time.monotonic() - last > RENEWED:
            last = time.monotonic()
            os.utime(path)

    try:
        yield renew
    finally:
        path.unlink(missing_ok=True)


def wait_until_clean(lake: Lake, say: Callable[[str], object]) -> bool:
    """Wait while artefacts are removed; say whether a sweep was killed before it had published the catalogue."""
    if being_cleaned(lake):
        say("waiting for `tamis clean`, which removes what no kept run refers to")
        while being_cleaned(lake):
            time.sleep(0.2)
    return lease_of(lake).exists()
