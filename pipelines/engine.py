"""What maps a stage over its items: a thread pool, because the hot loops release the GIL.

Results come in the order of the items, at most two a worker wait, so that memory is bounded by workers and not by
items. `Engine` is what a cluster does too (`ray_engine.py`).
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from threading import Event, Lock
from typing import Protocol, TypeVar

from ..features.stopping import end_with
from ..storage.batches import Map
from ..storage.errors import TamisError

Item = TypeVar("Item")
Key = TypeVar("Key")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Engine(Protocol):
    """Map functions over items: with the threads of this process, or with the workers of a cluster.

    `stage` says what the map is for: a cluster may give it other resources. A function that `loads` a model is called
    by workers that keep it.
    """

    @property
    def workers(self) -> int:
        """How many items it maps at a time."""
        ...

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], stage: str = "", *, loads: bool = False
    ) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items."""
        ...

    def together(
        self, function: Callable[[Item], Piece], groups: Sequence[tuple[Key, Sequence[Item]]],
        finish: Callable[[Key, Iterator[Piece]], Result], seen: Callable[[Item], object], stage: str = "", *,
        loads: bool = False,
    ) -> Iterator[Result]:  # fmt: skip
        """Yield `finish(key, pieces)` of each group, the pieces being `function(item)` of its items, in their order.

        `seen` is called here for every item that is done.
        """
        ...

    def inner_map(self) -> AbstractContextManager[Map]:
        """Yield a map for use inside mapped functions; nothing is retried."""
        ...

    def share(self, n_items: int, stage: str) -> float:
        """Return how many processors each of so many items has for its inner map; 0: nothing runs beside it."""
        ...

    def close(self) -> None:
        """Let go of what was started for the maps."""
        ...


@dataclass(frozen=True)
class Threads:
    """Map functions over items with some threads and retries."""

    workers: int
    retries: int = 2

    @classmethod
    def default(cls, workers: int | None) -> "Threads":
        """Return an engine with as many workers as this process may use processors, unless told otherwise."""
        return cls(workers or processors())

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], stage: str = "", *, loads: bool = False
    ) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items; an item that fails for a passing reason is tried again.

        The first error that stays ends the map: items that have not begun are not begun, and those that have are asked
        to stop (`features/stopping.py`).
        """
        if self.workers == 1:
            yield from (self.attempt(function, item) for item in items)
            return
        stopping = Event()
        pool = ThreadPoolExecutor(self.workers, "tamis", initializer=end_with, initargs=(stopping,))
        try:
            yield from _in_order(pool, partial(self.attempt, function), items, lambda: 2 * self.workers)
        except BaseException:  # Ctrl-C too
            stopping.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def together(
        self, function: Callable[[Item], Piece], groups: Sequence[tuple[Key, Sequence[Item]]],
        finish: Callable[[Key, Iterator[Piece]], Result], seen: Callable[[Item], object], stage: str = "", *,
        loads: bool = False,
    ) -> Iterator[Result]:  # fmt: skip
        """Yield `finish(key, pieces)` of each group: here, of pieces that all workers make, group after group."""
        pieces = self.map(function, (item for _, items in groups for item in items), stage, loads=loads)
        for key, items in groups:
            mine = _told(islice(pieces, len(items)), items, seen)
            yield finish(key, mine)
            deque(mine, 0)  # what `finish` did not look at belongs to no other group

    @contextmanager
    def inner_map(self) -> Iterator[Map]:
        """Yield a map for use inside mapped functions, so that a few large items keep all workers busy.

        Its callers share as many threads again as there are workers, and the look-ahead of `map`; nothing is retried.
        """
        if self.workers == 1:
            yield map
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="tamis-inner")
        try:
            yield _SharedMap(pool, 2 * self.workers)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def share(self, n_items: int, stage: str) -> float:
        """Return how many threads each of so many items has for its inner map, 0 where there is only one."""
        return self.workers / max(1, min(self.workers, n_items)) if self.workers > 1 else 0

    def close(self) -> None:
        """Do nothing: the threads ended with their map."""

    def attempt(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Return `function(item)`, tried again where it fails for a passing reason."""
        for _ in range(self.retries):
            try:
                return function(item)
            except TamisError:
                raise  # what we refuse on purpose will be refused again
            except OSError as error:
                if not may_pass(error):
                    raise
        return function(item)


class _SharedMap:
    """A map whose callers share a pool, and evenly the results that may wait."""

    def __init__(self, pool: ThreadPoolExecutor, ahead: int) -> None:
        self._pool, self._ahead = pool, ahead
        self._lock, self._callers = Lock(), 0

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
        with self._lock:
            self._callers += 1
        try:
            yield from _in_order(self._pool, function, items, lambda: max(2, self._ahead // self._callers))
        finally:
            with self._lock:
                self._callers -= 1


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: Callable[[], int]
) -> Iterator[Result]:
    """Yield results in the order of the items, of which `ahead()` at most are begun before their turn."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            while len(waiting) >= ahead():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for begun in waiting:
            begun.cancel()


def _told(pieces: Iterator[Piece], items: Sequence[Item], seen: Callable[[Item], object]) -> Iterator[Piece]:
    for item, piece in zip(items, pieces, strict=True):
        yield piece
        seen(item)


def may_pass(error: object) -> bool:
    """Say whether trying again can help: an error of the operating system, but no full disk or missing permission."""
    lasting = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EMFILE}
    return isinstance(error, OSError) and error.errno not in lasting


def processors() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
