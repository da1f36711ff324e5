"""How long computations end early: threads cannot be stopped from outside, so they look from time to time."""

from threading import Event

STOPPING = Event()
"""Set while a run is being interrupted or has failed."""


class Stopped(Exception):
    """A computation ended because the run did."""


def stop_if_asked() -> None:
    """Raise Stopped where the run has ended meanwhile; a feature calls it between pieces of some tenths of a second."""
    if STOPPING.is_set():
        raise Stopped
