"""What every benchmark here shares: whole processes measured one after the other, and a table of what came out.

Product and peer alternate within one run, because the machine is shared and its speed drifts; the figure of each is the
median over the rounds, and the ratio is the median of the rounds' own ratios. CPU seconds count all processes that a
command started; peak memory is the largest sum of the proportional set sizes of its process tree, sampled, and at least
the largest resident set of any one process of it. That is the kernel's VmHWM: `ru_maxrss` is never less than what the
process that called had in memory when it started the command.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
WORK = REPOSITORY / "build" / "benchmarks"
"""Results, inputs and the peers' environments: ignored by git, kept between runs."""
_SAMPLE_S = 0.05


@dataclass(frozen=True)
class Usage:
    """What one process tree took."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    largest_mb: float
    """The largest resident set of one process of it."""
    resident_mb: float
    """The largest sum of resident sets, as `top` shows them: what processes share counts once for each."""


def measure(command, **options):
    """Run a command to its end; raises CalledProcessError. `options` are those of `subprocess.Popen`."""
    begin = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], **options)
    peak, done = [0.0, 0.0, 0.0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begin
    done.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Usage(wall, usage.ru_utime + usage.ru_stime, max(peak[:2]), peak[1], max(peak[1:]))


def alternate(commands, rounds, **options):
    """Measure named commands in turn, `rounds` times each: {name: [Usage, ...]}."""
    found = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(measure(command, **options))
    return found


def median(usages):
    """Return the median of each figure."""
    return Usage(*(statistics.median(figures) for figures in zip(*(asdict(u).values() for u in usages), strict=True)))


def ratio(peer, product):
    """Return the median over the rounds of the peer's figure over the product's: how many times faster it is."""
    return statistics.median(p / q for p, q in zip(peer, product, strict=True))


class Worker:
    """A process of a script that computes slices when asked, by `by_slices`: so that several can take turns."""

    def __init__(self, script, *arguments):
        command = [sys.executable, str(script), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._answer() == "ready"

    def seconds(self, start, stop):
        """Compute a slice; return how long that took, and the CPU seconds of all its threads."""
        print(start, stop, file=self.process.stdin, flush=True)
        return tuple(map(float, self._answer().split()))

    def peak_mb(self):
        """End the process; return its peak memory."""
        self.process.stdin.close()
        found = float(self._answer())
        self.process.wait()
        return found

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with {self.process.wait()}")
        return line.strip()


def by_slices(compute, path, peak=lambda: _mb("/proc/self/status", "VmHWM:")):
    """Be a Worker: `compute` the slices that stdin asks for, and keep what it returned as one array at its end."""
    found = []
    print("ready", flush=True)
    for line in sys.stdin:
        start, stop = map(int, line.split())
        wall, cpu = time.perf_counter(), time.process_time()
        found.append(compute(start, stop))
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
    np.save(path, np.concatenate(found))
    print(peak(), flush=True)


def peer_python(name, *requirements):
    """Return the interpreter of an environment that has only a peer; it is made once."""
    python = WORK / "peers" / name / "bin" / "python"
    ready = WORK / "peers" / name / ".ready"
    if not ready.exists():
        print(f"making an environment for {name}: once", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(python.parents[1])], check=True)
        constraints = ["-c", str(REPOSITORY / "constraints.txt")] if "torch" in requirements else []
        subprocess.run([python, "-m", "pip", "install", "-q", *constraints, *requirements], check=True)
        ready.touch()
    return python


def machine():
    """Name the machine."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cpu or platform.processor()}, {cores} cores, {gigabytes:.0f} GiB, Python {platform.python_version()}"


def report(name, rows, **more):
    """Write rows (dictionaries with the same keys) as NAME.json and NAME.md in the work folder, and print the table."""
    WORK.mkdir(parents=True, exist_ok=True)
    found = {"benchmark": name, "machine": machine(), "rows": rows, **more}
    (WORK / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    table = markdown(rows)
    (WORK / f"{name}.md").write_text(f"{table}\n{found['machine']}\n")
    print(f"\n{name} ({found['machine']})\n\n{table}", flush=True)


def markdown(rows):
    """Return rows as a Markdown table, numbers to the right."""
    names = list(rows[0])
    right = [all(isinstance(row[n], int | float) or row[n] is None for row in rows) for n in names]
    cells = [[_cell(row[n]) for n in names] for row in rows]
    lines = [names, ["---:" if r else "---" for r in right], *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value):
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _watch(pid, peak, done):
    while True:
        tree = _tree(pid)
        peak[0] = max(peak[0], sum(_mb(f"/proc/{p}/smaps_rollup", "Pss:") for p in tree))
        peak[1] = max(peak[1], *(_mb(f"/proc/{p}/status", "VmHWM:") for p in tree))
        peak[2] = max(peak[2], sum(_mb(f"/proc/{p}/status", "VmRSS:") for p in tree))
        if done.wait(_SAMPLE_S):
            return


def _tree(pid):
    pids, at = [pid], 0
    while at < len(pids):
        with suppress(OSError):  # it may end meanwhile
            for children in Path(f"/proc/{pids[at]}/task").glob("*/children"):
                pids += [int(p) for p in " ".join(_lines(children)).split()]
        at += 1
    return pids


def _mb(path, name):
    return next((int(line.split()[1]) / 1024 for line in _lines(path) if line.startswith(name)), 0.0)


def _lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
