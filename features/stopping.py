"""How long computations end early: threads cannot be stopped from outside, so they look from time to time.

Each pool of workers has an event of its own, which its threads know: a run that failed stops nobody else's.
"""

from collections.abc import Callable
from threading import Event, local

_THREAD = local()


class Stopped(Exception):
    """A computation ended because the run did."""


def end_with(event: Event | None) -> None:
    """Let what this thread computes end once the event is set; None: nothing ends it."""
    _THREAD.event = event


def stop_check() -> Callable[[], None]:
    """Return what raises Stopped once this thread's work is not wanted any more; threads that help it may call it.

    A feature calls it between pieces of some tenths of a second.
    """
    event: Event | None = getattr(_THREAD, "event", None)

    def check() -> None:
        if event is not None and event.is_set():
            raise Stopped

    return check


def stop_if_asked() -> None:
    """Raise Stopped once this thread's work is not wanted any more."""
    stop_check()()
