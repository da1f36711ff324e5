"""`tamis repair`: what `tamis verify` names is put right, the way that costs least.

First the bits: a file of which one bit flipped is put right as it was, whatever it is, because its digest proves it.
What is damaged otherwise is set aside, and made again by whoever made it: corpora from the raw files, everything else
by the finished runs that refer to it, each over its own snapshots with the configuration that it noted. What nobody
could make again is put back as it was. The steps of a repair can be repeated, so a killed one goes on. Nobody cleans
and no run begins meanwhile.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..storage.catalog import build_catalog
from ..storage.correcting import correct, correctable
from ..storage.errors import LakeError, TamisError
from ..storage.lake import Lake
from ..storage.places import is_local, remove_files
from ..storage.sums import FOLDER, gather, note_gone, read_sums
from ..storage.sweeping import clock, held, lease
from ..storage.verify import Damage, is_told_once, verify
from ..storage.verify_sums import files_of
from .cleaning import records_of, where_runs
from .corpus_mending import entries_of, mend_corpus
from .damage import OF_THE_RAW, ON_DEMAND, concerned, exported_of, is_config, to_remove
from .ingesting import target_corpus
from .loading import Loaded, resolved_config
from .mending import is_made_by, mend_pages, mend_run, root_of
from .progress import Reporter
from .runs import RunRecord, load_runs
from .setting_aside import Aside, put_back_left

LONG = 600.0
"""Seconds of a training that is not done again without being told to."""


@dataclass
class Repair:
    """What a repair did, or would do; files are named by their paths."""

    damaged: list[Damage]
    corrected: list[str] = field(default_factory=list)
    """Of which one bit was put right."""
    removed: list[str] = field(default_factory=list)
    """What was damaged otherwise, and what is made of it."""
    put_back: list[str] = field(default_factory=list)
    """What was damaged otherwise and stays as it was, because nothing could make it again."""
    runs: list[str] = field(default_factory=list)
    """Done again."""
    problems: list[str] = field(default_factory=list)
    """Why something could not be had again."""
    left: list[Damage] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 all is mended; 3 something is not."""
        return 3 if self.left else 0


def look(lake: Lake, loaded: Loaded | None = None) -> Repair:
    """Return what a repair would do, as far as that is known before: what is removed, and what was only a bit."""
    found = Repair(list(verify(lake)))
    names = _names(lake, found.damaged)
    found.corrected += correctable(lake, names) if is_local(lake.root) else ()
    rest = [name for name in names if name not in found.corrected and not name.startswith(FOLDER)]
    runs = load_runs(lake)
    exported = exported_of(runs, rest)
    found.removed = to_remove(lake, [name for name in rest if name not in exported])
    for run in concerned(lake, runs, rest):
        try:
            root_of(lake, loaded, run)
        except TamisError as error:
            found.problems.append(str(error))
        else:
            found.runs.append(run.run)
    return found


def repair(lake: Lake, loaded: Loaded | None = None, *, yes: bool = False, reporter: Reporter | None = None) -> Repair:
    """Put right what is damaged, and return what was done and what could not be.

    `loaded` is the present configuration; the runs' own are used, below its folder. `yes` also removes what cannot be
    had again, and repeats trainings that took long. Raises LakeError while a run goes on, or another process cleans.
    """
    reporter = reporter or Reporter(quiet=True)
    with lease(lake) as renew, _renewed(renew):
        if running := [run.run for run in records_of(lake, held(lake), clock(lake)) if run.status == "running"]:
            where = where_runs(lake, running[0])
            raise LakeError(f"run {running[0]} goes on{where}; nothing was repaired. Repair again afterwards.")
        put_back_left(lake)
        found = Repair(list(verify(lake)))
        if is_local(lake.root):
            found.corrected += correct(lake, _names(lake, found.damaged))
        still = list(verify(lake)) if found.corrected else found.damaged
        if rest := [name for name in _names(lake, still) if not name.startswith(FOLDER)]:
            _Again(lake, loaded, found, rest, yes, reporter).run()
        found.left = list(verify(lake)) if found.damaged else []
    return found


@contextmanager
def _renewed(renew: Callable[[], None]) -> Iterator[None]:
    """Renew the lease while something long goes on."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(5.0):
            try:
                renew()
            except LakeError:
                return

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _names(lake: Lake, damaged: Collection[Damage]) -> list[str]:
    return [Path(d.file).relative_to(lake.root).as_posix() if is_local(lake.root) else
            d.file.removeprefix(f"{lake.root}/") for d in damaged]  # fmt: skip


class _Again:
    """What is damaged beyond a bit, made again."""

    def __init__(
        self, lake: Lake, loaded: Loaded | None, found: Repair, names: list[str], yes: bool, reporter: Reporter
    ) -> None:
        self._lake, self._loaded, self._found, self._yes, self._reporter = lake, loaded, found, yes, reporter
        self._runs = load_runs(lake)
        self._names = self._without_long(names)
        self._concerned = concerned(lake, self._runs, self._names)

    def run(self) -> None:
        """Remove, read, compute, and build the catalogue."""
        lake, names = self._lake, self._names
        known = {run.run for run in self._runs}
        unknown = [n for n in names if is_told_once(n) or (is_config(n) and n.split("/")[1] not in known)]
        exported = exported_of(self._runs, names)
        for name in [] if self._yes else unknown:
            self._problem(f"{name} tells what nothing else does; --yes removes what is left of it")
        for name in [] if self._yes else exported:
            self._problem(f"{name} was written by `tamis export` or the like: --yes removes it, export it again then")
        go = [name for name in names if self._yes or name not in (*unknown, *exported)]
        given_up = self._given_up(exported) if self._yes else []
        now = {name for name in go if name in unknown or name.startswith(ON_DEMAND)} | set(given_up)
        self._remove(sorted(now))
        is_sound = self._made_again(to_remove(lake, [name for name in go if name not in now]))
        try:
            build_catalog(lake)
        except TamisError as error:
            self._problem(f"{lake.catalog.name}: {error}")
            is_sound = False
        if is_local(lake.root):
            if is_sound:
                self._forget([] if self._yes else [*unknown, *exported])
            gather(lake.root)

    def _made_again(self, names: list[str]) -> bool:
        """Make files again, or put them back; say whether all went well."""
        found = self._found
        with Aside(self._lake, found.put_back) as aside:
            aside.take(names)
            is_sound = self._corpora()
            failed: dict[str, list[str]] = {}
            for run in self._concerned:
                self._run(run, failed)
            for error, runs in failed.items():
                self._problem(f"{', '.join(runs)}: {error}")
            for run in self._runs:
                mend_pages(self._lake, run)
            if is_sound and not failed:
                aside.give_up()
        found.removed += [name for name in names if name not in found.put_back]
        return is_sound and not failed

    def _without_long(self, names: list[str]) -> list[str]:
        """Return the names without those of models whose training took long."""
        took = {m["key"]: m.get("seconds") or 0.0 for run in self._runs for m in run.models}
        kept = []
        for name in names:
            seconds = took.get(name.split("/")[1], 0.0) if name.startswith("models/") else 0.0
            if seconds > LONG and not self._yes:
                self._problem(f"{name}: the training took {seconds:,.0f} s; --yes repeats it")
            else:
                kept.append(name)
        return kept

    def _given_up(self, exported: Collection[str]) -> list[str]:
        """Return all files of exports that are damaged, and of the runs that wrote them."""
        folders = {"/".join(name.split("/")[:3]) for name in exported}
        folders |= {f"runs/{run.run}" for run in self._runs if is_made_by(run, exported)}
        there = held(self._lake, {"mixtures"})
        return sorted({*exported, *(name for folder in folders for name in there.below(folder))})

    def _remove(self, names: list[str]) -> None:
        if is_local(self._lake.root) and names:
            note_gone(self._lake.root, names)
        there = [name for name in names if (self._lake.root / name).is_file()]
        remove_files([self._lake.root / name for name in there])
        self._found.removed += there

    def _corpora(self) -> bool:
        """Mend every corpus; say whether all are whole."""
        configs = {}
        for run in reversed(self._runs):
            if run.config:
                try:
                    configs[(root_of(self._lake, self._loaded, run), run.config)] = resolved_config(run.config)
                except TamisError as error:
                    self._problem(str(error))
        if self._loaded is not None:
            configs[(self._loaded.root, "")] = self._loaded.config
        lost = [name for name in self._names if name.startswith(OF_THE_RAW)]
        every = {name for config in configs.values() for name in config.corpora}
        every |= {target_corpus(name) for config in configs.values() for name in config.targets}
        before = len(self._found.problems)
        done = [run for run in self._runs if run.status == "done"]
        for corpus in sorted(every) if lost else ():
            if any(name.startswith((f"corpora/{corpus}/", f"quarantine/{corpus}/")) for name in lost):
                self._reporter.say(f"reading {corpus} again")
                for problem in mend_corpus(self._lake, corpus, entries_of(configs, corpus), done, lost):
                    self._problem(problem)
        return len(self._found.problems) == before

    def _run(self, run: RunRecord, failed: dict[str, list[str]]) -> None:
        """Do a run again, or note why it could not be."""
        self._reporter.say(f"run {run.run} of {run.flow} again")
        try:
            mend_run(self._lake, run, root_of(self._lake, self._loaded, run), self._reporter)
        except (TamisError, OSError, LookupError, ValueError) as error:
            failed.setdefault(str(error), []).append(f"run {run.run} of {run.flow}")
        else:
            self._found.runs.append(run.run)

    def _forget(self, but: Collection[str]) -> None:
        """Note that what no run came back to is gone: parts of a feature under another name, results of no run."""
        there = files_of(self._lake).files
        if gone := [n for n in read_sums(self._lake.root).expected() if n not in there and n not in but]:
            note_gone(self._lake.root, gone)

    def _problem(self, text: str) -> None:
        self._found.problems.append(text)
        self._reporter.say(f"repair: {text}")
