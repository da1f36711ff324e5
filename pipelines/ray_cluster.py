"""The connection to a Ray cluster: one that runs, or one for this process alone.

A cluster of our own listens on this machine's loopback alone, shows no dashboard, reports nothing to anybody, keeps its
files in a folder of its own, and ends with this process: with `close`, or by the kernel where that is killed.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..storage.errors import ConfigError
from ..storage.processes import HOST, Process, children, this_process
from .engine import processors

LOCAL = "local"
OBJECTS_BYTES = 256 << 20
"""Of the object store of a cluster of our own, which holds functions and no documents."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do by default, without the warning that it will
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # it would print on stdout, among our data, that a worker died
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""On Linux too, it makes all of Ray listen on 127.0.0.1 alone."""
_PREFIX = "tamis-ray-"
_LONGEST = 24
"""Characters of a folder in which there is room for the names of Ray's sockets, which may have 107."""


def prepare(address: str) -> None:
    """Set what Ray reads when it is imported. Raises ConfigError where it is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("engine: `use: ray` needs Ray; pip install 'tamis[ray]', on all machines of the cluster")
    for name, value in (_QUIET | (_LOOPBACK if address == LOCAL else {})).items():
        os.environ.setdefault(name, value)


def connect(address: str) -> Callable[[], None]:
    """Connect this process with a cluster, or start one; return what undoes that.

    A connection that is there already is used, and stays. Raises ConfigError where no cluster answers.
    """
    import ray

    if ray.is_initialized():
        return lambda: None
    with _own_signals():
        return _start() if address == LOCAL else _join(address)


def _join(address: str) -> Callable[[], None]:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"engine: no Ray cluster at {address!r} ({first_line}); begin one with `ray start --head`, or set "
            f"`address: {LOCAL}`"
        ) from error
    return lambda: ray.shutdown()


def _start() -> Callable[[], None]:
    import ray

    base = Path(tempfile.gettempdir())
    base = base if len(str(base)) <= _LONGEST else Path("/tmp")
    _remove_stale(base)
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base)
    with ExitStack() as started:
        started.callback(shutil.rmtree, folder, ignore_errors=True)
        Path(folder, f"{this_process().name}~owner").touch()
        started.callback(ray.shutdown)
        ray.init(
            address=LOCAL, num_cpus=processors(), object_store_memory=OBJECTS_BYTES, include_dashboard=False,
            log_to_driver=False, logging_level="ERROR", _temp_dir=folder,
        )  # fmt: skip
        started.callback(_watched())
        return started.pop_all().close


def _watched() -> Callable[[], None]:
    """Let what Ray's own end would leave behind for a minute end with this process; return what ends the watch.

    The kernel ends Ray's processes with this one, but for the agents that the raylet began. So a shell waits for the
    end of a pipe, which even `kill -9` of this process closes, and ends them then.
    """
    agents = [str(agent) for raylet in children(os.getpid(), "raylet") for agent in children(raylet, "ray::")]
    command = ["sh", "-c", 'cat > /dev/null; kill -9 "$@" 2> /dev/null', "sh", *agents]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def end() -> None:
        watcher.kill()
        watcher.communicate()

    return end


def _remove_stale(base: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in base.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).split("-")[0]
        if not pid.isdigit() or folder.stat().st_uid != os.getuid():
            continue
        named = (Process.named(path.name) for path in folder.glob("*~owner"))
        owner = next((found for found in named if found), Process(HOST, int(pid)))  # one of an older tamis
        if owner.runs() is False:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what SIGTERM does in this process: Ray puts a handler of its own there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
