"""A Prefect server that is started here and ends with us, whatever ends us.

What it remembers lies in PREFECT_HOME, as for every Prefect server of this user, so the history of runs stays. It
listens on this machine alone, and neither it nor its pages call out.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import httpx

from ..storage.errors import TamisError

SERVER_START_S = 120
"""Prefect's own 20 seconds are too few where other work keeps the processors busy."""
SERVER_STOP_S = 10
USUAL_PORT = 4200
"""Prefect's own: the address stays the same from one start to the next, where nobody else has it."""
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
}


@contextmanager
def own_server(log: IO[bytes]) -> Iterator[str]:
    """Start a server with its user interface; yield its address. Raises TamisError where it does not start."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, **QUIET, "PREFECT_SERVER_UI_API_URL": f"{address}/api"}
    # A session of its own: Ctrl-C in a terminal reaches all processes of ours, and it is needed to the very end.
    with ended_with_us(command, env=environment, stdout=log, stderr=log, start_new_session=True) as server:
        try:
            _wait(server, address, log.name)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(SERVER_STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


_GUARD = 'exec 3<&0 < /dev/null; (read -r _ <&3 || kill $$ 2> /dev/null) & exec "$@" 3<&-'
"""Becomes the command; a shell beside it waits for a line, and where the pipe ends without one it ends the command."""


@contextmanager
def ended_with_us(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that ends when this one does, even by `kill -9`, and even while it starts.

    On leaving it has ended, or nobody waits for its end any more.
    """
    process = subprocess.Popen(["sh", "-c", _GUARD, "sh", *command], stdin=subprocess.PIPE, **options)
    assert process.stdin is not None  # it is a pipe
    try:
        yield process
    finally:
        with suppress(OSError):  # nobody waits any more
            process.stdin.write(b"\n")
            process.stdin.close()


def check_server(url: str) -> None:
    """Raise TamisError where no Prefect server answers."""
    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise TamisError(
            f"no Prefect server answers at {url} ({error}); start one with `prefect server start`, "
            "or leave out --server and have one started"
        ) from None


def _free_port() -> int:
    for port in (USUAL_PORT, 0):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(tried.getsockname()[1])
    raise TamisError("no port of 127.0.0.1 is free for a Prefect server")


def _wait(server: subprocess.Popen[bytes], address: str, log: str) -> None:
    until = time.monotonic() + SERVER_START_S
    while time.monotonic() < until:
        if server.poll() is not None:
            raise TamisError(
                f"the Prefect server ended with exit code {server.returncode} before it answered; see {log}"
            )
        try:
            if httpx.get(f"{address}/api/health", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise TamisError(f"the Prefect server at {address} does not answer after {SERVER_START_S} s; see {log}")
