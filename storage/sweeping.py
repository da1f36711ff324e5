"""Find the artefacts of a lake that nothing needs, and remove them: what refers to others goes first.

So a `kill -9` at any moment leaves files that nothing refers to, never a record whose files are gone, and the next
sweep finds them again. While one goes on it holds a lease, `cleaning.json`: a run that begins meanwhile waits for it,
and a sweep does not begin while a run goes on. A run publishes its record before it looks for a lease, and a sweep its
lease before it looks for runs, so at least one of them sees the other.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from .claims import claim, claim_again, unclaim
from .errors import LakeError
from .lake import Lake, read_json
from .listings import Listing, listing_of
from .places import (
    abandon_upload,
    age_of,
    is_local,
    now_at,
    remove_empty,
    remove_files,
    uploads_below,
    version_of,
)  # fmt: skip
from .processes import Process, this_process
from .references import KINDS, Kind, Needed
from .sums import note_gone

SILENT = 15 * 60
"""Seconds after which the lease of another machine counts as left behind; a sweep renews its own every few."""
RENEWED = 5
LEFT_BEHIND = 7 * 24 * 3600
"""Seconds after which a temporary file of another machine is nobody's any more."""
AT_ONCE = 1_000
"""Files that are removed between two looks at the lease; a store takes as many in one request."""
UPLOADS, TEMPORARY = "uploads", "temporary"
"""Kinds of what was never finished: puts in parts into a store, and files of processes that are gone."""


@dataclass(frozen=True)
class Artefact:
    """What can be removed as one."""

    kind: str
    path: str
    """Below the lake's root."""
    files: tuple[str, ...]
    """Below the root too; those of artefacts that go before it are not among them."""
    n_bytes: int
    """What becomes free: files with another name somewhere take nothing."""
    oldest: float
    newest: float
    """Seconds of the epoch, by the clock of the disk or the store."""
    order: Kind
    """What says which of its files goes first, and which last."""
    is_folder: bool = False
    """Whether it is there without a file, too."""


def held(lake: Lake, more: Iterable[str] = ()) -> Listing:
    """Look at all that a lake holds beside mixtures and catalogue, and at `more` of its files and folders."""
    return listing_of(lake.root, {*more, *(kind.pattern.partition("/")[0] for kind in KINDS)})


def clock(lake: Lake) -> float:
    """Return the time by the clock that the times of a lake's files are of, in seconds of the epoch."""
    return now_at(lake.root / "lake.json")


def artefacts(lake: Lake, there: Listing) -> Iterator[Artefact]:
    """Yield all artefacts in the order in which they could be removed; last what was never finished."""
    claimed: set[str] = set()
    for kind in KINDS:
        for path in there.glob(kind.pattern):
            yield _artefact(kind, path, there, claimed)
    for one in uploads_below(lake.root):
        name = f"{UPLOADS}/{one.name}?{one.upload}"
        yield Artefact(UPLOADS, name, (name,), one.n_bytes, one.seconds, one.seconds, Kind(UPLOADS, ""))
    scratch = listing_of(lake.scratch.parent, {lake.scratch.name})
    for file in sorted(lake.scratch.glob("*")):
        if _left_behind(file):
            yield _artefact(Kind(TEMPORARY, ""), f"{lake.scratch.name}/{file.name}", scratch, claimed)


def _artefact(kind: Kind, path: str, there: Listing, claimed: set[str]) -> Artefact:
    every = there.below(path)
    files = [name for name in every if name not in claimed]
    claimed.update(files)
    times = [there.files[name].seconds for name in every] or [
        there.folders[path].seconds if path in there.folders else 0.0
    ]
    n_bytes = sum(there.files[name].n_bytes for name in files)
    return Artefact(kind.name, path, tuple(files), n_bytes, min(times), max(times), kind, path in there.folders)


def _left_behind(path: Path) -> bool:
    """Say whether a temporary file or folder belongs to no process any more."""
    owner = Process.named(path.name)
    runs = owner and owner.runs()
    if runs is not None:
        return not runs
    with contextlib.suppress(OSError):  # it goes now
        newest = max(p.lstat().st_mtime for p in (path, *path.rglob("*")))
        return now_at(path) - newest > LEFT_BEHIND
    return False


def unneeded(found: Iterable[Artefact], needed: Needed, kept: Callable[[Artefact], bool]) -> list[Artefact]:
    """Return the artefacts that are not needed and not `kept` for another reason, in the order of their removal."""
    gone = [one for one in found if one.kind == TEMPORARY or not (needed.has(one.path) or kept(one))]
    return [one for one in gone if one.files or one.is_folder]


def remove(lake: Lake, gone: Collection[Artefact], renew: Callable[[], None] = lambda: None) -> None:
    """Remove artefacts in their order, and the folders that are empty then.

    Files go together, many in one request of a store, where it does not matter which of them goes first.
    """
    for kind, group in groupby(gone, key=lambda one: one.order):
        some = list(group)
        files = sorted((kind.step(file), file) for one in some for file in one.files)
        for _, step in groupby(files, key=lambda file: file[0]):
            names = [name for _, name in step]
            for start in range(0, len(names), AT_ONCE):
                renew()
                _remove(lake, kind, names[start : start + AT_ONCE])
        for one in some:
            remove_empty(_place(lake, one.path))


def _remove(lake: Lake, kind: Kind, names: Collection[str]) -> None:
    if kind.name == UPLOADS:
        for name in names:
            abandon_upload(lake.root, *name.removeprefix(f"{UPLOADS}/").rsplit("?", 1))
    else:
        is_noted = kind.name != TEMPORARY and is_local(lake.root)
        try:
            if is_noted:
                note_gone(lake.root, names)
        except OSError:  # a full disk, which this is to make room on
            remove_files([_place(lake, name) for name in names])
            note_gone(lake.root, names)
        remove_files([_place(lake, name) for name in names])


def _place(lake: Lake, name: str) -> Path:
    """Return where a file lies: temporary ones of a store on this machine."""
    top, _, below = name.partition("/")
    return lake.scratch / below if top == lake.scratch.name else lake.root / name


def lease_of(lake: Lake) -> Path:
    """Return the file that says that somebody removes artefacts."""
    return lake.root / "cleaning.json"


def being_cleaned(lake: Lake) -> bool:
    """Say whether a process removes artefacts now."""
    path = lease_of(lake)
    try:
        found = read_json(path)
        runs = Process.of(found).runs()
        return abs(age_of(path)) < SILENT if runs is None else runs
    except (LakeError, OSError):  # none, or half written: it is some milliseconds old, or of a killed process
        return path.exists() and abs(age_of(path)) < RENEWED


@contextmanager
def lease(lake: Lake) -> Iterator[Callable[[], None]]:
    """Hold the right to remove artefacts; yield what renews it.

    Raises LakeError where another process holds it, and so does what renews it where another process took it over,
    because this one was silent for so long.
    """
    path, left = lease_of(lake), lease_left(lake)
    if being_cleaned(lake):
        raise LakeError(
            f'another `tamis clean` or `tamis repair` goes on in "{lake.root}"; see cleaning.json. Wait for it.'
        )
    if links := sorted(kind for kind in {one.pattern.partition("/")[0] for one in KINDS} if _is_link(lake, kind)):
        raise LakeError(
            f'"{lake.root / links[0]}" is a link: nothing is removed, because what lies behind it may be '
            "somebody else's; put a folder there"
        )
    content = json.dumps(this_process().record() | {"token": uuid.uuid4().hex}).encode()
    try:
        version = claim(path, content, left)
    except FileExistsError:
        raise LakeError(f'another `tamis clean` began in "{lake.root}" just now; wait for it') from None
    last = time.monotonic()
    is_ours = True

    def again() -> None:
        nonlocal last, version, is_ours
        if time.monotonic() - last > RENEWED:
            last = time.monotonic()
            try:
                version = claim_again(path, content, version)
            except FileExistsError:
                is_ours = False
                raise LakeError(f'another process took over cleaning "{lake.root}"; clean again') from None

    try:
        yield again
    finally:
        if is_ours:
            unclaim(path, version)


def _is_link(lake: Lake, name: str) -> bool:
    return is_local(lake.root) and (lake.root / name).is_symlink()


def lease_left(lake: Lake) -> str:
    """Return the version of the lease that is there, "" where none is."""
    with contextlib.suppress(FileNotFoundError):
        return version_of(lease_of(lake))
    return ""


def wait_until_clean(lake: Lake, say: Callable[[str], object]) -> str:
    """Wait while artefacts are removed; return the lease of a sweep that was killed, "" where there is none.

    It had not published the catalogue: who has done that takes its lease away.
    """
    if being_cleaned(lake):
        say("waiting for the `tamis clean` or `tamis repair` that goes on in this lake")
        while being_cleaned(lake):
            time.sleep(0.2)
    return lease_left(lake)
