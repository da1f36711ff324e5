"""What every stage needs: the lake, the configuration, who maps, who is told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..features.base import Feature
from ..features.stopping import stop_if_asked
from ..features.tokens import Tokens
from ..selectors.keyed import stream_key
from ..storage.catalog import build_catalog
from ..storage.lake import Lake
from .config import Config
from .engine import Engine, Threads
from .progress import Reporter
from .room import look_for_room, stage_room
from .runs import RunLog, RunRecord, Stage, Unrecorded

Item = TypeVar("Item")
Key = TypeVar("Key")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Trained:
    """A model that is in the lake."""

    key: str
    folder: Path
    """As Hugging Face lays it out."""


class Execute(Protocol):
    """Run one stage under a name: here and now, or as a task of a scheduler."""

    def __call__(self, name: str, function: Callable[[], Result]) -> Result:
        """Return what the stage returns."""
        ...


class Maps(Protocol):
    """A lake, and what maps functions over pieces of it."""

    @property
    def lake(self) -> Lake:
        """Where the pieces lie."""
        ...

    def map(
        self, name: str, function: Callable[[Item], Result], items: list[Item],
        documents: Callable[[Item], int] | None = None,
    ) -> Iterator[Result]:  # fmt: skip
        """Map in the order of the items."""
        ...


@dataclass(frozen=True)
class Alone:
    """What maps in the thread that asks, which may be one of many."""

    lake: Lake

    def map(
        self, name: str, function: Callable[[Item], Result], items: list[Item],
        documents: Callable[[Item], int] | None = None,
    ) -> Iterator[Result]:  # fmt: skip
        """Map in the order of the items, until the run ends."""
        for item in items:
            stop_if_asked()
            yield function(item)


def directly(name: str, function: Callable[[], Result]) -> Result:
    """Run a stage here and now."""
    return function()


@dataclass(frozen=True)
class Work:
    """One run: of a flow, or of an ingestion alone."""

    lake: Lake
    config: Config
    root: Path
    """The folder that relative paths of the configuration are below."""
    features: dict[str, Feature]
    """The features of `flows.yaml` by alias."""
    tokens: Tokens
    """The flow's tokenizer: the unit of every token budget."""
    engine: Engine
    log: RunLog
    reporter: Reporter = field(default_factory=Reporter)
    execute: Execute = directly
    models: Mapping[str, Trained] = field(default_factory=dict)
    """The models of `flows.yaml` that the run has trained so far, by name."""
    flow: str = ""
    """The flow that is run: what its steps were before is looked for under its name."""

    mending: RunRecord | None = None
    """The finished run that is done again over its own snapshots, to bring back what is lost of it: also what is wanted
    for nothing but what is still there."""

    def stage(self, name: str, body: Callable[[Stage], Result]) -> Result:
        """Run one stage: timed, recorded, and retried as a whole where `execute` does that.

        The body counts in the stage what it computed and reused. It starts no other stage.
        """

        def recorded() -> Result:
            with self.log.stage(name) as stage, stage_room(self.lake, stage):
                return body(stage)

        return self.execute(name, recorded)

    def expect(self, stage: Stage, about: float = 0.0, exact: float = 0.0, scratch: float = 0.0) -> None:
        """Look whether there is room for the bytes that a stage will write, before it does (`room.py`)."""
        look_for_room(self.lake, stage, about, exact, scratch, self.reporter.say)

    def map(
        self, name: str, function: Callable[[Item], Result], items: list[Item],
        documents: Callable[[Item], int] | None = None, *, loads: bool = False,
    ) -> Iterator[Result]:  # fmt: skip
        """Map in the order of the items, with progress: by the documents that each has, where that is known.

        The name begins with that of the stage. Where the function `loads` a model, workers of a cluster keep it.
        """
        results = self.engine.map(function, items, name, loads=loads)
        if documents is None:
            return self.reporter.track(results, [1] * len(items), name)
        return self.reporter.track(results, [documents(item) for item in items], name, "documents")

    def together(
        self, name: str, function: Callable[[Item], Piece], groups: Sequence[tuple[Key, Sequence[Item]]],
        finish: Callable[[Key, Iterator[Piece]], Result], documents: Callable[[Item], int], *, loads: bool = False,
    ) -> Iterator[Result]:  # fmt: skip
        """Map over the pieces of shards, and publish each shard with `finish` as soon as all its pieces are there.

        On threads pieces of one shard keep all of them busy; on a cluster a worker makes and publishes a whole shard,
        so that nothing large travels. `finish` returns what is small.
        """
        total = sum(documents(item) for _, items in groups for item in items)
        with self.reporter.meter(total, name, "documents") as advance:
            yield from self.engine.together(
                function, groups, finish, lambda item: advance(documents(item)), name, loads=loads
            )

    def show(self) -> None:
        """Publish the catalogue, so that what is there can be asked for while the run goes on."""
        if self.mending is None:
            build_catalog(self.lake)

    def draw(self, step: str) -> Callable[[str], int]:
        """Return what gives a step the keys of its random numbers."""
        return lambda purpose: stream_key(self.config.seed, step, purpose)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a worker of a cluster without what belongs to this process: it maps nothing and tells nobody."""
        return _travelled, (self.lake, self.config, self.root, self.features, self.tokens, dict(self.models))


def _travelled(
    lake: Lake, config: Config, root: Path, features: dict[str, Feature], tokens: Tokens, models: dict[str, Trained]
) -> Work:
    quiet = Reporter(quiet=True)
    return Work(lake, config, root, features, tokens, Threads(1), Unrecorded(), quiet, directly, models)
