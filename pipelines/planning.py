"""What a flow will take, before it runs: the flow itself on a keyed sample, measured on this machine.

Two sizes give each stage a fixed part and a part that grows with its step's text; what the lake has already is found
by walking the flow over it. Planning takes about a minute whatever the corpus. What cannot be known from a sample is
said in the notes of the plan. The lake is left as it was, but for the plan; where there is none, a plan that is done
makes it, because the run looks for the plan there.
"""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..storage.ingest import IngestOptions, plan_packs
from ..storage.inputs import list_inputs
from ..storage.lake import Lake, scratch_folder
from ..storage.places import disk_of
from ..storage.shuffle import Shuffle
from .compiling import compiling_announced
from .config import FlowEntry
from .engine import Threads
from .flow_checks import check_flow
from .flows import finished_run
from .ingesting import ingest_options
from .loading import Loaded, load_config
from .memory_entry import budget_of, workers_within
from .plan_amounts import Bounds, whole_amounts
from .plan_ingest import Ingested, try_ingest
from .plan_ladder import Climbed, cheap_part, climb, has_costly
from .plan_lines import Estimate, Points, steadied, yield_errors
from .plan_probe import Walk, known_corpus, last_known, values_there, walk
from .plan_result import BETWEEN, PREFECT, Plan, PlannedStep
from .plan_sample import SAMPLED, Amount, Known, Sample, look
from .plan_stages import PARTLY, THERE, TO_COMPUTE, PlannedStage, Projection, points_of, states
from .plan_store import plan_path
from .plan_trials import Trials
from .plugins import make_feature, make_tokens
from .progress import Reporter
from .runs import RunLog
from .step_entries import DedupStep
from .work import Work

PREFECT_S, PREFECT_STAGE_S, PREFECT_ERROR_S = 13.0, 0.2, 6.0
"""The start of Prefect and of its server, and a task, on two cores that other work kept busy: medians of four runs. Not
measured anew, because that would leave flow runs in the user's Prefect."""
PARTITIONS = 64


def plan(
    config: Loaded | Path | str, flow: str, *, overrides: list[str] | None = None, prefect: bool = True,
    reporter: Reporter | None = None, workers: int | None = None,
    disk_usage: Callable[[Path], Any] = shutil.disk_usage,
) -> Plan:  # fmt: skip
    """Return what a run of a flow would take, and keep the plan, so that the run can be compared with it.

    Raises ConfigError where the flow cannot be right, and what the flow raises on a sample of the corpus.
    """
    loaded = config if isinstance(config, Loaded) else load_config(config, overrides)
    features = {alias: make_feature(alias, entry, loaded.root) for alias, entry in loaded.config.features.items()}
    entry = check_flow(loaded, flow, features)
    tokens = make_tokens(loaded.config.tokenizer, loaded.root)
    tokens.identity()
    reporter = reporter or Reporter(quiet=True)
    memory = budget_of(loaded.config.memory)
    lake = replace(Lake.foreseen(loaded.lake), memory=memory)
    lake.sweep_scratch()
    with scratch_folder(lake, "plan") as scratch:
        own = replace(Lake.open(scratch / "own", create=True), memory=memory)
        asked = workers or (entry.engine.workers if entry.engine.use == "threads" else None)
        work = Work(
            lake=own, config=loaded.config, root=loaded.root, features=features, tokens=tokens,
            engine=Threads(workers_within(memory, asked, reporter)),
            log=RunLog(own, flow, ""), reporter=Reporter(quiet=True),
        )  # fmt: skip
        with compiling_announced(reporter):
            job = _Job(work, replace(work, lake=lake), flow, entry, scratch, reporter, prefect, disk_usage)
            found = job.run()
        if not lake.is_there:
            made = f'the lake "{lake.root}" was made, with nothing in it but this plan; the run will stand beside it'
            found = replace(found, notes=(*found.notes, made))
        Lake.open(lake.root, create=True).publish_json(plan_path(job.asked, flow, entry), found.json())
    return found


@dataclass(frozen=True)
class _Job:
    """One plan and what it needs."""

    work: Work
    """In a lake of its own."""
    asked: Work
    """In the lake that is asked about, where nothing is done."""
    name: str
    flow: FlowEntry
    scratch: Path
    reporter: Reporter
    prefect: bool
    disk_usage: Callable[[Path], Any]

    def run(self) -> Plan:
        """Look, try and project."""
        begun, made = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        if done := finished_run(self.asked, self.name, self.flow):
            known = known_corpus(self.asked, self.flow.corpus, self._entry)
            return Plan(self.name, made, done, known.amount, 0.0, 1.0, 0.0, (), (), self._free(), (), 0.0)
        known = known_corpus(self.asked, self.flow.corpus, self._entry)
        walked = walk(self.asked, self.name, self.flow, self.work)
        ingested = self._ingested(known)
        with Shuffle(self.work.lake, SAMPLED, PARTITIONS) as shuffle:
            self.reporter.say("plan: looking through the corpus")
            a_byte = ingested[-1].text_bytes / max(1, ingested[-1].raw_bytes) if ingested else 0.0
            sample = look(self.work, known, self._options, self.scratch / "looked", shuffle, a_byte)
            cheap, climbed = self._climbed(sample)
        amounts = self._amounts(sample, walked, cheap, climbed)
        stages = self._stages(known, walked, ingested, sample, amounts, cheap, climbed)
        return Plan(
            self.name, made, None, amounts[0], sample.quarantined, sample.looked_at,
            sum(trial.entered[0].documents for trial in (cheap or climbed).large), tuple(stages),
            tuple(self._steps(sample, walked, amounts, cheap, climbed)), self._free(), tuple(self._notes(sample)),
            round(time.monotonic() - begun, 1),
        )  # fmt: skip

    @property
    def _entry(self) -> Any:
        return self.work.config.corpora[self.flow.corpus]

    @property
    def _options(self) -> IngestOptions:
        return ingest_options(self._entry)

    def _free(self) -> int:
        return int(self.disk_usage(disk_of(self.asked.lake.root)).free)

    def _ingested(self, known: Known) -> list[Ingested]:
        if not known.unread:
            return []
        self.reporter.say("plan: reading slices of the raw files")
        return try_ingest(self.work, self.flow.corpus, self._entry, known.unread, self.scratch)

    def _climbed(self, sample: Sample) -> tuple[Climbed | None, Climbed]:
        """Return the trials of the steps before the costly ones, where there are such, and those of the whole flow."""
        files = tuple(list_inputs(self._entry.files, self.work.root))
        trials = Trials(self.work, self.name, sample, files, self.scratch)
        first = cheap_part(self.work, self.flow)
        cheap = climb(trials, first, costly=False, say=self.reporter.say) if first else None
        costly = any(has_costly(self.work, step) for step in self.flow.steps)
        return cheap, climb(trials, self.flow, costly=costly, say=self.reporter.say)

    def _amounts(self, sample: Sample, walked: Walk, cheap: Climbed | None, climbed: Climbed) -> list[Amount]:
        known = list(walked.steps)
        if cheap is None:
            return whole_amounts(sample.whole, climbed.large, known, self.flow)
        first = whole_amounts(sample.whole, cheap.large, known, self.flow)
        rest = whole_amounts(sample.whole, climbed.large, known, self.flow, first)
        return [*first, *rest[len(first) :]]

    def _stages(
        self, known: Known, walked: Walk, ingested: list[Ingested], sample: Sample, amounts: list[Amount],
        cheap: Climbed | None, climbed: Climbed,
    ) -> list[PlannedStage]:  # fmt: skip
        """Return the stages of the run with what is left of each, and what it takes beside them."""
        n_shards = self._n_shards(known, sample.text_a_byte)
        projection = Projection(self.work, self.flow, amounts, Bounds.of(self.work, self.flow), n_shards)
        last = last_known(self.asked.lake, known, walked.steps)
        measured = climbed.large[0].stages
        found = states(
            measured, walked, lambda stage: projection.wanted(stage, climbed),
            lambda stage: values_there(self.asked, self.flow, stage, last),
        )  # fmt: skip
        among_cheap = {s.key for s in cheap.large[0].stages if s.position < len(cheap.large[0].steps)} if cheap else ()
        stages = []
        for stage, (state, share) in zip(measured, found, strict=True):
            if stage.name == f"ingest {self.flow.corpus}":
                stages.append(self._reading(known, ingested, sample))
                continue
            mine = cheap if cheap and stage.key in among_cheap else climbed
            stages.append(projection.stage(stage, mine, share, state).left())
        if any(stage.share for stage in stages):
            stages.append(self._between(sample, n_shards, climbed))
        if self.prefect and any(stage.share for stage in stages):
            n = len(stages)
            stages.append(_beside(PREFECT, Estimate(PREFECT_S + n * PREFECT_STAGE_S, PREFECT_ERROR_S)))
        return stages

    def _reading(self, known: Known, ingested: list[Ingested], sample: Sample) -> PlannedStage:
        """Return what reading the raw files takes; memory is measured with row groups as they are."""
        name = f"ingest {self.flow.corpus}"
        if not ingested:
            return _beside(name, Estimate(0.0, 0.0), THERE)
        raw = float(sum(file.size for file in known.unread))
        text = sample.whole.bytes - known.amount.bytes
        *_, small, first, second = ingested

        def points(value: str, by: str) -> Points:
            taken = [(float(getattr(i, by)), 1.0, float(getattr(i.stage, value))) for i in (small, first, second)]
            return Points(taken[0], (taken[1], taken[2]), None)

        wall, cpu = points("seconds", "raw_bytes"), points("cpu_seconds", "raw_bytes")
        ratio = (first.stage.seconds + second.stage.seconds) / max(
            1e-9, first.stage.cpu_seconds + second.stage.cpu_seconds
        )
        return PlannedStage(
            name, "", PARTLY if known.survivors.shards else TO_COMPUTE, 1.0, sample.whole.documents,
            steadied(wall, cpu, ratio, raw, 1), cpu.at(raw, 1), points("bytes", "text_bytes").at(text, 1),
            points("scratch_bytes", "text_bytes").at(text, 1).value, max(i.stage.memory for i in ingested), "cpu",
        )  # fmt: skip

    def _between(self, sample: Sample, n_shards: int, climbed: Climbed) -> PlannedStage:
        wall = points_of(climbed, lambda trial: trial.entered[0].bytes, lambda trial: trial.beside)
        cpu = points_of(climbed, lambda trial: trial.entered[0].bytes, lambda trial: trial.cpu_beside)
        return _beside(BETWEEN, steadied(wall, cpu, climbed.ratio, sample.whole.bytes, n_shards))

    def _n_shards(self, known: Known, a_byte: float) -> int:
        """Return how many shards the corpus will have; `a_byte` is the text in a byte of raw files."""
        text = [a_byte * sum(file.size for file in pack) for pack in plan_packs(known.unread)]
        return len(known.survivors.shards) + sum(math.ceil(max(1, t) / self._options.shard_bytes) for t in text)

    def _steps(
        self, sample: Sample, walked: Walk, amounts: list[Amount], cheap: Climbed | None, climbed: Climbed
    ) -> list[PlannedStep]:
        """Return what each step keeps; ± is two standard errors over keyed parts of the sample.

        From the first selector on a sample that is all of the corpus has an error too: each part was cut by itself.
        """
        found, is_cut = [], False
        for at, step in enumerate(climbed.large[0].steps, 1):
            mine = cheap if cheap and at < len(cheap.large[0].entered) else climbed
            kept = np.concatenate([trial.kept for trial in mine.large], axis=2)
            share = float(kept[0, 0].sum() / max(1.0, sample.whole.documents))
            known, is_cut = at <= len(walked.steps), is_cut or step["kind"] == "select"
            error = np.zeros(2) if known else yield_errors(kept, 0.0 if is_cut else share)[at]
            after = amounts[at]
            found.append(
                PlannedStep(
                    step["name"], str(step.get("selector") or step["kind"]), amounts[at - 1].documents,
                    Estimate(after.documents, float(error[0]) * amounts[0].documents),
                    Estimate(after.tokens, float(error[1]) * amounts[0].tokens), after.bytes, known,
                )
            )  # fmt: skip
        return found

    def _notes(self, sample: Sample) -> list[str]:
        """Return what the numbers do not know."""
        notes = []
        if sample.looked_at < 1:
            notes.append(
                f"{sample.looked_at:.1%} of the corpus was looked at: its documents and bytes are projected, and "
                "copies of documents elsewhere are not seen"
            )
        if any(isinstance(step, DedupStep) and step.dedup != "exact" for step in self.flow.steps):
            notes.append("near copies outside the sample are not seen: a dedup by similarity drops more than planned")
        if self.work.config.models and any(has_costly(self.work, step) for step in self.flow.steps):
            notes.append("a training with `patience` may end earlier")
        if sample.quarantined >= 1:
            notes.append(f"about {sample.quarantined:,.0f} records cannot be read and will lie in quarantine")
        return notes


def _beside(name: str, seconds: Estimate, state: str = TO_COMPUTE) -> PlannedStage:
    nothing = Estimate(0.0, 0.0)
    share = 0.0 if state == THERE else 1.0
    return PlannedStage(name, "", state, share, 0.0, seconds, nothing, nothing, 0.0, 0.0, "")
