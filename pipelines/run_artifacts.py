"""What Prefect's user interface shows of a run: progress of its stages, tables of the result, and where its report is.

A server that does not answer costs an artifact and never a run: the lake has everything that is shown here.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event
from prefect.logging import get_logger

from ..storage.lake import Lake
from ..storage.markdown import markdown_table, plain
from ..storage.places import is_local
from .diff_printing import diff_sentences
from .news import News, news
from .progress import Advance, Reporter
from .run_report import REPORT
from .runs import RunRecord

SECONDS_BETWEEN_UPDATES = 5.0
ALARM = "tamis.alarm"
"""The event that an automation may wait for; its resource is `tamis.flow.<flow>`."""


class ArtifactReporter(Reporter):
    """Show how far a stage is also as an artifact of its task, at a bounded rate."""

    @contextmanager
    def meter(self, total: int, name: str, unit: str = "", done: int = 0) -> Iterator[Advance]:
        """Yield what is to be called with how much has gone by since the last call."""
        with super().meter(total, name, unit, done) as advance:
            if total == 0:
                yield advance
                return
            shown_progress = _Progress(total, name, unit, done)

            def both(size: int, note: str = "") -> None:
                advance(size, note)
                shown_progress.add(size, note)

            yield both
            shown_progress.publish()


class _Progress:
    """One progress artifact."""

    def __init__(self, total: int, name: str, unit: str, done: int) -> None:
        self._total, self._name, self._unit, self._done, self._note = total, name, unit, done, ""
        self._id: UUID | None = None
        self.publish()

    def add(self, size: int, note: str) -> None:
        """Count, and show it where the last time is some seconds ago."""
        self._done, self._note = self._done + size, note
        if time.monotonic() - self._last >= SECONDS_BETWEEN_UPDATES:
            self.publish()

    def publish(self) -> None:
        """Show how far it is."""
        self._last = time.monotonic()
        unit = f" {self._unit}" if self._unit else ""
        text = f"{self._name}: {self._done:,} of {self._total:,}{unit}{self._note and ', ' + self._note}"
        percent = round(100 * self._done / self._total, 1)
        with _never_in_the_way():
            if self._id is None:
                self._id = create_progress_artifact(percent, artifact_key(self._name), text)  # type: ignore[assignment]
            else:
                update_progress_artifact(self._id, percent, text)


def publish_artifacts(lake: Lake, record: RunRecord) -> None:
    """Show what a run did."""
    with _never_in_the_way():
        found = news(lake, record)
        report = lake.run(record.run) / REPORT
        steps = [{"step": s["name"], "kind": s.get("selector") or s["kind"],
                  **{k: s[k] for k in ("entered", "kept", "tokens_kept")},
                  "dropped": ", ".join(f"{n:,} {reason}" for reason, n in s["reasons"].items())}
                 for s in record.steps]  # fmt: skip
        if steps:
            about = f"Run {record.run}: what each step saw and kept"
            create_table_artifact(steps, artifact_key(f"{record.flow} result"), about)
        stages = [asdict(s) for s in record.stages]
        create_table_artifact(stages, artifact_key(f"{record.flow} stages"), f"Run {record.run}: its stages")
        for name, text in (("new", _news(record, found)), ("to look at", _concerns(record))):
            create_markdown_artifact(text, artifact_key(f"{record.flow} {name}"), f"Run {record.run}: {name}")
        link = report.as_uri() if is_local(report) else str(report)
        create_link_artifact(link, "report.html", artifact_key(f"{record.flow} report"), str(report))


def emit_alarms(record: RunRecord) -> None:
    """Make an event of each alarm, which an automation may wait for."""
    resource = {"prefect.resource.id": f"tamis.flow.{record.flow}", "prefect.resource.name": record.flow}
    with _never_in_the_way():
        for alarm in record.alarms:
            emit_event(ALARM, resource, payload={"run": record.run, **alarm})


def artifact_key(name: str) -> str:
    """Return a name as Prefect allows it: lower case, digits and dashes."""
    return "tamis-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _news(record: RunRecord, found: News | None) -> str:
    if found is None:
        return "The run ended before it knew its files."
    since = "" if found.since is None else f" since run `{found.since}`"
    parts = [f"# What is new{since}\n\n{found.text}."]
    for name, _, files in found.named():
        parts.append(f"**{name}**\n\n" + "\n".join(f"- {plain(file)}" for file in files))
    parts += [plain(sentence) for sentence in diff_sentences(record.diff)]
    counts: dict[str, list[int]] = {}
    for stage in record.stages:
        pair = counts.setdefault(stage.name, [0, 0])
        pair[0], pair[1] = pair[0] + stage.computed, pair[1] + stage.reused
    parts.append(markdown_table(["stage", "computed", "reused"], [[name, *pair] for name, pair in counts.items()]))
    return "\n\n".join(parts)


def _concerns(record: RunRecord) -> str:
    lines = [record.error] if record.error else []
    lines += [f"alarm {a['name']}: step {a['step']}: {a['message']}" for a in record.alarms]
    lines += [f"warning: {w}" for w in record.warnings]
    return "\n".join(f"- {plain(line)}" for line in lines) or "Nothing: no error, alarm or warning."


@contextmanager
def _never_in_the_way() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever Prefect's client raises: what is shown must not stop what is done
        get_logger("tamis").warning("an artifact could not be published: %s", error)
