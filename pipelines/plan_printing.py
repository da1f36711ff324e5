"""Plans as tables: before the run, and beside what happened after it."""

from .plan_compared import compared_stages, compared_steps
from .plan_lines import Estimate
from .plan_result import Plan
from .printing import print_json, print_line, print_table
from .runs import RunRecord

_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def print_plan(plan: Plan, as_json: bool) -> None:
    """Print what a flow will take, and whether the disk has room for it."""
    if as_json:
        print_json(plan.json())
        return
    if plan.nothing_to_do:
        done = f": run {plan.run} has done all of it" if plan.run else ""
        print_line(f"plan      {plan.flow}: nothing to do{done}")
        return
    corpus = plan.corpus
    print_line(
        f"plan      {plan.flow}: {corpus.documents:,.0f} documents, {_size(corpus.bytes)} of text, "
        f"about {_count(corpus.tokens)} tokens; tried on {plan.sampled_documents:,.0f} of them in "
        f"{plan.planning_seconds:.0f} s"
    )
    print_table(
        ["step", "kind", "documents", "kept", "±", "tokens kept", "±"],
        [[s.name, s.kind, round(s.entered), round(s.documents.value), _error(s.documents), round(s.tokens.value),
          _error(s.tokens)] for s in plan.steps],
    )  # fmt: skip
    rows = [
        [s.stage, s.state if s.share in (0, 1) else f"{s.state}: {1 - s.share:.0%} there", round(s.documents) or None,
         _time(s.seconds), _size(s.bytes.value), _size(s.memory), s.device if s.device != "cpu" else ""]
        for s in plan.stages
    ]  # fmt: skip
    print_table(["stage", "is", "documents", "time", "disk", "memory", "device"], rows)
    print_line(
        f"in all    {_time(plan.seconds)}; {plan.cpu_hours:.2g} processor hours"
        + (f", {plan.gpu_hours:.2g} GPU hours" if plan.gpu_hours else "")
        + f"; memory {_size(plan.memory)}"
    )
    print_line(
        f"disk      {_size(plan.bytes.value)} ± {_size(plan.bytes.error)} more, {_size(plan.peak_bytes)} at the most "
        f"while it runs; {_size(plan.free_bytes)} are free"
    )
    for note in plan.notes:
        print_line(f"note      {note}")
    if not plan.enough_disk:
        print_line("warning   the disk of the lake is too small; make room, or name another folder under `lake:`")


def print_plan_beside_run(record: RunRecord) -> None:
    """Print what a plan said beside what a run did, where there was one."""
    if not record.plan:
        return
    print_table(
        ["stage", "planned s", "seconds", "planned disk", "disk"],
        [[row["stage"], row["planned_seconds"], row["seconds"], _size(row["planned_bytes"]), _size(row["bytes"])]
         for row in compared_stages(record)],
    )  # fmt: skip
    print_table(
        ["step", "planned kept", "±", "kept", "planned tokens", "±", "tokens kept"],
        [[row["step"], round(row["planned_documents"]), round(row["documents_error"]), row["documents"],
          round(row["planned_tokens"]), round(row["tokens_error"]), row["tokens"]] for row in compared_steps(record)],
    )  # fmt: skip


def _error(estimate: Estimate) -> int | None:
    return round(estimate.error) or None


def _size(n_bytes: float) -> str:
    for unit, size in _UNITS:
        if n_bytes >= size:
            return f"{n_bytes / size:,.3g} {unit}"
    return f"{n_bytes:,.0f} B" if n_bytes else ""


def _count(number: float) -> str:
    return f"{float(f'{number:.3g}'):,.0f}"


def _time(seconds: Estimate) -> str:
    """Return a time as people say it, with its error."""
    if not seconds.value:
        return ""
    unit, name = (3600, "h") if seconds.value >= 5400 else (60, "min") if seconds.value >= 90 else (1, "s")
    return f"{seconds.value / unit:.2g} ± {seconds.error / unit:.1g} {name}"
