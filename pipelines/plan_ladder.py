"""How large trials are: four or eight times as large each, as long as none takes too long, the last one three times.

The first compiles kernels and loads libraries, and tells only whether the flow runs at all. Half of the sample is the
most, so that the second large trial sees other documents. The third has those of the first in shards of the usual size,
because their number and size have a price too. A flow that asks for embeddings, losses or trained models begins with
less, and its steps before these are tried alone too, on more.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..storage.errors import TamisError
from .config import FlowEntry
from .flow_checks import features_of
from .plan_trials import Trial, Trials, is_costly
from .step_entries import SelectStep, TrainStep
from .work import Work

FIRST_BYTES, FIRST_COSTLY_BYTES = 128 << 10, 16 << 10
LARGER, LARGER_COSTLY = 8, 4
TRAINING_S = 6.0
"""So long a trial trains: from too few updates the time of one cannot be told."""
LONGEST_S = 45.0
"""Of one trial, as far as that can be foreseen."""


@dataclass(frozen=True)
class Climbed:
    """The trials that count."""

    small: Trial | None
    large: tuple[Trial, ...]
    as_ingested: Trial
    """The first large one again, in shards as large as those of the lake: its memory is that of a run."""

    @property
    def ratio(self) -> float:
        """What a processor second of the large trials took, in seconds: less than 1 where workers share the work."""
        return sum(t.seconds for t in self.large) / max(1e-9, sum(t.cpu_seconds for t in self.large))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All of them."""
        return (*([self.small] if self.small else []), *self.large, self.as_ingested)


def climb(trials: Trials, flow: FlowEntry, *, costly: bool, say: Callable[[str], object]) -> Climbed:
    """Run a flow on larger and larger parts of the sample. Raises what the flow raises on the largest."""
    factor, first = (LARGER_COSTLY, FIRST_COSTLY_BYTES) if costly else (LARGER, FIRST_BYTES)
    shares = _rungs(trials.sample.n_bytes, first, factor)
    limit, share, updates = trials.sample.limit, shares[0], 2
    before: Trial | None = None
    trial: Trial | None = None
    for number, share in enumerate(shares):
        updates = _updates(trial, updates)
        say(f"plan: a trial on {share * trials.sample.n_bytes / 1e6:,.2g} MB of text")
        try:
            found = trials.run(flow, 0.0, limit * share, updates)
        except TamisError:
            if share == shares[-1]:
                raise
            continue  # too few documents, perhaps
        before, trial = trial, found
        if before and _foreseen(before.seconds, trial.seconds, factor, warm=number > 1) > LONGEST_S:
            break
    assert trial is not None
    say("plan: and on as much other text")
    other = trials.run(flow, limit * share, 2 * limit * share, updates)
    say("plan: and again, in shards of the usual size")
    return Climbed(before, (trial, other), trials.run(flow, 0.0, limit * share, updates, as_ingested=True))


def _updates(before: Trial | None, updates: int) -> int:
    """Return how many updates the next trial trains for: more than the one before, so that there is a line."""
    if before is None:
        return updates
    seconds = sum(stage.seconds for stage in before.stages if stage.name.startswith("train "))
    return round(updates * min(16.0, max(2.0, TRAINING_S / max(seconds, 0.01))))


def _foreseen(before: float, seconds: float, factor: int, *, warm: bool) -> float:
    """Return what the next trial will take: its fixed part as before, the rest by how much larger it is.

    Where the one before was the first, what it took says little: a quarter of the time counts as growing then.
    """
    grows = max(seconds - before, 0.0 if warm else seconds / 4)
    return seconds + factor * grows


def _rungs(n_bytes: int, first: int, factor: int) -> list[float]:
    """Return the shares of the sample that trials see, ascending to one half."""
    shares = [0.5]
    while len(shares) < (3 if factor == LARGER_COSTLY else 2) or shares[0] / factor * n_bytes >= first:
        shares.insert(0, shares[0] / factor)
    return shares


def cheap_part(work: Work, flow: FlowEntry) -> FlowEntry | None:
    """Return the steps before the first costly one; None where no step is, or where that is the first that chooses."""
    for at, step in enumerate(flow.steps):
        if has_costly(work, step):
            before = flow.steps[:at]
            return flow.model_copy(update={"steps": before, "outputs": []}) if before else None
    return None


def has_costly(work: Work, step: object) -> bool:
    """Say whether a step trains a model or asks for the numbers of one."""
    if isinstance(step, TrainStep) or (isinstance(step, SelectStep) and step.refine and step.refine.train):
        return True
    return any(is_costly(feature) for feature in features_of(step, work.features))
