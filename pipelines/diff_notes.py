"""The diff of a run against the one before of its flow: kept beside its record, told, and found again."""

from pathlib import Path
from typing import Any

from ..storage.diffs import WHYS
from ..storage.errors import ConfigError, LakeError
from ..storage.lake import Lake, read_json
from ..storage.plugins import nearest
from ..storage.result_files import write_parquet
from .alarm_limits import limits_of
from .config import FlowEntry
from .diffing import DIFF, DOCUMENTS, compute_diff, is_same
from .drift import drift_alarms
from .parents import finished_runs
from .runs import RunRecord, Stage, load_runs
from .work import Work

IN_SHORT = ("previous", "unchanged", "corpus_documents", "documents", "tokens", "error")


def note_diff(work: Work, flow: FlowEntry) -> None:
    """Compare a run that is about to end with the one before; note it in its record, with what is alarming."""
    record, lake = work.log.record, work.lake
    previous = next(finished_runs(lake, record.flow, before=record.run), None)
    if previous is None or not record.steps:
        return
    if is_same(previous, record):
        record.diff = _empty(previous, record)
        return

    def compare(stage: Stage) -> dict[str, Any]:
        stage.computed = 1
        folder = lake.run(record.run)
        found = compute_diff(lake, previous, record, lambda found: found.publish(folder / DOCUMENTS))
        lake.publish_json(folder / DIFF, found)
        return found

    try:
        found = work.stage("diff", compare)
    except (LakeError, ConfigError) as error:  # the run before lacks something, or was over another corpus
        record.diff = {"previous": previous.run, "error": str(error)}
        return
    record.diff = {name: found[name] for name in IN_SHORT if name in found}
    limits = {s.name: limits_of(work.config.alarms, flow.alarms, s.alarms) for s in flow.steps if hasattr(s, "alarms")}
    for scores in found["scores"]:
        for alarm in drift_alarms(record.run, previous.run, [scores], limits[scores["step"]].score_drift):
            work.log.alarm(alarm)
            work.reporter.say(f"alarm: {alarm.text} [{alarm.name}]")


def _empty(previous: RunRecord, now: RunRecord) -> dict[str, Any]:
    """Return the diff of runs that chose the same of the same files, in short."""
    last, documents = now.steps[-1], now.counts["documents"]
    none = {change: dict.fromkeys(WHYS[change], 0) for change in ("in", "out")}
    chosen = {
        name: {"then": last[kept], "now": last[kept], "kept": last[kept], **none, "changed": 0}
        for name, kept in (("documents", "kept"), ("tokens", "tokens_kept"))
    }
    corpus = {"then": documents, "now": documents, "new": 0, "gone": 0, "changed": 0}
    return {"previous": previous.run, "unchanged": True, "corpus_documents": corpus, **chosen}


def diff(
    lake: Lake | Path | str, run: str | None = None, other: str | None = None, *, output: Path | str | None = None
) -> dict[str, Any]:
    """Return in what a run differs from the one before of its flow, or from `other`, the earlier of the two.

    Both are named by a flow, whose newest finished run is meant, or by an id or a part of one; default: the newest run.
    What was kept when the run ended is read; else both are compared now. `output` gets the documents as Parquet. Raises
    ConfigError where there is no such run, none before it, or they are over different corpora.
    """
    lake = lake if isinstance(lake, Lake) else Lake.open(lake)
    now, before = named_pair(lake, run, other)
    kept = lake.run(now.run)
    if output is None and (kept / DIFF).exists() and read_json(kept / DIFF)["previous"] == before.run:
        return dict(read_json(kept / DIFF))
    if output is None:
        return compute_diff(lake, before, now)
    target = Path(output)
    return compute_diff(lake, before, now, lambda found: write_parquet(lake, target, found.documents()))


def named_pair(lake: Lake, run: str | None, other: str | None) -> tuple[RunRecord, RunRecord]:
    """Return the run that is asked about, and what it is compared with. Raises ConfigError."""
    now = _named(lake, run)
    if other is not None:
        return now, _named(lake, other)
    before = next(finished_runs(lake, now.flow, before=now.run), None)
    if before is None:
        raise ConfigError(f"run {now.run} is the first finished one of {now.flow!r}; name another to compare it with")
    return now, before


def _named(lake: Lake, name: str | None) -> RunRecord:
    runs = [r for r in load_runs(lake) if r.status == "done" and r.steps]
    found = runs if name is None else [r for r in runs if r.flow == name] or [r for r in runs if name in r.run]
    if not found:
        close = "" if name is None else nearest(name, sorted({r.flow for r in runs}))
        raise ConfigError(f"no finished run {name or ''!r} in {str(lake.root)!r}{close}")
    return found[-1]
