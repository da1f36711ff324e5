"""The flow that a served deployment runs, in a process of its own that Prefect starts for each run.

It is an ordinary run: `run_flow` does the work and records it. What is added is that Prefect's flow run bears the run's
id, and that the process ends with `tamis serve`, so that nobody is left who works on a lake unseen.
"""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated, Any

from prefect import flow as prefect_flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Failed
from pydantic import Field

from ..storage.errors import TamisError
from .config import FlowEntry
from .flows import curate, finished_run
from .loading import load_config
from .prefect_flow import completed, in_tasks
from .progress import Reporter
from .recorded import Terminated, queries_interruptible
from .run_artifacts import emit_alarms, publish_artifacts
from .running import run_flow
from .runs import RunRecord
from .work import Work

ENTRYPOINT = f"{__name__}.scheduled"
SERVED_BY = "TAMIS_SERVED_BY"
"""The process that serves, in the environment of the runs that it starts."""
MADE_UP = "made-up"
"""The tag of a run that makes up for what was missed."""
SECONDS_TO_END = 20.0
"""How long a run may take to end in order when `tamis serve` is gone: what is being computed ends first."""


@prefect_flow(name="tamis", persist_result=False)
def scheduled(
    flow: str, config: str, set: list[str], workers: Annotated[int | None, Field(ge=1)] = None
) -> State[Any]:  # fmt: skip
    """Run a flow of flows.yaml.

    Args:
        flow: The flow; another one has a deployment of its own.
        config: Its configuration, on the machine that serves.
        set: Keys that are other for this run, each "dotted.key=value": "flows.web.steps.best.cut.budget.tokens=1B".
        workers: Threads; empty: what the flow says, or the processors.

    """  # as Google writes it: Prefect reads it and shows it beside the fields of its form
    end_with(int(os.environ.get(SERVED_BY, os.getppid())))
    served = _Served()
    try:
        loaded = load_config(Path(config), set)
        record = run_flow(loaded, flow, served.execute, workers, Reporter()).record
    except Terminated as ended:
        raise TerminationSignal(signal.SIGTERM) from ended  # Prefect knows whether it was cancelled or is crashed
    except Exception as error:  # as an exception Prefect would print its traceback
        served.publish()
        shown = str(error) if isinstance(error, TamisError) else f"{type(error).__name__}: {error}"
        return Failed(message=f"{shown}{served.run}")
    served.publish()
    same = "" if served.same_as is None else f"nothing new since run {served.same_as}: "
    return completed(record, same)


class _Served:
    """What a flow run knows of the run that it is."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self.same_as: str | None = None

    def execute(self, work: Work, name: str, entry: FlowEntry) -> None:
        """Do what the flow says, under the run's id."""
        self._work = work
        _introduce(work.log.record)
        work.log.publish()
        try:
            with queries_interruptible(Terminated):
                self.same_as = finished_run(work, name, entry)
                curate(work if self.same_as else in_tasks(work), name, entry)
        except TerminationSignal as ended:
            raise Terminated from ended

    def publish(self) -> None:
        """Show what it did."""
        if self._work is not None:
            publish_artifacts(self._work.lake, self._work.log.record)
            if self.same_as is None:  # else they were told
                emit_alarms(self._work.log.record)

    @property
    def run(self) -> str:
        """The run's id in brackets, where it came so far."""
        return "" if self._work is None else f" [run {self._work.log.record.run}]"


def _introduce(record: RunRecord) -> None:
    """Give the flow run the run's id as its name, and note in the run which flow run it is."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    found = context.flow_run
    due = found.expected_start_time
    record.prefect = {
        "flow_run": str(found.id), "deployment": str(found.deployment_id),
        "scheduled": bool(found.auto_scheduled) or MADE_UP in found.tags, "made_up": MADE_UP in found.tags,
        "due": due.isoformat() if due else None,
    }  # fmt: skip
    with get_client(sync_client=True) as client:
        client.update_flow_run(found.id, name=record.run)


def end_with(parent: int) -> None:
    """End this process when its parent ends: first as SIGTERM does, then at once."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_TO_END)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="tamis-parent", daemon=True).start()
