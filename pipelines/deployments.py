"""The deployments of served flows: made known to Prefect, cleared of what an earlier server left, and run.

One run of a flow at a time: a run that is due while one goes on is cancelled, and stands so in Prefect's history;
nothing queues. What was due while nothing served is made up by one run, or skipped, as the schedule says.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    FlowRun,
    State,
    StateType,
)
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.schedules import Cron, Interval
from prefect.schedules import Schedule as PrefectSchedule
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.states import Cancelled, Crashed
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.annotations import freeze

from .. import __version__
from ..storage.errors import ConfigError
from ..storage.lake import Lake
from .runs import RunRecord, load_runs
from .schedule_entry import ANCHOR, Schedule
from .scheduled_flow import MADE_UP, SERVED_BY, scheduled
from .served_flow import Say, Served

QUERY_S = 2.0
"""How often Prefect is asked for what is due; a run begins so late, and some seconds for its process."""
_GOING_ON = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


async def serve_until_stopped(served: Sequence[Served], say: Say) -> None:
    """Serve until SIGTERM or SIGINT; runs that go on end in order, and their states say that they were interrupted."""
    os.environ[SERVED_BY] = str(os.getpid())
    stopped = _stopping()
    # No limit of processes: a due run that finds no free one would queue, and here it is refused by its deployment. And
    # nothing is fetched before it is due: it would be refused for the run before it, which may end until then.
    runner = Runner(name="tamis", limit=None, query_seconds=QUERY_S, prefetch_seconds=0)
    async with get_client() as client:
        ids = []
        for one in served:
            await _refuse_foreign(client, one)
            ids.append(await runner.aadd_deployment(await deployment(one)))
            await _clear(client, ids[-1])
            await _make_up(client, ids[-1], one, say)
            say(f"{one.flow}: {one.schedule.text}, next {_local(await next_due(one.schedule, datetime.now(UTC)))}")
        serving = asyncio.create_task(runner.start())
        while not (runner.started or serving.done()):
            await asyncio.sleep(0.05)
        _stopping(stopped)  # again: the runner has a handler of its own, which leaves the loop at once
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            serving.result()
            return
        say("ending: schedules are paused until the next `tamis serve`, and what is finished of a run is kept")
        broken = [run for deployment_id in ids for run in await _runs(client, deployment_id, _GOING_ON)]
        await runner.astop()
        await serving
        for run in broken:
            await _set(client, run, Cancelled(name="Interrupted", message="the next run goes on from what is finished"))


async def deployment(served: Served) -> RunnerDeployment:
    """Return the deployment of a flow."""
    found = await scheduled.with_options(name=f"tamis {served.flow}").ato_deployment(
        name=served.deployment, schedule=_prefect_schedule(served.schedule), paused=False,
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        description=f"The flow `{served.flow}` of `{served.config}`, {served.schedule.text}. Its runs lie in the lake "
        f"`{served.lake}`. One at a time: what is due while one goes on is cancelled.",
        tags=["tamis"], version=__version__, entrypoint_type=EntrypointType.MODULE_PATH,
    )  # fmt: skip
    # Only now: what is frozen is marked so in the schema of the form, which a new deployment does not have yet.
    found.parameters = {
        "flow": freeze(served.flow), "config": freeze(str(served.config)), "set": list(served.overrides),
        "workers": None,
    }  # fmt: skip
    return found


def _prefect_schedule(schedule: Schedule) -> PrefectSchedule:
    if schedule.every is not None:
        return Interval(schedule.every, anchor_date=ANCHOR, timezone="UTC")
    assert schedule.cron is not None
    return Cron(schedule.cron, timezone=schedule.timezone or "UTC")


async def next_due(schedule: Schedule, after: datetime) -> datetime:
    """Return when a flow is due for the first time after a moment, as Prefect counts."""
    model: Any
    if schedule.every is not None:
        model = IntervalSchedule(interval=schedule.every, anchor_date=ANCHOR, timezone="UTC")
    else:
        model = CronSchedule(cron=schedule.cron, timezone=schedule.timezone or "UTC")
    dates: list[datetime] = await model.get_dates(n=2, start=after)
    return next(date for date in dates if date > after)


async def missed(schedule: Schedule, last: RunRecord | None, now: datetime) -> str | None:
    """Say what one run has to make up for; None: nothing. `last` is the newest run of the flow.

    A flow that never ran has missed nothing. A run sees all files that there are, so whatever was due since the last
    one began is one thing to make up for.
    """
    if schedule.missed == "skip" or last is None:
        return None
    if last.status == "interrupted" and last.prefect.get("deployment"):
        return f"run {last.run} was interrupted"
    due = await next_due(schedule, datetime.fromisoformat(last.started))
    return f"it was due at {_local(due)}" if due <= now else None


async def _make_up(client: PrefectClient, deployment_id: UUID, served: Served, say: Say) -> None:
    lake = Lake(served.lake)
    runs = [r for r in (load_runs(lake) if lake.is_there else []) if r.flow == served.flow]
    if why := await missed(served.schedule, runs[-1] if runs else None, datetime.now(UTC)):
        await client.create_flow_run_from_deployment(deployment_id, tags=["tamis", MADE_UP])
        say(f"{served.flow}: {why}, and is run now")


async def _refuse_foreign(client: PrefectClient, served: Served) -> None:
    """Raise ConfigError where a deployment of this name runs another configuration."""
    name = f"tamis {served.flow}/{served.deployment}"
    try:
        there = (await client.read_deployment_by_name(name)).parameters.get("config")
    except ObjectNotFound:
        return
    if there != str(served.config):
        raise ConfigError(f"the deployment {name!r} is that of {there}; give this one another name with --name")


async def _clear(client: PrefectClient, deployment_id: UUID) -> None:
    """End what an earlier server left: runs whose processes are gone, and those that were due and never began."""
    for run in await _runs(client, deployment_id, _GOING_ON):
        await _set(client, run, Crashed(message="its process is gone; the next run goes on from what is finished"))
    now = datetime.now(UTC)
    for run in await _runs(client, deployment_id, (StateType.SCHEDULED,)):
        due = run.next_scheduled_start_time
        if due is not None and due <= now and (run.auto_scheduled or MADE_UP in run.tags):
            await _set(client, run, Cancelled(name="Missed", message="nothing served when it was due"))


async def _runs(client: PrefectClient, deployment_id: UUID, types: Sequence[StateType]) -> list[FlowRun]:
    state = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))))
    of = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    found: list[FlowRun] = []
    while more := await client.read_flow_runs(flow_run_filter=state, deployment_filter=of, offset=len(found)):
        found += more
    return found


async def _set(client: PrefectClient, run: FlowRun, state: State[Any]) -> None:
    await client.set_flow_run_state(run.id, state, force=True)


def _stopping(event: asyncio.Event | None = None) -> asyncio.Event:
    """Have SIGTERM and SIGINT set an event."""
    event = event or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


def _local(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
