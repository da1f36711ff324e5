"""Which runs are compared, under which names, and over which corpus.

Choices can be compared where they are of one corpus: then a document is a place in it, a shard and a row. Where the
corpus has grown in between, the newest of their snapshots counts, and what an older choice has of files that are gone
is left out, and said.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..storage.errors import ConfigError
from ..storage.lake import Lake
from ..storage.snapshots import Snapshot, load_snapshot
from .choices import chosen_by
from .opened_runs import OpenedRun
from .runs import RunRecord

RANDOM = "by lot"
"""What the documents drawn at random, with which every choice is compared, are called."""

MOST = 50
"""Runs that can be compared at once."""


@dataclass(frozen=True)
class ComparedRun:
    """A finished run whose choice is compared."""

    name: str
    opened: OpenedRun

    @property
    def record(self) -> RunRecord:
        """What it did."""
        return self.opened.record

    @property
    def last(self) -> dict[str, Any]:
        """What the record says of the last step."""
        return self.record.steps[-1]

    @property
    def judge(self) -> dict[str, Any] | None:
        """The last step that chose by scores, whatever sieved its choice afterwards; None where none did."""
        return next((step for step in reversed(self.record.steps) if step["kind"] == "select"), None)

    @property
    def step(self) -> dict[str, Any]:
        """The step that is compared: that which chose by scores, or else the last."""
        return self.judge or self.last

    @property
    def selection(self) -> str:
        """Key of what was left in the end."""
        return str(self.last["selection"])

    @property
    def by(self) -> str:
        """The selector, or the kind of the step."""
        return str(self.step.get("selector") or self.step["kind"])

    @property
    def has_one_score(self) -> bool:
        """Whether its documents have scores that can be compared: one that chose by several targets has several."""
        return self.judge is not None and len(self.judge.get("cuts") or ()) == 1

    @property
    def targets(self) -> list[str]:
        """Return the targets that the step chose by."""
        return list(getattr(self.opened.step(self.step["name"]), "target", None) or {})


@dataclass(frozen=True)
class ComparedRuns:
    """Runs over one corpus."""

    lake: Lake
    runs: tuple[ComparedRun, ...]

    @property
    def newest(self) -> ComparedRun:
        """The last of them that was begun: the snapshot and the tokenizer of the comparison are its."""
        return max(self.runs, key=lambda run: run.record.run)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The corpus."""
        return load_snapshot(self.lake, self.newest.record.corpus, self.newest.record.snapshot)

    @property
    def notes(self) -> list[str]:
        """What the reader has to know before the numbers."""
        found, last = [], self.newest.record
        for run in self.runs:
            if run.record.snapshot != last.snapshot:
                found.append(f"{run.name} was made from an older state of {last.corpus} than {self.newest.name}")
            if run.judge is not None and not run.has_one_score:
                found.append(f"{run.name} chose by several targets, so its documents have no one score to compare")
            if run.record.tokens_key != last.tokens_key:
                found.append(
                    f"{run.name} counted tokens with {run.record.tokenizer!r}; here all are counted with "
                    f"{last.tokenizer!r}"
                )
        return found


def compared_runs(lake: Lake, names: Sequence[str]) -> ComparedRuns:
    """Find runs: each name is a flow, whose newest finished run is meant, or the beginning or end of a run's id.

    Raises ConfigError where a name is no finished run, or the runs are not of one corpus.
    """
    if len(names) > MOST:
        raise ConfigError(f"{len(names)} runs to compare, expected at most {MOST}")
    if not names:
        raise ConfigError("nothing to compare: name at least one run or flow; `tamis status` lists them")
    records = list({(found := chosen_by(lake, name).run).run: found for name in names}.values())
    if empty := [record.flow for record in records if not record.steps[-1]["tokens_kept"]]:
        raise ConfigError(f"{', '.join(empty)} chose no tokens, so there is nothing to compare; leave it out")
    corpora = sorted({record.corpus for record in records})
    if len(corpora) > 1:
        raise ConfigError(f"the runs are over several corpora ({', '.join(corpora)}); compare runs over one")
    named = zip(_names(records), records, strict=True)
    return ComparedRuns(lake, tuple(ComparedRun(name, OpenedRun(lake, record)) for name, record in named))


def _names(records: Sequence[RunRecord]) -> list[str]:
    """Return the flows, with the end of the run's id where a flow was run several times."""
    seen = Counter(record.flow for record in records)
    return [r.flow if seen[r.flow] == 1 else f"{r.flow} {r.run.rpartition('-')[2]}" for r in records]
