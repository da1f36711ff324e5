"""The stages of a planned flow: what each will take, and whether the lake has it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..features.torch_precision import chosen_device
from .config import FlowEntry
from .flow_checks import features_of
from .ingesting import target_corpus
from .plan_amounts import Bounds, trained_tokens, tried_tokens
from .plan_ladder import Climbed
from .plan_lines import Estimate, Points, steadied
from .plan_probe import Walk
from .plan_sample import Amount
from .plan_trials import Measured, Trial
from .work import Work

SHORTEST_S = 0.05
"""Half of the place that the records of trainings are rounded to."""
THERE, PARTLY, TO_COMPUTE = "there", "partly", "to compute"


@dataclass(frozen=True)
class PlannedStage:
    """What one stage will do."""

    stage: str
    step: str
    state: str
    share: float
    """Of its work that is left, 0 to 1."""
    documents: float
    """That enter its step."""
    seconds: Estimate
    cpu_seconds: Estimate
    bytes: Estimate
    """That the lake grows by."""
    scratch_bytes: float
    memory: float
    """The most that the process has meanwhile."""
    device: str

    def left(self) -> "PlannedStage":
        """Return what it takes without what is there."""
        return PlannedStage(
            self.stage, self.step, self.state, self.share, self.documents, self.seconds.times(self.share),
            self.cpu_seconds.times(self.share), self.bytes.times(self.share), self.scratch_bytes * self.share,
            self.memory * (self.share > 0), self.device,
        )  # fmt: skip


@dataclass(frozen=True)
class Projection:
    """Trials of a flow, and the whole that they stand for."""

    work: Work
    flow: FlowEntry
    amounts: Sequence[Amount]
    bounds: Bounds
    n_shards: int
    """Of the whole corpus."""

    def stage(self, measured: Measured, climbed: Climbed, share: float, state: str) -> PlannedStage:
        """Return what a stage of trials takes on the whole."""
        trained = trained_tokens(self.work, climbed.large[0], measured.position, self.amounts)
        x = self.bounds.basis(measured.name, self.amounts[measured.position], trained)
        name = (
            climbed.large[0].steps[measured.position]["name"] if measured.position < len(climbed.large[0].steps) else ""
        )

        def amount(trial: Trial) -> float:
            if self._is_constant(measured, climbed):
                return x
            return self.bounds.basis(measured.name, trial.entered[measured.position], tried_tokens(trial))

        def points(value: Callable[[Measured], float], by: Callable[[Trial], float] = amount) -> Points:
            def figure(trial: Trial) -> float | None:
                found = _same(trial, measured)
                return None if found is None else value(found)

            return points_of(climbed, by, figure)

        def at(found: Points) -> Estimate:
            return found.at(x, self.n_shards)

        cpu = points(lambda s: s.cpu_seconds)
        seconds = steadied(points(lambda s: s.seconds), cpu, climbed.ratio, x, self.n_shards)
        cpu_seconds = at(cpu)
        if measured.name in trained and measured.name.startswith("train "):
            seconds, cpu_seconds = _training(measured, climbed, x)

        # a model is as large after any training, and so are its checkpoints
        room = (lambda trial: x) if measured.name.startswith("train ") else amount
        last = _same(climbed.as_ingested, measured)
        return PlannedStage(
            measured.name, name, state, share, self.amounts[measured.position].documents, seconds, cpu_seconds,
            at(points(lambda s: s.bytes, room)), at(points(lambda s: s.scratch_bytes, room)).value,
            last.memory if last else 0.0, device_of(self.work, self.flow, measured.name),
        )  # fmt: skip

    def _is_constant(self, measured: Measured, climbed: Climbed) -> bool:
        """Say whether a stage does as much in each trial: it reads a target, or computes a feature of its documents."""
        if not measured.name.startswith("feature "):
            return measured.name.startswith(f"ingest {target_corpus('')}")
        counts = {s.documents for trial in climbed.trials if (s := _same(trial, measured))}
        return len(counts) == 1 and climbed.small is not None

    def wanted(self, measured: Measured, climbed: Climbed) -> float:
        """Return for how many documents a feature is asked."""
        return measured.documents if self._is_constant(measured, climbed) else self.amounts[measured.position].documents


def _training(measured: Measured, climbed: Climbed, tokens: float) -> tuple[Estimate, Estimate]:
    """Return the seconds and processor seconds of a training: what a token took, and what came before the first.

    A trial's training is short beside what it needs before it begins, so a line through whole stages would be noise.
    """
    found = []
    for trial in climbed.large:
        stage, name = _same(trial, measured), measured.name.removeprefix("train ")
        model = next((m for m in trial.models if m["model"] == name), None)
        if stage is not None and model is not None and model["tokens"]:
            trained = max(model["seconds"], SHORTEST_S)
            before = max(0.0, stage.seconds - trained)
            busy = stage.cpu_seconds / max(stage.seconds, SHORTEST_S)
            found.append((before + trained * tokens / model["tokens"], busy))
    if not found:
        return Estimate(0.0, 0.0), Estimate(0.0, 0.0)
    values = [seconds for seconds, _ in found]
    mean, off = sum(values) / len(values), (max(values) - min(values)) / 2
    busy = sum(share for _, share in found) / len(found)
    return Estimate(mean, off), Estimate(mean * busy, off * busy)


def points_of(climbed: Climbed, amount: Callable[[Trial], float], figure: Callable[[Trial], float | None]) -> Points:
    """Return a figure of the trials, without those that do not have it."""

    def point(trial: Trial | None) -> tuple[float, float, float] | None:
        found = figure(trial) if trial else None
        return None if trial is None or found is None else (amount(trial), trial.n_shards, found)

    large = tuple(found for trial in climbed.large if (found := point(trial)))
    return Points(point(climbed.small), large, point(climbed.as_ingested))


def _same(trial: Trial, stage: Measured) -> Measured | None:
    return next((s for s in trial.stages if s.key == stage.key), None)


def states(
    stages: Sequence[Measured], walk: Walk, wanted: Callable[[Measured], float], there: Callable[[str], int]
) -> list[tuple[str, float]]:
    """Return for each stage of a flow whether it is there, and what share of its work is left.

    `there` counts the documents that have values of a feature, for stages after the one where the walk ended.
    """
    seen, numbered = Counter[str](), {}
    for one in walk.found:
        numbered[one.name, seen[one.name]] = one
        seen[one.name] += 1
    end = _end(stages, walk)
    result = []
    for at, stage in enumerate(stages):
        looked = numbered.get(stage.key)
        is_feature = stage.name.startswith("feature ")
        if at < end and (looked is None or looked.there):
            left = 0.0
        elif at < end and looked is not None and is_feature:
            left = looked.documents / max(1.0, wanted(stage))
        elif at < end or not is_feature:
            left = 1.0
        else:
            left = 1 - there(stage.name) / max(1.0, wanted(stage))
        left = min(1.0, max(0.0, left))
        result.append((THERE if left == 0 else TO_COMPUTE if left == 1 else PARTLY, left))
    return result


def _end(stages: Sequence[Measured], walk: Walk) -> int:
    """Return the place of the stage where the walk ended."""
    if walk.stop is None:
        return len(stages)
    for at, stage in enumerate(stages):
        if (stage.name, stage.position) == (walk.stop.name, walk.stop.position):
            return at
    return next((at for at, stage in enumerate(stages) if stage.position >= walk.stop.position), len(stages))


def device_of(work: Work, flow: FlowEntry, stage: str) -> str:
    """Return where a stage computes."""
    kind, _, name = stage.partition(" ")
    if kind == "train" and name in work.config.models:
        return chosen_device(work.config.models[name].device)
    if kind != "feature":
        return "cpu"
    asked = [feature for step in flow.steps for feature in features_of(step, work.features)]
    feature = ({f.name: f for f in asked} | work.features).get(name)
    return chosen_device(feature.device) if feature is not None and hasattr(feature, "device") else "cpu"
