"""What maps the stages of a flow over their items, as `flows.yaml` says it."""

from typing import Literal

from pydantic import Field, model_validator

from ..storage.plugins import nearest
from .amounts import Size
from .strict import Strict

MAPPED = (
    "clusters", "count", "decontaminate", "dedup", "digest", "draw", "export", "feature", "filter", "ingest", "nearest",
    "order", "sample", "score", "summarise", "tokenizer", "tokens", "weigh",
)  # fmt: skip
"""First words of the stages that map over many items; the others run where `tamis` does."""
_OF_RAY = ("address", "stages")


class Resources(Strict):
    """What one task of a stage asks the cluster for."""

    num_cpus: float = Field(
        1, gt=0, allow_inf_nan=False, description="processors; a task of several reads a shard with as many threads"
    )
    num_gpus: float = Field(
        0, ge=0, allow_inf_nan=False, description="with any, the stage runs in actors that keep its model"
    )
    memory: Size | None = Field(None, gt=0, description="what Ray reserves, such as 4GB; default: nothing")

    @property
    def threads(self) -> int:
        """How many threads a task may use."""
        return max(1, int(self.num_cpus))


class Engine(Strict):
    """What maps a stage over row groups or shards: threads of this machine, or a Ray cluster."""

    use: Literal["threads", "ray"] = "threads"
    workers: int | None = Field(
        None, ge=1, description="threads, default: the processors of this machine; of ray the most tasks at a time"
    )
    address: str | None = Field(
        None, description="ray: local (a cluster for this run, default) | auto (RAY_ADDRESS or the running one) | "
        "host:port | ray://host:port"
    )  # fmt: skip
    stages: dict[str, Resources] = Field(
        default_factory=dict, description="ray: resources by stage, such as ingest or feature minilm"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Engine":
        given = [name for name in _OF_RAY if getattr(self, name)]
        if self.use != "ray" and given:
            raise ValueError(f"`{given[0]}` belongs to `use: ray`, not to `use: {self.use}`")
        for stage in self.stages:
            word = stage.partition(" ")[0]
            if word not in MAPPED:
                raise ValueError(f"no stage {stage!r} maps over items{nearest(word, list(MAPPED))}")
        return self

    def resources(self, stage: str) -> Resources:
        """Return what a task of a stage asks for: by its name, by its first word, or one processor."""
        return self.stages.get(stage) or self.stages.get(stage.partition(" ")[0]) or Resources()

    def with_workers(self, workers: int | None) -> "Engine":
        """Return the same with another number of workers, where one is given."""
        return self if workers is None else self.model_copy(update={"workers": workers})
