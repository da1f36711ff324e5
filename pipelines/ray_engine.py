"""Map a stage over a Ray cluster: light functions as tasks, those that keep a model in actors.

What `engine.Threads` promises holds here too: results in the order of the items, at most two a place wait, an item that
fails for a passing reason is tried again. So does one whose worker died. The lake is where results go; what comes back
to this process is small, or the path of a file (`ray_worker.py`).
"""

import pickle
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from ..storage.batches import Map
from ..storage.errors import ConfigError, TamisError
from ..storage.exchange import exchange_folder, taken
from ..storage.lake import Lake
from ..storage.publish import count_published
from . import ray_worker
from .engine import processors
from .engine_entry import Engine, Resources
from .ray_cluster import LOCAL, connect
from .ray_pickling import pickled
from .ray_worker import Job, Outcome

Item = TypeVar("Item")
Key = TypeVar("Key")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

RETRIES = 3
"""How often an item is begun again whose worker died."""


@dataclass
class Cluster:
    """Map functions with the workers of a cluster, which is connected with when there is something to map."""

    entry: Engine
    lake: Lake
    _end: Callable[[], None] | None = field(default=None, init=False)

    @property
    def workers(self) -> int:
        """How many items it maps at a time at most, where that was said."""
        return self.entry.workers or processors()

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], stage: str = "", *, loads: bool = False
    ) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items.

        The first error that stays ends the map, and with it the workers that have begun an item. Raises TamisError
        where workers die of an item again and again.
        """
        if not items:
            return
        self._connect()
        wanted = self.entry.resources(stage)
        _refuse_impossible(self.entry, stage, wanted)
        with exchange_folder(self.lake) as exchange:
            job = Job(uuid.uuid4().hex, (ray.put(pickled(function)),), self.lake, exchange, wanted.threads)
            places = (_Actors if loads or wanted.num_gpus else _Tasks)(job, wanted, self.entry.workers, len(items))
            yield from _in_order(places, items, stage)

    def together(
        self, function: Callable[[Item], Piece], groups: Sequence[tuple[Key, Sequence[Item]]],
        finish: Callable[[Key, Iterator[Piece]], Result], seen: Callable[[Item], object], stage: str = "", *,
        loads: bool = False,
    ) -> Iterator[Result]:  # fmt: skip
        """Yield `finish(key, pieces)` of each group: a worker makes the pieces of a group and finishes it."""
        results = self.map(partial(ray_worker.whole, function, finish), groups, stage, loads=loads)
        for (_, items), result in zip(groups, results, strict=True):
            for item in items:
                seen(item)
            yield result

    @contextmanager
    def inner_map(self) -> Iterator[Map]:
        """Yield a map for use inside mapped functions, with the threads that their task has."""
        yield ray_worker.worker_map

    def share(self, n_items: int, stage: str) -> float:
        """Return how many processors each item has."""
        return self.entry.resources(stage).num_cpus

    def close(self) -> None:
        """End the connection, and a cluster that was started for it."""
        if self._end is not None:
            end, self._end = self._end, None
            end()

    def _connect(self) -> None:
        if self._end is None:
            self._end = connect(self.entry.address or LOCAL)


def _refuse_impossible(entry: Engine, stage: str, wanted: Resources) -> None:
    """Raise ConfigError where a cluster that does not grow has no machine for a task: it would wait for ever."""
    if (entry.address or LOCAL) == LOCAL and not any(_fits(wanted, node["Resources"]) for node in ray.nodes()):
        (node,) = ray.nodes()
        there = {name.lower(): n for name, n in node["Resources"].items() if name in ("CPU", "GPU", "memory")}
        raise ConfigError(
            f"engine: a task of {stage!r} asks for {wanted.model_dump(exclude_defaults=True)}, but this machine has "
            f"{there}; ask for less under `stages`"
        )


def _fits(wanted: Resources, there: dict[str, float]) -> float:
    """Return how many tasks the resources are enough for."""
    asked = {"CPU": wanted.num_cpus, "GPU": wanted.num_gpus, "memory": wanted.memory or 0}
    return min(there.get(name, 0) // amount for name, amount in asked.items() if amount)


def _options(wanted: Resources) -> dict[str, Any]:
    return wanted.model_dump(exclude_none=True)


class _Places(Protocol):
    """Where items are worked on."""

    def ahead(self) -> int:
        """Return how many items may be begun before their turn."""
        ...

    def begin(self, item: Any, waiting: Sequence[Any]) -> Any:
        """Begin an item, once there is room beside those that wait for their turn; return a reference to its result."""
        ...

    def end(self, waiting: Sequence[Any]) -> None:
        """Stop what has begun."""
        ...


class _Tasks:
    """Processes that Ray keeps for whatever comes next."""

    def __init__(self, job: Job, wanted: Resources, most: int | None, n_items: int) -> None:
        self._job, self._wanted, self._most = job, wanted, most
        self._call = ray.remote(ray_worker.call).options(max_retries=RETRIES, **_options(wanted))

    def ahead(self) -> int:
        return 2 * _room(self._wanted, self._most)

    def begin(self, item: Any, waiting: Sequence[Any]) -> Any:
        if self._most is not None and len(waiting) >= self._most:  # Ray would begin all that there is room for
            ray.wait(list(waiting), num_returns=len(waiting) - self._most + 1, fetch_local=False)
        return self._call.remote(self._job, item)

    def end(self, waiting: Sequence[Any]) -> None:
        for begun in waiting:
            ray.cancel(begun, force=True)


class _Actors:
    """Processes of one map, as many as there is room for when it begins."""

    def __init__(self, job: Job, wanted: Resources, most: int | None, n_items: int) -> None:
        self._job = job
        kind = ray.remote(ray_worker.Holder).options(
            max_restarts=RETRIES, max_task_retries=RETRIES, **_options(wanted)
        )  # fmt: skip
        self._actors = [kind.remote() for _ in range(min(n_items, _room(wanted, most)))]
        self._coming = {actor.ready.remote(): actor for actor in self._actors}
        self._begun: dict[Any, list[Any]] = {}
        """The references of each actor that is there."""

    def ahead(self) -> int:
        return 2 * len(self._actors)

    def begin(self, item: Any, waiting: Sequence[Any]) -> Any:
        while (actor := self._idlest()) is None:
            ray.wait([*self._coming, *(ref for refs in self._begun.values() for ref in refs)], fetch_local=False)
        self._begun[actor].append(actor.call.remote(self._job, item))
        return self._begun[actor][-1]

    def _idlest(self) -> Any:
        """Return the actor with the fewest items, None where all have two: one at work, one that waits for it."""
        if self._coming:
            for ref in ray.wait(list(self._coming), num_returns=len(self._coming), timeout=0)[0]:
                ray.get(ref)  # an actor that cannot begin is an error
                self._begun[self._coming.pop(ref)] = []
        for actor, refs in self._begun.items():
            if refs:
                self._begun[actor] = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)[1]
        actor = min(self._begun, key=lambda a: len(self._begun[a]), default=None)
        return actor if actor is not None and len(self._begun[actor]) < 2 else None

    def end(self, waiting: Sequence[Any]) -> None:
        for actor in self._actors:
            ray.kill(actor)


def _room(wanted: Resources, most: int | None) -> int:
    """Return how many tasks the machines that are there now have room for, at least one."""
    there = int(sum(_fits(wanted, node["Resources"]) for node in ray.nodes() if node["Alive"]))
    return max(1, min(there, most or there))


def _in_order(places: _Places, items: Sequence[Any], stage: str) -> Iterator[Any]:
    waiting: deque[Any] = deque()
    try:
        for item in items:
            waiting.append(places.begin(item, waiting))
            while len(waiting) >= places.ahead():
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        first_line = str(error).strip().splitlines()[0]
        raise TamisError(
            f"{stage}: a worker of the Ray cluster died {RETRIES + 1} times of the same item ({type(error).__name__}: "
            f"{first_line}); give its tasks more `memory` or `num_cpus` under engine: stages, or look into Ray's logs"
        ) from error
    finally:
        places.end(waiting)


def _result(ref: Any) -> Any:
    """Return the result of an item, from its file where it is large."""
    outcome: Outcome = ray.get(ref)
    count_published(outcome.published)
    result = pickle.loads(outcome.result if isinstance(outcome.result, bytes) else taken(outcome.result))
    if outcome.refused:
        raise result
    return result
