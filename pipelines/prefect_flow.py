"""The same flow under Prefect: one task a stage, with retries, and a table of the result as an artifact.

Prefect's own result cache stays off (the lake is the cache) and so does its telemetry. Importing Prefect costs seconds,
so this module is imported only where there is something to do.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Completed, Failed

from .config import FlowEntry
from .engine import may_pass
from .flows import curate
from .runs import RunRecord
from .work import Work

T = TypeVar("T")
SERVER_START_S = 120
"""Prefect's own 20 seconds are too few where other work keeps the processors busy."""
RETRIES = 2


def curate_with_prefect(work: Work, flow_name: str, entry: FlowEntry) -> None:
    """Run a flow as a Prefect flow run, on the server that the environment names or a temporary one."""

    def execute(name: str, function: Callable[[], T]) -> T:
        stage = task(
            name=name, task_run_name=name, retries=RETRIES, retry_delay_seconds=1, retry_condition_fn=_may_pass,
            persist_result=False, cache_policy=NO_CACHE,
        )  # fmt: skip
        return stage(function)()

    @flow(name=f"tamis {flow_name}", flow_run_name=work.log.record.run, persist_result=False, validate_parameters=False)
    def tamis_flow() -> State[None]:
        try:
            curate(replace(work, execute=execute), flow_name, entry)
        except Exception as error:  # it goes to the caller; as an exception here, Prefect would print its traceback
            failures.append(error)
            return Failed(message=str(error))
        publish_artifacts(work.log.record)
        return Completed(message=_message(work.log.record), name="Completed")

    failures: list[Exception] = []
    with temporary_server():
        tamis_flow(return_state=True)
    if failures:
        raise failures[0]


@contextmanager
def temporary_server() -> Iterator[None]:
    """Use the Prefect server that the settings name, or a temporary one that cannot outlive this process.

    Prefect stops its temporary server at a normal exit only. So a shell waits for the end of a pipe, which even `kill
    -9` of this process closes, and ends the server then.
    """
    if PREFECT_API_URL.value():
        yield
        return
    server = SubprocessASGIServer()
    server.start(timeout=SERVER_START_S)
    assert server.server_process is not None
    command = ["sh", "-c", 'cat > /dev/null; kill "$0" 2> /dev/null', str(server.server_process.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        try:
            with temporary_settings(
                {PREFECT_LOGGING_TO_API_ENABLED: False}
            ):  # nobody can read logs of a server that is gone
                yield
        finally:
            server.stop()
            watcher.kill()


def _may_pass(task: object, run: object, state: State[Any]) -> bool:
    """Ask `may_pass` of a failed task."""
    return may_pass(state.result(raise_on_failure=False))


def publish_artifacts(record: RunRecord) -> None:
    """Show the steps and what was written in Prefect's user interface."""
    rows = [{k: s[k] for k in ("name", "kind", "entered", "kept", "tokens_kept")} for s in record.steps]
    create_table_artifact(table=rows, key="tamis-steps", description=f"Steps of run {record.run}")
    notes = "\n".join(f"- {w}" for w in record.warnings) or "- none"
    create_markdown_artifact(markdown=f"Warnings of run {record.run}\n\n{notes}\n", key="tamis-warnings")
    alarms = "\n".join(f"- {a['name']}: step {a['step']}: {a['message']}" for a in record.alarms) or "- none"
    create_markdown_artifact(markdown=f"Alarms of run {record.run}\n\n{alarms}\n", key="tamis-alarms")


def _message(record: RunRecord) -> str:
    warnings = f", with {len(record.warnings)} warnings" if record.warnings else ""
    if not record.steps:
        return f"{len(record.models):,} models{warnings}"
    last = record.steps[-1]
    return f"{last['kept']:,} documents, {last['tokens_kept']:,} tokens{warnings}"
