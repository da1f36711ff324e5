"""Trials: the flow itself, run on a part of the sample in a lake of its own, and what each of its stages took.

Nothing here knows what a stage does, so a stage that is added later is planned too. Budgets that are numbers are scaled
with the part; models are trained for a few updates. A trial is measured at the seam where Prefect makes tasks of
stages: seconds, processor seconds, bytes published, and by a thread that looks twenty times a second the most memory
and scratch space.
"""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..features.base import Feature
from ..features.decoder import SIZES
from ..selectors.keyed import uniform
from ..storage.lake import Lake
from ..storage.publish import published_bytes
from ..storage.usage import folder_bytes, release_memory, resident_bytes
from .config import Config, FlowEntry
from .flows import curate
from .ingesting import ingest_options
from .measuring import tokens_of
from .model_entries import ModelEntry
from .plan_sample import Amount, Sample, write_sample
from .runs import RunLog, Stage
from .step_entries import SelectStep
from .work import Work

T = TypeVar("T")
PARTS = 10
"""Keyed parts of a trial's documents, whose differences give the error of its yields."""
SHARDS_A_WORKER = 4
_SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True)
class Measured:
    """What one stage of a trial took."""

    name: str
    ordinal: int
    """Which of the stages of that name: a feature is measured of a target and of the pool."""
    position: int
    """How many steps had chosen before."""
    seconds: float
    cpu_seconds: float
    bytes: int
    scratch_bytes: int
    memory: int
    documents: int
    """For which a feature was computed."""

    @property
    def key(self) -> tuple[str, int]:
        """What is the same stage in another trial."""
        return self.name, self.ordinal


@dataclass(frozen=True, eq=False)
class Trial:
    """One run of the flow on a part of the sample."""

    entered: tuple[Amount, ...]
    """What each step had before it, and at the end what was chosen."""
    kept: npt.NDArray[np.float64]
    """Documents and tokens of the corpus and after each step, by part: (steps + 1, 2, PARTS)."""
    steps: tuple[dict[str, Any], ...]
    stages: tuple[Measured, ...]
    models: tuple[dict[str, Any], ...]
    updates: int
    seconds: float
    cpu_seconds: float
    n_shards: int

    @property
    def beside(self) -> float:
        """Seconds between the stages."""
        return max(0.0, self.seconds - sum(stage.seconds for stage in self.stages))

    @property
    def cpu_beside(self) -> float:
        """Processor seconds between the stages."""
        return max(0.0, self.cpu_seconds - sum(stage.cpu_seconds for stage in self.stages))


class Meter:
    """Run stages and note what each took: what `Work.execute` asks for."""

    def __init__(self, scratch: Path) -> None:
        self.log: RunLog | None = None
        self.found: list[Measured] = []
        self._scratch, self._seen = scratch, Counter[str]()

    def __call__(self, name: str, function: Callable[[], T]) -> T:
        """Run a stage."""
        assert self.log is not None
        position, ordinal = len(self.log.record.steps), self._seen[name]
        self._seen[name] += 1
        with Watch(self._scratch) as watch:
            cpu, begin, before = time.process_time(), time.monotonic(), published_bytes()
            result = function()
            seconds, cpu, n_bytes = time.monotonic() - begin, time.process_time() - cpu, published_bytes() - before
        stage: Stage = self.log.record.stages[-1]
        self.found.append(
            Measured(name, ordinal, position, seconds, cpu, n_bytes, watch.scratch_bytes, watch.memory, stage.documents)
        )
        return result


class Watch:
    """Look at memory and scratch space while something runs; a context manager."""

    def __init__(self, scratch: Path) -> None:
        self.memory = self.scratch_bytes = 0
        self._scratch, self._done = scratch, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.memory = max(self.memory, resident_bytes())
            self.scratch_bytes = max(self.scratch_bytes, folder_bytes(self._scratch))
            if self._done.wait(_SECONDS_BETWEEN_LOOKS):
                return


@dataclass
class Trials:
    """Where trials are made, of one flow and one sample."""

    work: Work
    """Of the flow, in a lake that no trial uses."""
    name: str
    sample: Sample
    files: tuple[Any, ...]
    """The raw files of the corpus."""
    folder: Path
    made: int = field(default=0)

    def run(self, flow: FlowEntry, low: float, high: float, updates: int, *, as_ingested: bool = False) -> Trial:
        """Run a flow on the documents with a number from `low` to `high`; models are trained for so many updates.

        `as_ingested`: in shards as large as an ingestion makes them, not in some for each worker.
        """
        self.made += 1
        folder = self.folder / f"trial-{self.made}"
        n_shards = None if as_ingested else SHARDS_A_WORKER * self.work.engine.workers
        release_memory()
        try:
            return self._run(folder, flow, low, high, updates, n_shards)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, folder: Path, flow: FlowEntry, low: float, high: float, updates: int, n_shards: int | None) -> Trial:
        lake = Lake.open(folder, create=True)
        options = ingest_options(self.work.config.corpora[flow.corpus])
        snapshot = write_sample(lake, flow.corpus, self.sample, low, high, self.files, options, n_shards)
        n_bytes = sum(shard.n_bytes for shard in snapshot.shards)
        scaled = scaled_flow(flow, n_bytes / max(1.0, self.sample.whole.bytes))
        config = scaled_models(self.work.config, updates)
        meter = Meter(lake.scratch)
        log = meter.log = RunLog(lake, self.name, "")
        work = replace(self.work, lake=lake, config=config, log=log, execute=meter)
        begin, cpu = time.monotonic(), time.process_time()
        curate(work, self.name, scaled)
        seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
        steps = log.record.steps
        kept = self._kept(lake, snapshot, steps, work, low, high)
        entered = [Amount(snapshot.counts["documents"], n_bytes, float(kept[0, 1].sum()))]
        entered += [Amount(step["kept"], step["bytes_kept"], step["tokens_kept"]) for step in steps]
        return Trial(
            tuple(entered), kept, tuple(steps), tuple(meter.found), tuple(log.record.models), updates, seconds, cpu,
            len(snapshot.shards),
        )  # fmt: skip

    def _kept(
        self, lake: Lake, snapshot: Any, steps: list[dict[str, Any]], work: Work, low: float, high: float
    ) -> npt.NDArray[np.float64]:
        """Return documents and tokens of the corpus and after each step, by the part that a document's text is in."""
        kept = np.zeros((len(steps) + 1, 2, PARTS))
        for shard in snapshot.shards:
            hashes = b"".join(h[:8] for h in shard.read_column("text_hash").to_pylist())
            number = uniform(np.frombuffer(hashes, "<u8").astype(np.uint64), self.sample.key)
            part = np.clip((number - low) / (high - low) * PARTS, 0, PARTS - 1).astype(np.int64)
            rows = np.flatnonzero(snapshot.mask(shard)).astype(np.int64)
            _add(kept[0], part[rows], tokens_of(work, shard, rows))
            for at, step in enumerate(steps, 1):
                path = lake.selection(step["selection"]) / f"{shard.digest}.parquet"
                table = lake.table(path, ["row", "kept", "n_tokens"])
                chosen = table.filter(table.column("kept"))
                _add(kept[at], part[chosen.column("row").to_numpy()], chosen.column("n_tokens").to_numpy())
        return kept


def _add(kept: npt.NDArray[np.float64], part: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> None:
    kept[0] += np.bincount(part, minlength=PARTS)
    kept[1] += np.bincount(part, weights=tokens, minlength=PARTS)


def scaled_flow(flow: FlowEntry, share: float) -> FlowEntry:
    """Return a flow whose budgets, where they are numbers, are those of a share of the corpus."""
    steps = [_scaled_step(step, share) for step in flow.steps]
    return flow.model_copy(update={"steps": steps})


def _scaled_step(step: Any, share: float) -> Any:
    if not isinstance(step, SelectStep) or step.cut.budget is None or isinstance(step.cut.budget.amount, float):
        return step
    unit = "documents" if step.cut.budget.fraction is not None else step.cut.budget.unit
    amount = max(1, round(step.cut.budget.amount * share))
    budget = step.cut.budget.model_copy(update={unit: amount})
    return step.model_copy(update={"cut": step.cut.model_copy(update={"budget": budget})})


def scaled_models(config: Config, updates: int) -> Config:
    """Return a configuration whose models are trained for so many updates at most."""
    models = {}
    for name, entry in config.models.items():
        context = _context(config, entry)
        batch = int(entry.parameters.get("batch", 8)) * int(entry.parameters.get("accumulation", 1))
        budget = {"tokens": updates * batch * context}
        if entry.tokens is not None:
            budget["tokens"] = min(budget["tokens"], entry.tokens)
        models[name] = type(entry).model_validate(
            {**entry.model_dump(by_alias=True, exclude_unset=True), "budget": budget}
        )
    return config.model_copy(update={"models": models})


def _context(config: Config, entry: ModelEntry) -> int:
    """Return the tokens of a sequence: a model's own, or those of the entry that it goes on from."""
    if entry.context or entry.size:
        return entry.context or SIZES[entry.size or "tiny"].context
    return _context(config, config.models[entry.base]) if entry.base in config.models else 2048


def is_costly(feature: Feature) -> bool:
    """Say whether documents are so slow to measure that fewer have to do."""
    return feature.cost >= 2
