"""One BLAS thread a worker, while workers are many.

OpenBLAS starts its own threads for each product, so two workers would have four on two cores, and the loops between the
products would still have one. Here a worker's products run on the worker's own thread. The setting is the process's, so
it is made when the first caller enters and undone when the last one leaves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = Lock()
_inside: list[Any] = []
"""One entry a caller inside; the first one remembers the setting before."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread a call until every caller has left; any number of threads may enter."""
    with _lock:
        if not _inside:
            _take_control()
        _inside.append(None if _inside else _controller().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            limit = _inside[0]
            _inside.pop()
            if not _inside:
                _take_control()
                limit.restore_original_limits()
                _take_control()


def usable_threads() -> int:
    """Return how many threads BLAS may use now: what its environment variables and the cores say."""
    blas = _controller().select(user_api="blas").info()
    return max((int(library["num_threads"]) for library in blas), default=1)


def _take_control() -> None:
    """Let this thread change the setting: from version 3.8 on only the first thread that did so may, others in vain."""
    for library in _controller().lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)


@cache
def _controller() -> ThreadpoolController:
    """Look for the libraries once: NumPy has loaded its own by now, and the search takes milliseconds."""
    return ThreadpoolController()
