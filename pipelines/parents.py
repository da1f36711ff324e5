"""What came before a run: the finished runs of its flow, newest first, and the fits of its steps.

Ids of runs sort by time, so nothing but the records of the newest ones is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..storage.lake import Lake
from .refit_entry import HISTORY
from .runs import RunRecord, read_runs

FEW = 4
"""Records that are read at first; then more, because in a store each would be a request of its own."""


@dataclass(frozen=True)
class Parent:
    """The fit of a step in an earlier run."""

    run: str
    state: str
    pool: str
    """Name of the documents that it was asked for."""


def finished_runs(lake: Lake, flow: str, before: str | None = None) -> Iterator[RunRecord]:
    """Yield the finished runs of a flow, newest first; those that began before the run `before`, if given."""
    paths = sorted((lake.root / "runs").glob("*/run.json"), reverse=True)
    paths, some = [p for p in paths if before is None or p.parent.name < before], FEW
    while paths:
        for record in read_runs(paths[:some]):
            if record.flow == flow and record.status == "done" and record.steps:
                yield record
        paths, some = paths[some:], 4 * some


def find_parent(lake: Lake, flow: str, step: str, kin: Mapping[str, str]) -> tuple[Parent | None, str]:
    """Return the newest fit of a step that differs in nothing but the pool, or None and why there is none."""
    why = "no run of this flow has finished before"
    for at, record in enumerate(finished_runs(lake, flow)):
        fit = _fit_of(record, step)
        if fit and fit["kin"] == kin:
            if (lake.state(fit["state"]) / "state.safetensors").exists():
                return Parent(record.run, fit["state"], fit["pool"]), ""
            return None, f"the state of run {record.run} is not in the lake any more"
        if at == 0:
            changed = [name for name, value in kin.items() if fit and fit["kin"].get(name) != value]
            why = f"the last run had other {' and '.join(changed)}" if changed else "the last run did not fit this step"
    return None, why


def states_before(lake: Lake, flow: str, steps: Sequence[Any]) -> dict[str, Any]:
    """Return the states that the newest finished run of a flow had, of the steps whose result depends on history."""
    if not any(getattr(step, "refit", None) in HISTORY for step in steps):
        return {}
    newest = next(finished_runs(lake, flow), None)
    return states_of(newest.steps if newest else (), steps)


def states_of(records: Sequence[Mapping[str, Any]], steps: Sequence[Any]) -> dict[str, Any]:
    """Return how the steps that depend on history were fitted, by the records of a run."""
    wanted = {step.name: step.refit for step in steps if getattr(step, "refit", None) in HISTORY}
    fits = {record["name"]: record.get("fit") for record in records}
    return {name: [refit, fit["state"] if (fit := fits.get(name)) else None] for name, refit in wanted.items()}


def _fit_of(record: RunRecord, step: str) -> dict[str, Any] | None:
    return next((s.get("fit") for s in record.steps if s["name"] == step), None)
