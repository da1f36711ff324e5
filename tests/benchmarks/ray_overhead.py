"""What a local Ray cluster costs beside threads: an empty item, and a whole flow, in one process and in turn.

    python tests/benchmarks/ray_overhead.py DATA [--pool pool] [--rounds 3] [--items 2000] [--shard-bytes 8MB]

DATA is the folder of the reference data, of which the flow (text statistics, filter, exact dedup, DSIR, Parquet) reads
one pool. The cluster has as many processors as there are threads. Its start is measured alone, and the first flow of
each is not counted: workers import tamis once, threads load their kernels once. Each flow has a lake of its own.
"""

import argparse
import shutil
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import side_by_side
import tamis
import yaml
from tamis.pipelines.engine import Threads, processors
from tamis.pipelines.engine_entry import Engine
from tamis.pipelines.ray_cluster import connect, prepare
from tamis.storage.lake import Lake

FOLDER = side_by_side.WORK / "ray_overhead"
STEPS = [
    {"name": "clean", "filter": {"too_short": "stats.n_words >= 5"}},
    {"name": "twins", "dedup": "exact"},
    {"name": "near", "select": "dsir", "target": "code", "cut": {"budget": {"tokens": "5%"}}},
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pool", default="pool")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--shard-bytes", default="8MB")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    prepare("local")
    begin = time.monotonic()
    end = connect("local")
    start_s = time.monotonic() - begin
    try:
        rows = [items(options), *flows(options)]
    finally:
        end()
    shutil.rmtree(FOLDER)
    side_by_side.report("ray_overhead", rows, cluster_start_s=start_s, processors=processors())


def items(options):
    """Return the microseconds of an empty item on each engine."""
    from tamis.pipelines.ray_engine import Cluster

    lake = Lake.open(FOLDER / "empty", create=True)
    engines = {"threads": Threads.default(None), "ray": Cluster(Engine(use="ray"), lake)}
    seconds = {name: [] for name in engines}
    for _ in range(options.rounds + 1):
        for name, engine in engines.items():
            begin = time.monotonic()
            assert sum(1 for _ in engine.map(lambda item: None, range(options.items))) == options.items
            seconds[name].append(time.monotonic() - begin)
    return row(f"an empty item of {options.items:,}, us", seconds, 1e6 / options.items)


def row(what, seconds, scale=1.0):
    """Return the medians without the first round, and that of the rounds' own ratios."""
    threads, ray = (np.array(seconds[name][1:]) * scale for name in ("threads", "ray"))
    medians = {"threads": float(np.median(threads)), "ray": float(np.median(ray))}
    return {"what": what, **medians, "ray / threads": float(np.median(ray / threads))}


def flows(options):
    """Return the seconds of the flow, and of its stages, on each engine."""
    data = options.data.resolve()
    pool, target = data / options.pool, data / "targets" / "code_python.dev.jsonl"
    patterns = ["crawl-*.jsonl*", "crawl-*.parquet", "crawl-09/*.txt"]
    corpus = {"files": [str(pool / p) for p in patterns], "shard_bytes": options.shard_bytes}
    config = {
        "version": 1, "corpora": {"web": corpus}, "targets": {"code": {"files": [str(target)]}},
        "features": {"stats": {"use": "text_stats"}},
        "flows": {"f": {"corpus": "web", "steps": STEPS, "outputs": [{"format": "parquet"}]}},
    }  # fmt: skip
    (FOLDER / "flows.yaml").write_text(yaml.safe_dump(config))
    whole, stages, digests = {"threads": [], "ray": []}, defaultdict(lambda: {"threads": [], "ray": []}), set()
    for number in range(options.rounds + 1):
        for engine in whole:
            lake = f"{engine}-{number}"
            begin = time.monotonic()
            run = tamis.run(FOLDER / "flows.yaml", "f", overrides=[f"lake={lake}", f"flows.f.engine.use={engine}"])
            whole[engine].append(time.monotonic() - begin)
            for stage in {s.name: s for s in run.record.stages}.values():
                stages[stage.name][engine].append(stage.seconds)
            digests.add(tuple(f["sha256"] for f in run.record.outputs[0]["files"]))
            ((n_shards,),) = tamis.sql(run.lake, "select count(*) from shards where corpus = 'web'").fetchall()
            shutil.rmtree(FOLDER / lake)
    assert len(digests) == 1, "the engines choose differently"
    what = f"a flow over {run.record.counts['documents']:,} documents in {n_shards} shards, s"
    slow = {name: found for name, found in stages.items() if min(found["threads"][1:]) > 0.1}
    return [row(what, whole), *(row(name, found) for name, found in slow.items())]


if __name__ == "__main__":
    main()
