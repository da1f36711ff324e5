"""What is new for a run: its files beside those of the last finished run of the same flow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..storage.errors import LakeError
from ..storage.file_changes import file_changes
from ..storage.lake import Lake
from ..storage.snapshots import load_snapshot
from .parents import finished_runs
from .runs import RunRecord

CHANGES = ("new", "changed", "gone")
FILES_SHOWN = 50


@dataclass(frozen=True)
class News:
    """Files and documents of a run's corpus beside those that the last finished run of its flow saw."""

    since: str | None
    """That run; None: there was none, or its snapshot is gone, so everything is new."""
    files: Mapping[str, Any]
    """As `file_changes` has it."""
    documents: int
    documents_before: int

    @property
    def text(self) -> str:
        """One line for people."""
        if self.since is None:
            return f"{self.documents:,} documents in {self.files['new']:,} files, the first time"
        if not any(self.files[change] for change in CHANGES):
            return "no file is new, changed or gone"
        counts = "{new:,} new, {changed:,} changed and {gone:,} gone".format_map(self.files)
        return f"{counts} files: {self.documents:,} documents, {self.documents - self.documents_before:+,}"

    def named(self) -> Iterator[tuple[str, int, list[str]]]:
        """Yield each kind of change that there is, how many files have it, and their names or the first of them."""
        for change in CHANGES:
            if count := self.files[change]:
                names = [f["file"] for f in self.files["named"] if f["change"] == change][:FILES_SHOWN]
                more = [f"and {count - len(names):,} more"] if count > len(names) else []
                yield change, count, [*names, *more]


def news(lake: Lake, record: RunRecord) -> News | None:
    """Return what is new for a run; None where it ended before it knew its files."""
    if not record.snapshot:
        return None
    now = load_snapshot(lake, record.corpus, record.snapshot)
    last = next(finished_runs(lake, record.flow, before=record.run), None)
    before = None
    if last and last.corpus == record.corpus:
        try:
            before = load_snapshot(lake, last.corpus, last.snapshot)
        except LakeError:
            before = None
    since, documents = (last.run, before.counts["documents"]) if last and before else (None, 0)
    return News(since, file_changes(before, now), now.counts["documents"], documents)
