"""A run from its begin to its end: the lake opened, the record kept, the catalogue published."""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..features.base import Feature
from ..storage.catalog import build_catalog
from ..storage.claims import unclaim
from ..storage.disks import told
from ..storage.errors import DiskError, LakeError, TamisError
from ..storage.lake import Lake
from ..storage.memory_lack import lack_of_memory, lacks_memory
from ..storage.sweeping import lease_of, wait_until_clean
from .compiling import compiling_announced
from .engine import Engine, Threads
from .engine_entry import Engine as EngineEntry
from .loading import Loaded
from .memory_entry import budget_of, noted, tell_of_peak, workers_within
from .news import news
from .plugins import make_tokens
from .progress import Reporter
from .run_report import REPORT, run_report
from .runs import RunLog, RunRecord, Status
from .work import Work


class Terminated(KeyboardInterrupt):
    """SIGTERM came, where Python was told to make an exception of it."""


@contextmanager
def queries_interruptible(signalled: type[KeyboardInterrupt] = KeyboardInterrupt) -> Iterator[None]:
    """Raise `signalled` where a signal came in a query: DuckDB swallows what the signal's handler raises."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise signalled from error
        raise


@dataclass(frozen=True)
class Run:
    """A finished run: its record, and the lake that holds what it made."""

    lake: Lake
    record: RunRecord

    @property
    def id(self) -> str:
        """The run's id, as in the column `run` of the catalogue."""
        return self.record.run

    @property
    def report(self) -> Path:
        """The page that says what it did."""
        return self.lake.run(self.id) / REPORT

    @property
    def steps(self) -> list[dict[str, Any]]:
        """What each step saw and kept."""
        return self.record.steps

    @property
    def outputs(self) -> list[Path]:
        """Folders of the mixtures."""
        return [self.lake.mixture(o["mixture"], o["key"]) for o in self.record.outputs]

    @property
    def mixture(self) -> dict[str, Any]:
        """What a mixture was asked for and has, part by part; empty after a flow."""
        return self.record.mixture

    @property
    def exit_code(self) -> int:
        """0 done; 3 done, with quarantined input, a budget not met or evaluation documents not protected."""
        return 3 if self.record.warnings else 0


def recorded(work: Work, body: Callable[[], object]) -> Run:
    """Run the body, record how it ended, and publish the catalogue."""
    log = work.log
    try:
        with compiling_announced(work.reporter), queries_interruptible(), closing(work.engine), told(work.lake.scratch):
            body()
    except Terminated:
        _finish(work, "interrupted", 128 + signal.SIGTERM)
        raise
    except KeyboardInterrupt:
        _finish(work, "interrupted", 128 + signal.SIGINT)
        raise
    except BaseException as error:
        if lacks_memory(error):
            lack = lack_of_memory(error)
            _finish(work, "failed", lack.exit_code, str(lack))
            raise lack from error
        if isinstance(error, TamisError):
            _finish(work, "failed", error.exit_code, str(error))
        else:
            _finish(work, "failed", 1, f"{type(error).__name__}: {error}")
        raise
    tell_of_peak(log.record, work.reporter)
    done = Run(work.lake, log.record)
    with told(work.lake.scratch):
        _note_end(work, "done", done.exit_code)
        build_catalog(work.lake)
    return done


def _finish(work: Work, status: Status, exit_code: int, error: str | None = None) -> None:
    """Note how the run ended; where the disk has no room for that either, what ended it is to be said, not this."""
    with suppress(DiskError, OSError):
        _note_end(work, status, exit_code, error)


def _note_end(work: Work, status: Status, exit_code: int, error: str | None = None) -> None:
    """Note how the run ended, first of all in its record; its page must not keep it from ending so."""
    work.log.finish(status, exit_code, error)
    record = work.log.record
    try:
        page = run_report(record, news(work.lake, record))
    except LakeError:
        page = run_report(record, None)
    work.lake.publish_bytes(work.lake.run(record.run) / REPORT, page.encode())


def begin(
    loaded: Loaded, label: str, features: dict[str, Feature], engine: EngineEntry, reporter: Reporter | None
) -> Work:
    """Open the lake and begin a run in it. Raises ConfigError where memory does not do, before any work."""
    memory = budget_of(loaded.config.memory)
    tokens = make_tokens(loaded.config.tokenizer, loaded.root)
    tokens.identity()  # a tokenizer that cannot be loaded is an error before any work
    lake = replace(Lake.open(loaded.lake, create=True), memory=memory)
    lake.sweep_scratch()
    work = Work(
        lake=lake, config=loaded.config, root=loaded.root, features=features, tokens=tokens,
        engine=_engine(engine, lake, reporter), log=RunLog(lake, label, loaded.resolved),
        reporter=reporter or Reporter(quiet=True),
    )  # fmt: skip
    work.log.record.memory = noted(memory, work.engine.workers)
    work.log.keep_room()
    try:  # after the record is published: whoever cleans would see it
        if left := wait_until_clean(lake, work.reporter.say):
            build_catalog(lake)
            unclaim(lease_of(lake), left)
    except BaseException as error:
        number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        stopped = isinstance(error, KeyboardInterrupt)
        _finish(work, "interrupted" if stopped else "failed", 128 + number if stopped else 1, str(error) or None)
        raise
    return work


def _engine(entry: EngineEntry, lake: Lake, reporter: Reporter | None) -> Engine:
    """Return what maps the stages of a run. Raises ConfigError where what it needs is not installed."""
    if entry.use == "threads":
        return Threads(workers_within(lake.memory, entry.workers, reporter))
    from .ray_cluster import LOCAL, prepare

    prepare(entry.address or LOCAL)
    from .ray_engine import Cluster  # whoever has threads needs no Ray

    return Cluster(entry, lake)
