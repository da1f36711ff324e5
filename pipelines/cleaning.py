"""`tamis clean`: what no kept run refers to is shown, and removed when that is asked for.

Mark and sweep. The marks begin at the kept runs, the newest snapshot of every corpus, and the mixtures that lie in the
lake: a kept run keeps all that it refers to, a mixture the decisions that explain its documents. Everything else goes,
unless it is younger than what a run in progress or an unfinished one may have made.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from ..storage.catalog import build_catalog
from ..storage.errors import DiskError, LakeError
from ..storage.lake import LOG, Lake, read_json
from ..storage.listings import Listing
from ..storage.places import is_local
from ..storage.references import Needed, References
from ..storage.sums import gather, note_given_up
from ..storage.sweeping import Artefact, artefacts, clock, held, lease, remove, unneeded
from .keep_entry import Keep
from .runs import RunRecord, goes_on, load_run, load_runs

DAY, HOUR = 86_400.0, 3_600.0
SILENT = 7 * DAY
"""A run of another machine whose record has not changed for so long is taken to be gone: nobody here can know."""
MIXTURE = "a mixture of it is published"
_ROOTS = {"snapshots", "packs", "selections"}


@dataclass(frozen=True)
class Survey:
    """What a lake holds that is needed no more, and what keeps the rest."""

    gone: list[Artefact]
    """In the order of their removal."""
    kept: dict[str, str]
    """Of each run that stays the reason."""
    dropped: dict[str, str]
    """The flow of each run that goes."""
    running: list[str]
    """Runs in progress: while there are any, nothing is removed."""
    unknown: list[str]
    """Selections of an older tamis, whose features, states and scores are not known: none of these is removed."""
    owners: dict[str, set[str]] = field(repr=False, default_factory=dict)
    """Of each artefact the flows of dropped runs that referred to it."""

    def by_kind(self) -> list[dict[str, Any]]:
        """Return how much of each kind there is, in the order of removal: its oldest, and whose it was."""
        found: dict[str, list[Artefact]] = defaultdict(list)
        for one in self.gone:
            found[one.kind].append(one)
        return [
            {
                "kind": kind, "artefacts": len(some), "files": sum(len(one.files) for one in some),
                "bytes": sum(one.n_bytes for one in some),
                "oldest": _when(min(one.oldest for one in some)),
                "of": sorted({flow for one in some for flow in self.owners.get(one.path, ())}),
            }
            for kind, some in found.items()
        ]  # fmt: skip


def survey(lake: Lake, keep: Keep) -> Survey:
    """Return what could be removed; nothing is."""
    now, there = clock(lake), held(lake)
    records = records_of(lake, there, now)
    kept, since = _kept(records, there, keep, now)
    references, found = References(lake, [asdict(run) for run in records], there), list(artefacts(lake, there))
    needed = _needed(references, records, kept, [one for one in found if one.newest >= since])
    decided = {run.run for run in records if run.run not in kept and needed.has(f"runs/{run.run}")}
    kept |= dict.fromkeys(sorted(decided), MIXTURE)
    known = {run.run for run in records}

    def stays(one: Artefact) -> bool:
        return one.newest >= since or _stays(lake, one, keep, now, needed, known)

    gone = unneeded(found, needed, stays)
    dropped = {run.run: run.flow for run in records if run.run not in kept}
    owners: dict[str, set[str]] = defaultdict(set)
    for run in records if gone else ():
        if run.run in dropped or run.run in decided:
            mine = references.whole(asdict(run))
            for one in gone:
                if mine.has(one.path):
                    owners[one.path].add(run.flow)
    running = [run.run for run in records if run.status == "running"]
    return Survey(gone, kept, dropped, running, sorted(set(needed.unknown)), owners)


def _needed(references: References, records: list[RunRecord], kept: dict[str, str], recent: list[Artefact]) -> Needed:
    """Return what the newest snapshots, kept runs, mixtures and all that is recent refer to."""
    needed = references.newest()
    for run in records:
        if run.run in kept:
            needed |= references.whole(asdict(run))
    for one in recent:
        if one.kind in _ROOTS:
            needed |= references.of(one.path)
    needed |= references.published()
    return needed


def clean(lake: Lake, keep: Keep, shown: Survey | None = None) -> Survey:
    """Remove what is needed no more, of `shown` where it is given; return what was removed.

    Raises LakeError, and removes nothing, while a run goes on or another process cleans.
    """
    with lease(lake) as renew:
        found = survey(lake, keep)
        if found.running:
            raise LakeError(
                f"run {found.running[0]} goes on{where_runs(lake, found.running[0])}, and what it will need is not "
                "known before its end; nothing was removed. Clean again afterwards."
            )
        agreed = {one.path for one in (shown or found).gone}
        found = Survey(
            [one for one in found.gone if one.path in agreed],
            found.kept,
            found.dropped,
            [],
            found.unknown,
            found.owners,
        )
        remove(lake, found.gone, renew)
        try:
            build_catalog(lake)
        except DiskError:
            if not found.gone:
                raise
            lake.catalog.unlink()  # there is no room for two, and it names what is gone
            build_catalog(lake)
        if is_local(lake.root):
            note_given_up(lake.root)
            gather(lake.root)
    return found


def where_runs(lake: Lake, run: str) -> str:
    """Say which process a run is of; of another machine or container, what to do where somebody killed it there."""
    record = load_run(lake, run)
    if record is None:
        return ""
    process = f" (process {record.pid} of {record.host}"
    if goes_on(lake, record) is None:
        return f'{process}, of which nothing is known here: if it is gone, remove "{lake.run(run)}")'
    return f"{process})"


def records_of(lake: Lake, there: Listing, now: float) -> list[RunRecord]:
    """Return all runs, oldest first; one of another machine that was not heard of for so long was interrupted."""
    records = load_runs(lake)
    for run in records:
        if run.status == "running" and now - _heard(there, run, now) > SILENT and goes_on(lake, run) is None:
            run.status = "interrupted"
    return records


def _kept(records: list[RunRecord], there: Listing, keep: Keep, now: float) -> tuple[dict[str, str], float]:
    """Return the runs that are kept and why, and since when all that was published stays, whoever needs it.

    That is since the first of those began that a run of the same flow would go on from.
    """
    kept: dict[str, str] = {}
    finished: dict[str, int] = defaultdict(int)
    since = now - keep.hours * HOUR
    for run in reversed(records):
        began = datetime.fromisoformat(run.started).timestamp()
        if run.status == "running":
            kept[run.run] = "it goes on"
        elif run.status == "done" and finished[run.flow] < keep.runs:
            kept[run.run] = f"one of the newest {keep.runs} of {run.flow}"
        elif now - began < keep.days * DAY:
            kept[run.run] = f"it began in the last {keep.days:g} days"
        if run.status != "done" and run.run in kept and not finished[run.flow]:
            since = min(since, began, _first(there, run, began))
        finished[run.flow] += run.status == "done"
    kept |= {run.run: "it is recent" for run in records if run.run not in kept and _heard(there, run, now) >= since}
    return kept, since


def _heard(there: Listing, run: RunRecord, now: float) -> float:
    """Return when a run wrote last; one that began after we looked, now."""
    names = (f"runs/{run.run}/{name}" for name in ("run.json", LOG))
    return max((there.files[name].seconds for name in names if name in there.files), default=now)


def _first(there: Listing, run: RunRecord, began: float) -> float:
    """Return when a run published its first file: by the clock of the lake, where `began` is by that of its machine."""
    found = there.files.get(f"runs/{run.run}/config.yaml")
    return found.seconds if found else began


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat("T", "seconds")


def _stays(lake: Lake, one: Artefact, keep: Keep, now: float, needed: Needed, known: set[str]) -> bool:
    """Say whether an artefact that no run refers to stays all the same."""
    path = lake.root / one.path
    if one.path.startswith("runs/finished/"):
        return needed.has(f"runs/{_field(path, 'run')}")
    if one.kind == "runs":  # a record that cannot be read is for `tamis verify` to name
        return path.name not in known and (path / "run.json").exists()
    if one.kind == "proxies" and (_field(path, "recipe") or {}).get("documents") in needed.documents:
        return True
    return one.kind in ("plans", "proxies") and now - one.newest < keep.days * DAY


def _field(path: Any, name: str) -> Any:
    try:
        return read_json(path).get(name)
    except LakeError:
        return None


def lines(found: Survey) -> Iterator[str]:
    """Yield what people should know beside the table."""
    pinned = sum(reason == MIXTURE for reason in found.kept.values())
    yield f"{len(found.kept):,} runs stay, {len(found.dropped):,} go"
    if pinned:
        yield f"of {pinned:,} that a published mixture needs the decisions stay, not the features, states and scores"
    if found.unknown:
        yield (
            f"{len(found.unknown):,} selections of kept runs were made by an older tamis, which did not note what they "
            "used: no feature, state, score, model or draw is removed until these runs go"
        )
    if found.running:
        yield f"runs in progress: {', '.join(found.running)}; nothing can be removed before they end"
