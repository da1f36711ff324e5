"""What is new for a run: its files beside those of the last finished run of the same flow."""

from dataclasses import dataclass

from ..storage.errors import LakeError
from ..storage.lake import Lake
from ..storage.snapshots import load_snapshot
from .runs import RunRecord, load_runs


@dataclass(frozen=True)
class News:
    """Files and documents of a run's corpus beside those that the last finished run of its flow saw."""

    since: str | None
    """That run; None: there was none, or its snapshot is gone, so everything is new."""
    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    documents: int
    documents_before: int

    @property
    def text(self) -> str:
        """One line for people."""
        if self.since is None:
            return f"{self.documents:,} documents in {len(self.new):,} files, the first time"
        if not (self.new or self.changed or self.gone):
            return "no file is new, changed or gone"
        counts = f"{len(self.new):,} new, {len(self.changed):,} changed and {len(self.gone):,} gone"
        more = self.documents - self.documents_before
        return f"{counts} files: {self.documents:,} documents, {more:+,}"


def news(lake: Lake, record: RunRecord) -> News | None:
    """Return what is new for a run; None where it ended before it knew its files."""
    if not record.snapshot:
        return None
    snapshot = load_snapshot(lake, record.corpus, record.snapshot)
    now = {file.name: file.sha256 for file in snapshot.files}
    for last in reversed(load_runs(lake)):
        if (last.flow, last.corpus, last.status) != (record.flow, record.corpus, "done") or last.run >= record.run:
            continue
        try:
            seen = load_snapshot(lake, last.corpus, last.snapshot)
        except LakeError:
            break
        before = {file.name: file.sha256 for file in seen.files}
        return News(
            last.run, tuple(sorted(now.keys() - before.keys())),
            tuple(sorted(n for n in now.keys() & before.keys() if now[n] != before[n])),
            tuple(sorted(before.keys() - now.keys())), snapshot.counts["documents"], seen.counts["documents"],
        )  # fmt: skip
    return News(None, tuple(sorted(now)), (), (), snapshot.counts["documents"], 0)
