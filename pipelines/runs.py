"""The record of one run: what it was asked, what it did, what it reused, how it ended.

`run.json` is published again after each stage, so that `tamis status` in another terminal, or after a `kill -9`, sees
how far a run got. It is the only artefact with clocks in it, and nothing is keyed by it.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ..storage.disks import Reserve
from ..storage.errors import DiskError
from ..storage.lake import LOG, Lake, read_json, readable_jsons
from ..storage.locks import Hold
from ..storage.manifest_shapes import known
from ..storage.memory_limits import give_back, peak_resident
from ..storage.places import is_local
from ..storage.processes import HOST, Process, this_process
from ..storage.publish import GrowingFile, published_bytes, temporary_path
from ..storage.seen_files import seen_summary
from .alarms import Alarm

Status = Literal["running", "done", "failed", "interrupted"]
_ID_TIME = "%Y%m%dT%H%M%S%f"
RESERVED_BYTES = 256 << 10


@dataclass
class Stage:
    """What one stage did: items (row groups, shards or artefacts) computed now, and found in the lake.

    A body sets `computed` before it works: a plan, which looks for what is there, ends it at that.
    """

    name: str
    computed: int = 0
    reused: int = 0
    seconds: float = 0.0
    documents: int = 0
    """For how many documents a feature was computed."""
    bytes: int = 0
    """What was published meanwhile."""

    expected_bytes: int = 0
    """What it was expected to write, about; 0: nobody knew, or nothing."""
    peak_rss: int = 0
    """The most bytes that the process has had in memory so far: the stages where it rises are those that need it."""
    seconds_unchanged: float = 0.0
    """Of `seconds`, those that went into finding out what is there already."""

    def reuse(self, items: int) -> None:
        """Count that everything was there."""
        self.reused += items

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Time what is done for input that has not changed."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds_unchanged = round(self.seconds_unchanged + time.monotonic() - begin, 6)


@dataclass
class RunRecord:
    """A run, as it is kept in `run.json`."""

    run: str
    flow: str
    config: str
    fingerprint: str = ""
    status: Status = "running"
    exit_code: int | None = None
    pid: int = field(default_factory=os.getpid)
    host: str = HOST
    process: dict[str, Any] = field(default_factory=dict)
    """What tells this process from a later one of the same number (`storage/processes.py`)."""
    started: str = ""
    finished: str | None = None
    corpus: str = ""
    snapshot: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By corpus: which raw files were new, changed, gone or as they were (`storage/file_changes.py`)."""
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each corpus: how many files were trusted, digested and read; `inputs/` beside has it for every file."""
    tokenizer: str = ""
    tokens_key: str = ""
    memory: dict[str, Any] = field(default_factory=dict)
    """What `memory:` came to and what of it the process `has` before any work, in bytes; the workers; the peak."""
    stages: list[Stage] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    mixture: dict[str, Any] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    diff: dict[str, Any] = field(default_factory=dict)
    """In short, what was chosen otherwise than in the run before; empty where there was none."""
    plan: dict[str, Any] = field(default_factory=dict)
    """What `tamis plan` said of the same flow over the same files, where somebody asked."""
    warnings: list[str] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    prefect: dict[str, Any] = field(default_factory=dict)
    """Of a run under Prefect: its flow run; of a served one the deployment, whether it was scheduled, and for when."""
    error: str | None = None

    @property
    def computed(self) -> int:
        """Number of items that this run computed; 0: everything was there."""
        return sum(s.computed for s in self.stages)


class RunLog:
    """Write a run's record and log while it goes on."""

    reserve: Reserve | None = None

    def __init__(self, lake: Lake, flow: str, config: str) -> None:
        self._lake = lake
        self._lock = threading.Lock()
        run = new_run_id(max((path.parent.name for path in (lake.root / "runs").glob("*/run.json")), default=""))
        self.record = RunRecord(run, flow, config, started=_now(), **this_process().record())
        log = lake.run(self.record.run) / LOG
        self._events = GrowingFile(log, lake.scratch)
        lake.publish_bytes(lake.run(self.record.run) / "config.yaml", config.encode())
        self._held = Hold(log) if is_local(log) else None
        self.publish()

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage; the body counts what it computed and reused."""
        stage, begin, before = Stage(name), time.monotonic(), published_bytes()
        try:
            yield stage
        except BaseException:
            with suppress(DiskError, OSError):  # of two errors the first says what is wrong; the run's end is noted
                self._ended(stage, begin, before)
            raise
        self._ended(stage, begin, before)

    def _ended(self, stage: Stage, begin: float, before: int) -> None:
        stage.seconds, stage.bytes = round(time.monotonic() - begin, 3), published_bytes() - before
        stage.peak_rss = peak_resident()
        give_back()
        with self._lock:
            self.record.stages.append(stage)
        self.event("stage", **asdict(stage))
        self.publish()

    def keep_room(self) -> None:
        """Keep room on the disk for the record, so that it says how the run ended also where that filled the disk."""
        if is_local(self._lake.root):
            self.reserve = Reserve(temporary_path(self._lake.scratch, "reserve"), RESERVED_BYTES)

    def warn(self, message: str) -> None:
        """Note what makes the run end with exit code 3."""
        if message not in self.record.warnings:
            self.record.warnings.append(message)
            self.event("warning", message=message)

    def alarm(self, alarm: Alarm) -> None:
        """Note what a person should look at; it does not change how the run ends."""
        self.record.alarms.append(asdict(alarm))
        self.event("alarm", **asdict(alarm))

    def seen(self, corpus: str, files: pa.Table) -> None:
        """Note how the files of a corpus came to be known."""
        self.record.inputs[corpus] = seen_summary(files)
        self._lake.publish_table(self._lake.run(self.record.run) / "inputs" / f"{corpus}.parquet", files)

    def event(self, kind: str, **details: Any) -> None:
        """Append a line to the run's log."""
        line = json.dumps({"time": _now(), "event": kind, **details}, ensure_ascii=False)
        with self._lock:
            self._events.append(line + "\n")

    def finish(self, status: Status, exit_code: int, error: str | None = None) -> None:
        """Say how the run ended."""
        if self.reserve:
            self.reserve.release()
        self.record.status, self.record.exit_code, self.record.error = status, exit_code, error
        self.record.finished = _now()
        self.event("end", status=status, exit_code=exit_code, error=error)
        self.publish()
        if self._held:
            self._held.close()

    def publish(self) -> None:
        """Publish the record as it stands."""
        with self._lock:
            value = asdict(self.record)
            self._events.show()
        self._lake.publish_uses(self._lake.run(self.record.run))
        self._lake.publish_json(self._lake.run(self.record.run) / "run.json", value)


class Unrecorded(RunLog):
    """The log of a command that only looks: it leaves nothing in the lake."""

    def __init__(self) -> None:
        self._lock, self._held = threading.Lock(), None
        self.record = RunRecord(new_run_id(), "", "", started=_now())

    def seen(self, corpus: str, files: pa.Table) -> None:
        """Do nothing."""

    def event(self, kind: str, **details: Any) -> None:
        """Do nothing."""

    def publish(self) -> None:
        """Do nothing."""


def new_run_id(newest: str = "") -> str:
    """Return an id that sorts by time, and after the newest that there is: a clock may have been put back."""
    now = datetime.now(UTC)
    with suppress(ValueError, OverflowError):
        now = max(now, datetime.strptime(f"{newest.partition('-')[0]}Z", f"{_ID_TIME}%z") + timedelta(microseconds=1))
    return f"{now:{_ID_TIME}}-{secrets.token_hex(2)}"


def load_runs(lake: Lake) -> list[RunRecord]:
    """Return all runs, oldest first; one whose process is known to be gone counts as interrupted."""
    runs = []
    for record in read_runs(sorted((lake.root / "runs").glob("*/run.json"))):
        if record.status == "running" and goes_on(lake, record) is False:
            record.status = "interrupted"
        runs.append(record)
    return runs


def goes_on(lake: Lake, record: RunRecord) -> bool | None:
    """Say whether the process of a run still runs; None: nobody can know here."""
    return Process.of(vars(record)).runs(lake.run(record.run) / LOG)


def read_runs(paths: Sequence[Path]) -> Iterator[RunRecord]:
    """Yield the records that can be read: a damaged one must not hide the others, and `tamis verify` names it."""
    return (_record(found) for _, found in readable_jsons(paths))


def load_run(lake: Lake, run: str) -> RunRecord | None:
    """Return a run, None where its record was removed. Raises LakeError where it is damaged."""
    path = lake.run(run) / "run.json"
    return _record(read_json(path)) if path.exists() else None


def _record(found: dict[str, Any]) -> RunRecord:
    stages = [Stage(**known(Stage, s)) for s in found["stages"]]
    return RunRecord(**{**known(RunRecord, found), "stages": stages})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
