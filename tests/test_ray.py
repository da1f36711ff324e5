"""A flow on a Ray cluster gives what it gives on threads, byte for byte, whatever happens to its workers."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tamis
from determinism import FLOWS, table, write_case
from small_flow import make_case, write_jsonl
from tamis.pipelines.engine_entry import Engine
from tamis.pipelines.runs import load_runs
from tamis.storage.errors import ConfigError, InputError, TamisError
from tamis.storage.lake import Lake
from tamis.storage.verify import verify
from test_readers_bad import bad_flow

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'tamis[ray]'")
SHARDS = {"web": {"files": ["raw/*"], "shard_bytes": 20_000}}
ENGINES = {"threads": [], "ray": [
    'flows.sieve.engine={use: ray, stages: {"feature stats": {num_cpus: 0.5}, ingest: {num_cpus: 2}}}',
    "mixtures.mixed.engine={use: ray}",
]}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One cluster for all tests of this file: runs use the connection that is there."""
    from tamis.pipelines.ray_cluster import connect, prepare

    prepare("local")
    end = connect("local")
    yield
    end()


@pytest.fixture
def on_ray(tmp_path):
    """Return a cluster over an empty lake."""
    from tamis.pipelines.ray_engine import Cluster

    made = Cluster(Engine(use="ray"), Lake.open(tmp_path / "lake", create=True))
    yield made
    assert list(made.lake.scratch.iterdir()) == []


def files(run):
    return [[(f["file"], f["sha256"]) for f in output["files"]] for output in run.record.outputs]


def selections(run):
    return [(step["name"], step["selection"], step["kept"], step["reasons"]) for step in run.record.steps]


def test_every_kind_of_step_and_a_mixture_are_the_same_as_on_threads(tmp_path):
    config = write_case(tmp_path)
    flow, *_ = FLOWS
    on_threads, on_ray = (table(config, [f"lake={lake}", *engine], flows=[flow]) for lake, engine in ENGINES.items())
    assert on_ray == on_threads
    lake = Lake.open(tmp_path / "ray")
    (there,), (here,) = ([r for r in load_runs(x) if r.flow == flow] for x in (lake, Lake.open(tmp_path / "threads")))
    assert [(s.name, s.computed, s.reused, s.documents) for s in there.stages] == [
        (s.name, s.computed, s.reused, s.documents) for s in here.stages
    ]
    assert all(step["entered"] > step["kept"] > 0 for step in there.steps), "every step drops something"
    assert list(verify(lake)) == [] and list(lake.scratch.iterdir()) == []


def test_bad_files_cost_what_they_cost_on_threads(tmp_path):
    assert bad_flow(tmp_path, "ray") == bad_flow(tmp_path, "threads")


def test_workers_that_are_killed_change_nothing(tmp_path, capsys):
    config = make_case(tmp_path, n=1500, files=6, corpora=SHARDS)
    whole = tamis.run(config, "small", overrides=["lake=whole"])
    killed, done = [], threading.Event()

    def kill_some():
        while not done.is_set() and len(killed) < 3:
            for pid in busy_workers(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    break
            time.sleep(0.05 * len(killed))

    killer = threading.Thread(target=kill_some)
    killer.start()
    try:
        run = tamis.run(config, "small", overrides=["lake=ray", "flows.small.engine={use: ray}"])
    finally:
        done.set()
        killer.join()
    assert killed, "no worker was at work when it was looked for"
    assert capsys.readouterr().out == "", "Ray's messages are none of our data"
    assert (selections(run), files(run)) == (selections(whole), files(whole))
    assert list(verify(run.lake)) == []


def descendants(pid):
    """Return the processes that a process began, and those that these began."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it is gone
        if fields[0] != "Z":
            parents[int(status.parent.name)] = int(fields[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def busy_workers(pid):
    """Return the processes of this cluster that are calling a function now."""
    for child in descendants(pid):
        try:
            if b"call" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]:
                yield child
        except OSError:
            continue


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_ended(tmp_path, kill):
    config = make_case(tmp_path, n=3000, files=12, corpora=SHARDS)
    command = [sys.executable, "-m", "tamis.pipelines.cli", "run", "small", "-c", str(config), "--no-prefect", "-q"]
    process = subprocess.Popen([*command, "--set", "flows.small.engine={use: ray}"], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list((tmp_path / "lake" / "features").glob("*/*/*.parquet")):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    began = descendants(process.pid)
    process.send_signal(kill)
    assert process.wait(60) in (-kill, 128 + kill)
    until = time.monotonic() + 30
    while left := [pid for pid in began if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, left
        time.sleep(0.1)
    whole, resumed = (tamis.run(config, "small", overrides=[f"lake={lake}"]) for lake in ("whole", "lake"))
    assert (selections(resumed), files(resumed)) == (selections(whole), files(whole))
    assert list(verify(resumed.lake)) == [] and list(resumed.lake.scratch.iterdir()) == []
    assert load_runs(resumed.lake)[0].status == "interrupted"


def test_results_come_in_order_and_large_ones_through_the_lake(on_ray):
    sizes = [3, 200_000, 5, 300_000]
    found = list(on_ray.map(np.arange, sizes))
    assert [len(x) for x in found] == sizes
    assert all(x.flags.writeable for x in found)


def test_a_few_tasks_at_a_time(tmp_path, on_ray):
    on_ray.entry = Engine(use="ray", workers=1)

    def alone(number):
        (tmp_path / "here").mkdir()
        time.sleep(0.01)
        (tmp_path / "here").rmdir()
        return number

    assert list(on_ray.map(alone, range(6))) == list(range(6))


def test_an_actor_that_dies_is_begun_again_and_keeps_its_place(tmp_path, on_ray):
    def number(i):
        if i == 5 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        loaded.append(i)
        return i, os.getpid(), len(loaded)

    loaded = []
    on_ray.entry = Engine(use="ray", stages={"feature lm": {"num_cpus": 0.5}})
    found = list(on_ray.map(number, range(30), "feature lm", loads=True))
    assert [i for i, *_ in found] == list(range(30)) and (tmp_path / "died").exists()
    assert max(n for *_, n in found) > 2, "what a process keeps stays from item to item"
    assert len({pid for _, pid, _ in found}) <= 5


def test_errors_are_those_of_threads(tmp_path, on_ray):
    with pytest.raises(ValueError, match="'x'"):
        list(on_ray.map(int, ["1", "x"]))
    config = make_case(tmp_path, corpora={"web": {"files": ["raw/*"], "on_bad": "fail"}})
    write_jsonl(tmp_path / "raw" / "bad.jsonl", [{"id": "a", "text": ["no text"]}])
    said = []
    for engine in ("threads", "ray"):
        with pytest.raises(InputError) as error:
            tamis.run(config, "small", overrides=[f"lake={engine}", f"flows.small.engine.use={engine}"])
        said.append(str(error.value))
    assert said[0] == said[1] and "bad.jsonl line 1" in said[0]


def test_an_item_that_kills_every_worker_is_an_error(on_ray):
    with pytest.raises(TamisError, match="score x: a worker of the Ray cluster died 4 times"):
        list(on_ray.map(os._exit, [7], "score x"))


def test_what_no_machine_has_is_refused(on_ray):
    on_ray.entry = Engine(use="ray", stages={"feature": {"num_gpus": 64}})
    with pytest.raises(ConfigError, match=r"'feature lm' asks for .*64"):
        list(on_ray.map(int, ["1"], "feature lm"))


def test_functions_travel_with_empty_caches_and_named_ones_stay_themselves():
    from tamis.features.tokens import _from_file
    from tamis.pipelines.ray_pickling import pickled

    calls = lru_cache(3)(lambda x: [x])
    first = calls(1)
    travelled = pickle.loads(pickled(lambda: (calls, _from_file)))()
    assert travelled[0](1) == [1] and travelled[0](1) is not first
    assert travelled[0].cache_parameters()["maxsize"] == 3
    assert travelled[1] is _from_file


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"use": "threads", "address": "auto"}, "`address` belongs to `use: ray`"),
        ({"stages": {"ingest": {"num_cpus": 2}}}, "`stages` belongs to `use: ray`"),
        ({"use": "ray", "stages": {"featur minilm": {"num_gpus": 1}}}, "did you mean 'feature'"),
        ({"use": "ray", "stages": {"feature": {"gpus": 1}}}, "gpus"),
        ({"use": "ray", "stages": {"feature": {"num_cpus": float("inf")}}}, "finite"),
    ],
)
def test_a_wrong_engine_is_refused(entry, said):
    with pytest.raises(ValueError, match=said):
        Engine.model_validate(entry)


def test_resources_are_those_of_the_stage_or_of_its_kind():
    stages = {"feature": {"memory": "4GB"}, "feature lm": {"num_gpus": 0.5}, "ingest": {"num_cpus": 2.5}}
    entry = Engine.model_validate({"use": "ray", "stages": stages})
    assert entry.resources("feature stats").memory == 4 << 30
    assert entry.resources("feature lm").num_gpus == 0.5 and entry.resources("feature lm").memory is None
    assert Engine.model_validate({"use": "ray", "stages": {"digest web": {"num_cpus": 0.5}}})  # what `rehash` maps
    assert (entry.resources("ingest web").threads, entry.resources("score x").num_cpus) == (2, 1)


def test_a_document_that_names_the_end_token_is_encoded_as_such_in_a_worker_too():
    from tamis.pipelines.tokenising import _travelled
    from tiny_model import tokenizer

    made = tokenizer()
    special = next(iter(made.get_added_tokens_decoder().values())).content
    encoder = _travelled("x", "digest", 0, "uint16", made.to_str())
    (ids, _), (again, _) = (
        e.encode(pa.array([special], pa.large_string())) for e in (encoder, pickle.loads(pickle.dumps(encoder)))
    )
    assert ids.tolist() == again.tolist() != [*made.encode(special, add_special_tokens=False).ids, 0]
