"""`tamis serve`: the flows with a schedule, served until a signal ends it.

Everything is checked before a server is asked or started. What serves is Prefect's own runner: each run is a process of
its own, so a run that needs too much memory takes nobody along.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..storage.errors import ConfigError
from ..storage.fingerprint import fingerprint
from ..storage.lake import Lake
from ..storage.locks import held
from ..storage.plugins import nearest
from .flow_checks import check_flow
from .loading import Loaded, load_config
from .plugins import make_feature, make_tokens
from .served_flow import Say, Served


def serve(
    config: Path, flows: Sequence[str] = (), server: str | None = None, overrides: Sequence[str] = (),
    name: str | None = None, say: Say = print,
) -> None:  # fmt: skip
    """Serve the named flows, or all that have a schedule, until SIGTERM or Ctrl-C.

    `server` is the address of a Prefect server; without it the one that Prefect's settings name, else one that is
    started here and ends with us. Raises ConfigError before any work, and TamisError where no server answers.
    """
    served = served_flows(load_config(config, list(overrides)), config, flows, overrides, name)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")  # what happens is the log of this service
    if server is not None:
        os.environ["PREFECT_API_URL"] = api_url(server)
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    from .prefect_server import check_server, own_server

    home = PREFECT_HOME.value()
    with ExitStack() as stack:
        for one in served:
            stack.enter_context(_only_one(home, one))
        if found := PREFECT_API_URL.value():
            check_server(found)
        else:
            log = stack.enter_context(held(home / "tamis-server.log", _ONE_SERVER))
            found = f"{stack.enter_context(own_server(log))}/api"
        os.environ["PREFECT_API_URL"] = found  # for the runs
        stack.enter_context(temporary_settings({PREFECT_API_URL: found}))
        from .deployments import serve_until_stopped

        say(f"serving {len(served)} {'flow' if len(served) == 1 else 'flows'} at {found.removesuffix('/api')}")
        asyncio.run(serve_until_stopped(served, say))


_ONE_SERVER = (
    "another `tamis serve` has a Prefect server over the same data; serve all flows in one, or start a server for both "
    "(`prefect server start`) and name it with --server"
)


def served_flows(
    loaded: Loaded, config: Path, flows: Sequence[str], overrides: Sequence[str], name: str | None
) -> list[Served]:
    """Return what is to be served. Raises ConfigError where a flow has no schedule, or cannot be right."""
    known = loaded.config.flows
    for flow in flows:
        if flow not in known:
            raise ConfigError(f"no flow {flow!r}{nearest(flow, list(known))}")
        if known[flow].schedule is None:
            raise ConfigError(f'flows.{flow} has no schedule; give it one, such as `schedule: {{cron: "0 3 * * *"}}`')
    found = {flow: schedule for flow, entry in known.items() if (schedule := entry.schedule) is not None}
    if not found:
        raise ConfigError('no flow has a schedule; give one to a flow, such as `schedule: {cron: "0 3 * * *"}`')
    features = {alias: make_feature(alias, entry, loaded.root) for alias, entry in loaded.config.features.items()}
    make_tokens(loaded.config.tokenizer, loaded.root).identity()
    Lake.foreseen(loaded.lake)
    deployment = name or re.sub(r"[/%\"<>&]", "-", loaded.root.name) or "tamis"
    served = []
    for flow in dict.fromkeys(flows or found):
        check_flow(loaded, flow, features)
        served.append(
            Served(flow, found[flow], config.resolve(), loaded.lake.resolve(), tuple(overrides), deployment)
        )  # fmt: skip
    return served


def api_url(server: str) -> str:
    """Return the address of a server's API, from that of the API or of its pages."""
    address = server.rstrip("/")
    if not re.fullmatch(r"https?://\S+", address):
        raise ConfigError(f"--server {server!r}: expected an address such as http://127.0.0.1:4200")
    return address if address.endswith("/api") or "/api/" in address else f"{address}/api"


@contextmanager
def _only_one(home: Path, served: Served) -> Iterator[None]:
    lock = home / f"tamis-serve-{fingerprint([str(served.lake), served.flow])[:16]}.lock"
    with held(lock, f"another `tamis serve` serves the flow {served.flow} of this lake; end that one first"):
        yield
