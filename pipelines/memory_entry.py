"""`memory:` of `flows.yaml`: what is written there, and the budget of a run that it comes to."""

from typing import Any

from ..storage.errors import ConfigError
from ..storage.memory import LEAST_ROOM, MB, Budget
from ..storage.memory_limits import give_back, keep_little, memory_there, peak_resident
from ..storage.usage import resident_bytes
from .engine import processors
from .progress import Reporter
from .runs import RunRecord

DEFAULT = 0.75


def planned(memory: int | float) -> Budget:
    """Return what so many bytes, or such a share of what is there, leave beside what this process has by now."""
    give_back()
    return Budget(int(memory_there() * memory) if isinstance(memory, float) else memory, resident_bytes())


def budget_of(memory: int | float) -> Budget:
    """Return what is planned with. Raises ConfigError where it is not enough for one worker."""
    found = planned(memory)
    if not found.is_enough:
        limit, has, one = found.limit // MB, found.has // MB, LEAST_ROOM // MB
        share = f"{memory:.0%} of {memory_there() // MB:,}MB, which is " if isinstance(memory, float) else ""
        size = f"{limit:,}MB" if limit else f"{found.limit:,} bytes (a share has a %, a size MB or GB)"
        raise ConfigError(
            f"memory: {share}{size} is not enough: this process has {has:,}MB before it reads anything, and one "
            f"worker takes {one:,}MB; expected at least {has + one + 1:,}MB"
        )
    return found


def workers_within(memory: Budget, asked: int | None, reporter: Reporter | None) -> int:
    """Return how many threads a run has, by default one a processor, and say so where memory has room for fewer.

    So it does where `memory:` allows more than the machine has.
    """
    wanted = asked or processors()
    found = memory.workers(wanted)
    if reporter and memory.limit > (there := memory_there()):
        reporter.say(f"memory: {memory.limit // MB:,}MB is more than the {there // MB:,}MB that there is here")
    if found < wanted and reporter:
        reporter.say(f"memory: there is room for {found} of {wanted} workers")
    if memory.is_tight(found):
        keep_little(found)
    return found


def noted(memory: Budget, workers: int) -> dict[str, Any]:
    """Return what a run's record says of it."""
    return {"limit": memory.limit, "has": memory.has, "workers": workers, "peak_before": peak_resident()}


def tell_of_peak(record: RunRecord, reporter: Reporter) -> None:
    """Note the most that the process had, and say so where the run needed more than it was to have."""
    record.memory["peak"] = peak = peak_resident()
    if peak > (limit := record.memory["limit"]) >= record.memory["peak_before"]:
        reporter.say(f"memory: the run had {peak // MB:,}MB, more than the {limit // MB:,}MB that `memory:` allows")
