"""The same flow under Prefect: one task a stage, with retries, and a table of the result as an artifact.

Prefect's own result cache stays off (the lake is the cache) and so does its telemetry. Importing Prefect costs seconds,
so this module is imported only where there is something to do.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Completed, Failed

from .config import FlowEntry
from .engine import may_pass
from .flows import curate
from .prefect_server import SERVER_START_S, ended_with_us
from .run_artifacts import ArtifactReporter, emit_alarms, publish_artifacts
from .runs import RunRecord
from .work import Work

T = TypeVar("T")
RETRIES = 2


def curate_with_prefect(work: Work, flow_name: str, entry: FlowEntry) -> None:
    """Run a flow as a Prefect flow run, on the server that the environment names or a temporary one."""

    @flow(name=f"tamis {flow_name}", flow_run_name=work.log.record.run, persist_result=False, validate_parameters=False)
    def tamis_flow() -> State[None]:
        work.log.record.prefect = {"flow_run": str(flow_run.id), "scheduled": False}
        try:
            curate(in_tasks(work), flow_name, entry)
        except Exception as error:  # it goes to the caller; as an exception here, Prefect would print its traceback
            failures.append(error)
            return Failed(message=str(error))
        publish_artifacts(work.lake, work.log.record)
        emit_alarms(work.log.record)
        return completed(work.log.record)

    failures: list[Exception] = []
    with temporary_server():
        tamis_flow(return_state=True)
    if failures:
        raise failures[0]


def in_tasks(work: Work) -> Work:
    """Return the work with each stage as a task of the flow run that goes on."""

    def execute(name: str, function: Callable[[], T]) -> T:
        stage = task(
            name=name, task_run_name=name, retries=RETRIES, retry_delay_seconds=1, retry_condition_fn=_may_pass,
            persist_result=False, cache_policy=NO_CACHE,
        )  # fmt: skip
        return stage(function)()

    return replace(work, execute=execute, reporter=ArtifactReporter(work.reporter.quiet, work.reporter.console))


def completed(record: RunRecord, before: str = "") -> State[None]:
    """Return the state of a flow run that is done."""
    return Completed(message=before + _message(record), name="Completed")


@contextmanager
def temporary_server() -> Iterator[None]:
    """Use the Prefect server that the settings name, or a temporary one that cannot outlive this process."""
    if PREFECT_API_URL.value():
        yield
        return
    from prefect.server.api import server as of_prefect  # seconds, and a served flow has a server

    with ExitStack() as started:

        def begin(args: list[str], **options: Any) -> Any:
            return started.enter_context(ended_with_us(args, **options))

        class Watched(of_prefect.SubprocessASGIServer):
            """Ends with us from its first moment: it starts for seconds, in which we may be killed."""

            def _run_uvicorn_command(self) -> Any:
                with patch.object(of_prefect, "subprocess", SimpleNamespace(Popen=begin)):
                    return super()._run_uvicorn_command()

        server = Watched()
        try:
            server.start(timeout=SERVER_START_S)
            with temporary_settings(
                {PREFECT_LOGGING_TO_API_ENABLED: False}
            ):  # nobody can read logs of a server that is gone
                yield
        finally:
            server.stop()


def _may_pass(task: object, run: object, state: State[Any]) -> bool:
    """Ask `may_pass` of a failed task."""
    return may_pass(state.result(raise_on_failure=False))


def _message(record: RunRecord) -> str:
    n = len(record.warnings)
    warnings = f", with {n} warning{'s' if n > 1 else ''}: {'; '.join(record.warnings)}" if n else ""
    if not record.steps:
        return f"{len(record.models):,} models{warnings}"
    last = record.steps[-1]
    return f"{last['kept']:,} documents, {last['tokens_kept']:,} tokens{warnings}"
