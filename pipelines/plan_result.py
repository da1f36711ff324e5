"""What a plan says: stage by stage and step by step, with what each number may be off by."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .plan_lines import Estimate
from .plan_sample import Amount
from .plan_stages import THERE, PlannedStage

PREFECT, BETWEEN = "Prefect", "between the stages"
"""What a run takes beside its stages."""


@dataclass(frozen=True)
class PlannedStep:
    """What one step will see and keep."""

    name: str
    kind: str
    entered: float
    documents: Estimate
    tokens: Estimate
    bytes: float
    known: bool
    """It is in the lake: these numbers are exact."""


@dataclass(frozen=True)
class Plan:
    """What a flow will take on this machine, and what of it is there."""

    flow: str
    made: str
    run: str | None
    """A finished run that has done all of it."""
    corpus: Amount
    quarantined: float
    looked_at: float
    """Share of the corpus that was looked at; 1: its documents and bytes are exact."""
    sampled_documents: float
    """Of the two large trials."""
    stages: tuple[PlannedStage, ...]
    steps: tuple[PlannedStep, ...]
    free_bytes: int
    notes: tuple[str, ...]
    planning_seconds: float

    @property
    def seconds(self) -> Estimate:
        """How long the run will take."""
        return _sum([stage.seconds for stage in self.stages])

    @property
    def bytes(self) -> Estimate:
        """By how much the lake will grow."""
        return _sum([stage.bytes for stage in self.stages])

    @property
    def peak_bytes(self) -> float:
        """The most disk that it will need at once: what was written so far, and the scratch space of a stage."""
        most = grown = 0.0
        for stage in self.stages:
            grown += stage.bytes.value
            most = max(most, grown + stage.scratch_bytes)
        return most

    @property
    def memory(self) -> float:
        """The most that the process will have."""
        return max((stage.memory for stage in self.stages), default=0.0)

    @property
    def gpu_hours(self) -> float:
        """Hours in which a GPU is used."""
        return sum(s.seconds.value for s in self.stages if s.device not in ("cpu", "")) / 3600

    @property
    def cpu_hours(self) -> float:
        """Hours of processors, over all of them."""
        return sum(s.cpu_seconds.value for s in self.stages) / 3600

    @property
    def enough_disk(self) -> bool:
        """Whether what it needs is free, with its error."""
        return self.peak_bytes + self.bytes.error <= self.free_bytes

    @property
    def nothing_to_do(self) -> bool:
        """Whether everything is there."""
        return self.run is not None or all(stage.state == THERE for stage in self.stages if stage.step)

    @property
    def exit_code(self) -> int:
        """0; 3 where the disk is too small."""
        return 0 if self.enough_disk else 3

    def json(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        total = {
            "seconds": asdict(self.seconds), "bytes": asdict(self.bytes), "peak_bytes": self.peak_bytes,
            "memory": self.memory, "gpu_hours": self.gpu_hours, "cpu_hours": self.cpu_hours,
            "free_bytes": self.free_bytes, "enough_disk": self.enough_disk, "nothing_to_do": self.nothing_to_do,
        }  # fmt: skip
        return {**asdict(self), "total": total}


def _sum(estimates: Sequence[Estimate]) -> Estimate:
    """Return a sum; errors add up, because a machine that is slower is slower everywhere."""
    return Estimate(sum(e.value for e in estimates), sum(e.error for e in estimates))
