"""Runs of `every_stage` that are killed, each in a process of its own, forked from one that is warm.

The warm process has imported everything, loaded the kernels and run the whole case once, so that a kill costs what the
run had done and no start of Python. It is a process of its own, with no thread but those of libraries that survive a
fork: `Warm` talks with it in lines of JSON.
"""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from functools import partial
from pathlib import Path

import tamis
from every_stage import MIXTURE, results, run_all, write_case
from tamis.pipelines.cleaning import MIXTURE as PINNED
from tamis.pipelines.cleaning import clean
from tamis.pipelines.keep_entry import Keep
from tamis.storage.errors import LakeError
from tamis.storage.lake import Lake
from tamis.storage.verify import verify

UNBROKEN = "unbroken"
NOTHING_KEPT = Keep(runs=1, days=0, hours=0)
HANGS_S = 300
TOKENIZER = "tokenizer.json"
"""Of a model: a run that finds the model trained has not asked for it, and nobody will."""
BEFORE, AFTER = "before", "after"


class Warm:
    """A warm process that runs the case in a folder."""

    def __init__(self, folder):
        write_case(folder)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, __file__, str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        root = Path(tamis.__file__).resolve().parents[1]
        self._process = subprocess.Popen(command, cwd=root, env=environment, **pipes)
        self.folder = folder
        self.seconds = self._answer()["seconds"]
        """How long the first run took, which had to load everything."""

    def run(self, lake, *, workers=2, seconds=None, publish=None, side=AFTER, new=False, engine=()):
        """Run the case in a lake; kill it after so many seconds, or before or after it publishes for the n-th time.

        With `new` only artefacts that were not there are counted, and no journals, whose names are new each time.
        Return what came of it: `killed` and the stage that had ended last, or `wrong`: all that is wrong with the lake.
        `seconds` are those of the run.
        """
        asked = {"lake": lake, "workers": workers, "publish": publish, "side": side, "new": new}
        return self._ask({"seconds": seconds, **asked, "engine": list(engine)})

    def together(self, lake, *actions):
        """Do several things with one lake at once, each in its process; return what is wrong with each."""
        return self._ask({"lake": lake, "actions": actions})

    def _ask(self, asked):
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        assert line, "the warm process ended; its stderr says why"
        return json.loads(line)

    def close(self):
        """End the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


def reached(lake):
    """Return the last stage that the newest run of a lake has ended, with its flow; "" where it had not begun."""
    logs = sorted(lake.glob("runs/*/log.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    if not logs:
        return ""
    record = logs[-1].with_name("run.json")
    flow = json.loads(record.read_text())["flow"] if record.exists() else "?"
    events = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    stages = [event["name"] for event in events if event["event"] == "stage"]
    ended = any(event["event"] == "end" for event in events)
    return f"{flow}: {'its end' if ended else stages[-1] if stages else 'its begin'}"


def artefacts(lake):
    """Return the files of a lake but those of runs and the journals, whose names are other every time."""
    files = {path.relative_to(lake).as_posix() for path in lake.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(("runs/2", "sums/"))}


def wrong_with(runs, wanted, there):
    """Yield what is not as in the unbroken run, and what stays behind though nothing needs it; the lake is cleaned."""
    found = results(runs)
    for name in wanted:
        yield from (f"{name}: other {key}" for key, value in wanted[name].items() if found[name][key] != value)
    lake = runs[MIXTURE].lake
    yield from (f"{one.file}: {one.problem}" for one in verify(lake))
    cleaned = clean(lake, NOTHING_KEPT)
    left = artefacts(lake.root)
    yield from (f"left behind: {name}" for name in sorted(left - there))
    gone = (name for name in sorted(there - left) if not name.endswith(TOKENIZER))
    yield from (f"cleaned away: {name}" for name in gone)
    kept = {path.name for path in lake.root.glob("runs/2*")}
    pinned = {run for run, why in cleaned.kept.items() if why == PINNED}  # killed when its mixture was written
    if kept != set(cleaned.kept) or len(kept - pinned) > len(wanted):
        yield f"runs that stay are {cleaned.kept}, folders {kept}"


def counting_publishes(last=None, side=AFTER, new=False):
    """Count how often a file gets into a lake, and die at one of these."""
    replace, count = Path.replace, 0

    def counted(self, target):
        nonlocal count
        count += not new or not (target.exists() or {"runs", "sums"} & set(target.parts))
        if count == last and side == BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        done = replace(self, target)
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Path.replace = counted


class Fork:
    """A function that runs in a fork; its answer is what it returns."""

    def __init__(self, body):
        reading, writing = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            faulthandler.dump_traceback_later(HANGS_S, exit=True)
            os.dup2(2, 1)  # what a library prints is no answer
            code = 1
            try:
                os.write(writing, json.dumps(body()).encode())
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        self._answer = os.fdopen(reading)

    def kill_after(self, seconds):
        """Kill it when it has run for so long, unless it has ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.002)
        os.kill(self._pid, signal.SIGKILL)

    def end(self):
        """Return the answer, None where it was killed."""
        with self._answer:
            said = self._answer.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        assert code in (0, -signal.SIGKILL), f"the run failed, exit code {code}"
        return json.loads(said) if code == 0 else None


def act(config, wanted, lake, action):
    """Do something with a lake while others do; return what is wrong, empty: nothing.

    A word after the action is an override, with which it has to come to something else; after `clean` it is the number
    of the file whose removal kills it.
    """
    action, *more = action.split()
    overrides = [f"lake={lake}", *more]
    if action == "clean":
        return cleaned_till_killed(config.parent / lake, int(more[0])) if more else cleaned_often(config.parent / lake)
    if action in ("export", "ingest"):
        done = tamis.export(config, "whole", [{"format": "ids"}], overrides=overrides) if action == "export" else (
            tamis.ingest(config, "web", overrides=[*overrides, "corpora.web.shard_bytes=4000"])
        )  # fmt: skip
        return "" if done.record.status == "done" else str(done.record)
    if action == "all":
        runs = run_all(config, overrides)
    elif action == MIXTURE:
        runs = {action: tamis.mix(config, action, overrides=overrides)}
    else:
        runs = {action: tamis.run(config, action, overrides=overrides)}
    same = results(runs) == {name: wanted[name] for name in runs}
    return "" if same is not bool(more) else f"{action} came to {'the same' if same else 'something else'}"


def cleaned_till_killed(root, number):
    """Clean, and die as the file of this number is removed."""
    unlink, count = Path.unlink, 0

    def dying(self, missing_ok=False):
        nonlocal count
        count += "tmp" not in self.parts[len(root.parts) :] and self.name != "cleaning.json"
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(self, missing_ok)

    Path.unlink = dying
    clean(Lake.open(root), NOTHING_KEPT)
    return ""


def cleaned_often(root):
    """Clean while others work, which has to be refused, with who it is that works, or to do no harm."""
    for _ in range(20):
        try:
            clean(Lake.open(root), NOTHING_KEPT)
        except LakeError as error:
            if not any(said in str(error) for said in (" goes on", "another `tamis clean`", "no lake at")):
                return str(error)
        time.sleep(0.1)
    return ""


def say(answer):
    """Answer in one line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(folder):
    """Run the case unbroken, and then as often as a line asks for it."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: see above
    config = folder / "flows.yaml"
    begin = time.monotonic()
    wanted = results(run_all(config, [f"lake={UNBROKEN}"], workers=1))
    say({"seconds": time.monotonic() - begin})
    lake = Lake.open(folder / UNBROKEN)
    clean(lake, NOTHING_KEPT)
    there = artefacts(lake.root)

    def once(asked):
        counting_publishes(asked["publish"], asked["side"], asked["new"])
        runs = run_all(config, [f"lake={asked['lake']}", *asked["engine"]], workers=asked["workers"])
        return {"killed": False, "seconds": time.monotonic() - begin, "wrong": list(wrong_with(runs, wanted, there))}

    for line in sys.stdin:
        asked, begin = json.loads(line), time.monotonic()
        if "actions" in asked:
            forks = [Fork(partial(act, config, wanted, asked["lake"], action)) for action in asked["actions"]]
            say([fork.end() for fork in forks])
            continue
        fork = Fork(partial(once, asked))
        if asked["seconds"] is not None:
            fork.kill_after(asked["seconds"])
        found = fork.end()
        killed = {"killed": True, "seconds": time.monotonic() - begin, "stage": reached(folder / asked["lake"])}
        say(found or killed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
