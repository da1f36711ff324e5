"""Say why nothing moves: on a machine's first run Numba compiles the kernels, and that takes seconds.

Numba keeps what it compiled beside the source files, or where it may not write there in the user's cache folder, so it
happens once for a version of tamis and a machine. Numba's own events tell; loading from its cache is none.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from numba.core.event import Event, Listener, install_listener

from .progress import Reporter

COMPILING = "compiling kernels that were not needed before on this machine: some seconds, once"


class _Announcer(Listener):
    """Says it at the first of many compilations, which any worker's thread may begin."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._first = threading.Lock()

    def on_start(self, event: Event) -> None:
        """Handle the start of a compilation."""
        if self._first.acquire(blocking=False):
            self._reporter.say(COMPILING)

    def on_end(self, event: Event) -> None:
        """Handle its end."""


@contextmanager
def compiling_announced(reporter: Reporter) -> Iterator[None]:
    """Tell the reporter, once, when a kernel has to be compiled meanwhile, in whatever thread."""
    with install_listener("numba:compile", _Announcer(reporter)):
        yield
