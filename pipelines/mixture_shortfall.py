"""What a mixture could not do as it was asked: each sentence is a warning, and makes the run end with exit code 3."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .alarms import Alarm
from .mixture_entries import Mixture
from .runs import RunRecord

MET_FROM = 0.95
"""A share counts as met from this part of what was asked on: the first document that does not fit ends it."""
LISTED = 10
"""Shares that are named; of a thousand sources nobody reads a thousand sentences."""


def inherited(runs: Mapping[str, RunRecord]) -> Iterator[str]:
    """Yield what the flows of a mixture warned of."""
    for flow, run in runs.items():
        yield from (f"flow {flow}: {warning}" for warning in run.warnings)


def inherited_alarms(runs: Mapping[str, RunRecord]) -> Iterator[Alarm]:
    """Yield the alarms of the flows of a mixture, by the limits that those runs had; a step is `flow/step` here."""
    for flow, run in runs.items():
        yield from (Alarm(**{**alarm, "step": f"{flow}/{alarm['step']}"}) for alarm in run.alarms)


def unmet(entry: Mixture, draw: Mapping[str, Any]) -> Iterator[str]:
    """Yield what could not be met, by the manifest of a draw."""
    for origin in draw["origins"]:
        if origin["absent"]:
            yield f"part {origin['part']}: no document has the source {', '.join(map(repr, origin['absent']))}"
        if not origin["documents"]:
            lost = f", all {origin['lost']:,} belong to parts before it" if origin["lost"] else ""
            yield f"part {origin['part']}: it has no documents{lost}"
    without = [origin["part"] for origin in draw["origins"] if not origin["documents"]]
    found = [why for share in draw["parts"] if (why := _why_short(entry, share, without))]
    yield from found[:LISTED]
    if len(found) > LISTED:
        yield f"and {len(found) - LISTED:,} shares more; `tamis sql 'from mixture_parts'` lists all"
    if _moves(entry) and draw["asked"] < draw["budget"]:
        yield (
            f"the mixture has {draw['asked']:,} of {draw['budget']:,} tokens: all of its parts are at their most epochs"
        )


def _moves(entry: Mixture) -> bool:
    """Say whether what a part cannot fill goes to the others."""
    return entry.redistribute or not entry.weights.given


def _why_short(entry: Mixture, share: Mapping[str, Any], without: Collection[str]) -> str | None:
    """Say why a share has clearly less than it should have, or return None."""
    if not share["available"] and share["part"] in without:
        return None  # said of the whole part
    name = share["part"] if share["source"] is None else f"{share['part']}, source {share['source']}"
    if not _moves(entry) and share["asked"] < share["wanted"]:
        times = f"{share['max_epochs']:g} times" if share["max_epochs"] != 1 else "once"
        return (
            f"part {name}: {share['asked']:,} of {share['wanted']:,} tokens: it has {share['available']:,}, "
            f"which may stand there {times}; `redistribute: true` gives the rest to other parts"
        )
    if share["achieved"] < MET_FROM * share["asked"]:
        return (
            f"part {name}: {share['achieved']:,} of {share['asked']:,} tokens: the next document in order is larger "
            "than what is left, and none is skipped"
        )
    return None
