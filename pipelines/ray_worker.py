"""What runs in a worker of a Ray cluster: one function at a time, kept from item to item with what it loaded.

A function travels once a process, as bytes: Ray would make it again for every item, without its model and its caches,
and over arrays that cannot be written to, for which Numba's kernels were not compiled. What comes back is the name of
what was published, or some numbers; what is larger than 64 KB goes through a file of the lake's scratch folder.
"""

import os
import pickle
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import ray
from ray import cloudpickle

from .. import __version__
from ..storage.batches import Map
from ..storage.errors import LakeError, TamisError
from ..storage.exchange import left
from ..storage.lake import Lake
from ..storage.publish import published_bytes
from .engine import Threads

Item = TypeVar("Item")
Key = TypeVar("Key")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

LARGE = 64 << 10
"""Bytes of a pickled result that no longer travel."""


@dataclass(frozen=True)
class Job:
    """A function that is mapped, and what its calls need."""

    key: str
    function: tuple[Any]
    """A reference to it; in a tuple, so that Ray does not fetch it for every item."""
    lake: Lake
    exchange: Path
    """Folder of the results that are too large to travel."""
    threads: int
    version: str = __version__


class Outcome(NamedTuple):
    """What became of an item."""

    result: bytes | Path
    """Pickled; where it is large, in a file."""
    published: int
    """How many bytes were published meanwhile."""
    refused: bool = False
    """The result is an error that trying again does not change."""


class _Process:
    """What this process keeps: the function of one map."""

    def __init__(self) -> None:
        self.key = ""
        self.function: Callable[[Any], Any] | None = None
        self.threads = 1

    def function_of(self, job: Job) -> Callable[[Any], Any]:
        if self.key != job.key or self.function is None:
            self.function = None  # its model goes before the next one is loaded
            _check(job)
            _limit_threads(job.threads)
            job.lake.sweep_scratch()  # of what workers of this machine left that died
            self.threads, self.function = job.threads, pickle.loads(ray.get(job.function[0]))
            self.key = job.key
        return self.function


_PROCESS = _Process()


def call(job: Job, item: Any) -> Outcome:
    """Call the function of a job, again where it fails for a passing reason."""
    before = published_bytes()
    try:
        result, refused = Threads(1).attempt(_PROCESS.function_of(job), item), False
    except TamisError as error:  # as itself, where Ray would wrap it
        result, refused = error, True
    pickled = cloudpickle.dumps(result)
    where = left(job.exchange, pickled) if len(pickled) > LARGE else pickled
    return Outcome(where, published_bytes() - before, refused)


class Holder:
    """An actor: a process of its own, which keeps what the function loaded until the map ends."""

    def ready(self) -> None:
        """Do nothing, once it can."""

    def call(self, job: Job, item: Any) -> Outcome:
        """Do what `call` does."""
        return call(job, item)


def whole(
    function: Callable[[Item], Piece], finish: Callable[[Key, Iterator[Piece]], Result],
    group: tuple[Key, Iterable[Item]],
) -> Result:  # fmt: skip
    """Make all pieces of a group and finish it."""
    key, items = group
    return finish(key, worker_map(function, items))


def worker_map(function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
    """Map in the order of the items, with the threads that the task has."""
    inner: Map
    with Threads(_PROCESS.threads).inner_map() as inner:
        yield from inner(function, items)


def _check(job: Job) -> None:
    """Raise TamisError where this machine cannot do the work."""
    if job.version != __version__:
        raise TamisError(
            f"{platform.node()} has tamis {__version__}, the run was started by tamis {job.version}; install the same"
        )
    if not job.lake.is_there:
        raise LakeError(
            f'{platform.node()} does not see the lake "{job.lake.root}"; that of a run on Ray lies on storage that all '
            "machines share, under the same path, or in an object store"
        )


def _limit_threads(threads: int) -> None:
    """Let the libraries use as many threads as the task asked for; most of them look once, when they begin."""
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)
    pa.set_cpu_count(threads)
    if "torch" in sys.modules:
        with suppress(RuntimeError):  # too late
            sys.modules["torch"].set_num_threads(threads)
