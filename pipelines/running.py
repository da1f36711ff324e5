"""A run of a flow from its check to its record, whoever starts it: a command, Python or a schedule."""

from collections.abc import Callable

from .config import FlowEntry
from .flow_checks import check_flow
from .loading import Loaded
from .plan_store import stored_plan
from .plugins import make_feature
from .progress import Reporter
from .recorded import Run, begin, recorded
from .work import Work


def run_flow(
    loaded: Loaded, flow: str, execute: Callable[[Work, str, FlowEntry], None], workers: int | None = None,
    reporter: Reporter | None = None,
) -> Run:  # fmt: skip
    """Check a flow, and have `execute` do what it says; the run is recorded.

    Raises ConfigError before any work where the flow cannot be right, and whatever `execute` raises.
    """
    features = {alias: make_feature(alias, entry, loaded.root) for alias, entry in loaded.config.features.items()}
    entry = check_flow(loaded, flow, features)
    work = begin(loaded, flow, features, entry.engine.with_workers(workers), reporter)

    def body() -> None:
        work.log.record.plan = stored_plan(work, flow, entry)
        execute(work, flow, entry)

    return recorded(work, body)
