"""The wait for Numba's compiler is announced, once, and only where there is one."""

import importlib.util
import subprocess
import sys
import threading

import pytest
from rich.console import Console
from small_flow import make_case
from tamis.pipelines.compiling import COMPILING, compiling_announced
from tamis.pipelines.progress import Reporter

KERNEL = """
from numba import njit


@njit(cache=True)
def inner(x):
    return x + 1


@njit(cache=True)
def outer(x):
    return inner(x) * 2
"""


@pytest.fixture
def load(tmp_path):
    """Load the kernels as a fresh process would: from source, or from the cache beside it."""
    path = tmp_path / "kernels_of_a_test.py"
    path.write_text(KERNEL)

    def loaded():
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return loaded


def said_during(work, capsys, quiet=False):
    with compiling_announced(Reporter(quiet=quiet, console=Console(stderr=True, width=200))):
        work()
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_many_compilations_are_announced_once_and_a_cache_not_at_all(load, capsys):
    first = load()
    assert said_during(lambda: (first.outer(1), first.outer(1.5)), capsys) == [COMPILING]
    again = load()
    assert said_during(lambda: (again.outer(1), again.outer(1.5)), capsys) == []
    assert again.outer.stats.cache_hits


def test_a_workers_thread_announces_too(load, capsys):
    def work():
        kernels = load()
        threads = [threading.Thread(target=kernels.outer, args=(x,)) for x in (1, 1.5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert said_during(work, capsys) == [COMPILING]


def test_who_is_quiet_hears_nothing(load, capsys):
    assert said_during(lambda: load().outer(1), capsys, quiet=True) == []


def test_nothing_is_said_outside(load, capsys):
    said_during(lambda: None, capsys)
    load().outer(1)
    assert capsys.readouterr().err == ""


def test_where_compiled_kernels_can_be_kept_nowhere_the_message_says_what_to_do(tmp_path):
    """As where both the installation and the home folder are read-only, which root cannot be shown."""
    code = "import sys, numba.core.caching as caching; caching.CacheImpl._locator_classes = []\n"
    code += "from tamis.pipelines import cli; cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "run", "small", "--no-prefect", "-c", str(make_case(tmp_path))]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.startswith("tamis: ") and "NUMBA_CACHE_DIR=/path" in ended.stderr
