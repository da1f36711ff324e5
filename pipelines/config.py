"""The models of `flows.yaml`: every key, its type and its meaning.

Strict on purpose: an unknown key is an error with the nearest valid name, and everything that can be checked without
reading the corpus is checked before any work. What a field means is said once, here; the JSON Schema for editors is
made of it.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .alarm_limits import AlarmLimits, Alarms
from .amounts import Count, Size, SizeOrShare
from .engine_entry import Engine
from .keep_entry import Keep
from .memory_entry import DEFAULT as MEMORY
from .mixture_entries import Mixture
from .model_entries import ModelEntry
from .outputs import Output
from .schedule_entry import Schedule
from .step_entries import Step
from .strict import Name, Strict


class Fields(Strict):
    """Names of the fields of a raw record; the rest is kept as `meta`."""

    text: str = "text"
    id: str = "id"
    source: str = "source"


class Files(Strict):
    """Raw files and how they are read."""

    files: list[str] = Field(min_length=1, description="globs, relative to flows.yaml")
    fields: Fields = Fields()
    format: Literal["auto", "jsonl", "parquet", "text"] = "auto"
    id: Literal["path", "stem"] = Field(
        "path", description="id of a file that is one document: its path below the glob, or its stem"
    )
    on_bad: Literal["quarantine", "fail"] = "quarantine"
    shard_bytes: Size = Field(128 << 20, description="most bytes of text in a shard")
    max_record_bytes: Size = Field(256 << 20, gt=0, description="a longer record is not read")
    max_ratio: Count = Field(
        1000, gt=0, description="a packed file is read until it is so many times its size, or 256 MB where that is more"
    )
    max_unpacked_bytes: Size = Field(1 << 40, gt=0, description="and no further than to so many bytes")
    rehash: bool = Field(False, description="digest every file again, also where size, mtime and inode are unchanged")

    @field_validator("files", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Corpus(Files):
    """The raw pool."""


class TargetSet(Files):
    """A small sample of what is wanted."""

    holdout: float = Field(0.0, ge=0, lt=1, description="share, keyed by text, that no selector ever sees")


class FeatureEntry(BaseModel):
    """A named feature: `use` is its kind, the rest its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)
    use: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the feature."""
        return dict(self.__pydantic_extra__ or {})


class FlowEntry(Strict):
    """A list of named steps over one corpus, and what is written at the end."""

    corpus: str
    steps: list[Step] = Field(min_length=1)
    outputs: list[Output] = Field(default_factory=list)
    engine: Engine = Engine()
    alarms: Alarms = AlarmLimits()
    schedule: Schedule | None = Field(None, description="when `tamis serve` runs it")

    @model_validator(mode="after")
    def _unique_names(self) -> "FlowEntry":
        names = [s.name for s in self.steps]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two steps are named {twice[0]!r}; names must differ")
        return self


class MixtureEntry(Mixture):
    """A mixture, and how it is written."""

    outputs: list[Output] = Field(default_factory=lambda: [Output()], min_length=1)
    engine: Engine = Engine()


class Config(Strict):
    """A whole `flows.yaml`."""

    version: Literal[1] = 1
    lake: str = "lake"
    seed: int = Field(0, ge=0)
    tokenizer: str = Field(
        "words", description="words | bytes | path of a tokenizer.json | Hub name: the unit of every token budget"
    )
    memory: SizeOrShare = Field(
        MEMORY, gt=0, description="most that a run may have resident: a size such as 1GB, or a share of what the "
        "cgroup or the machine has, default 75%; workers and blocks go by it, and no result does"
    )  # fmt: skip
    alarms: Alarms = AlarmLimits()
    keep: Keep = Keep()
    corpora: dict[Name, Corpus] = Field(default_factory=dict)
    targets: dict[Name, TargetSet] = Field(default_factory=dict)
    models: dict[Name, ModelEntry] = Field(default_factory=dict)
    features: dict[Name, FeatureEntry] = Field(default_factory=dict)
    flows: dict[Name, FlowEntry] = Field(default_factory=dict)
    mixtures: dict[Name, MixtureEntry] = Field(default_factory=dict)
