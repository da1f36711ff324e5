"""What 1% of new data costs beside all of it: the time of the features, and what goes into what is there already.

    python tests/benchmarks/increment.py DATA [--share 0.01] [--workers 2] [--copies 1]

DATA has `pool/` and `targets/code_python.dev.jsonl`. The documents of the pool are written as JSON Lines of 16 MB, a
keyed share of them into a file of their own that comes later. The same flow (tokens, text statistics and compressed
sizes, DSIR over n-grams that are kept with `refit: merge`, k-means over static embeddings with `refit: frozen`) is run
over the old files, over all, and once more, in one process, so that every time is of the same machine and hour.
Kernels are compiled before, on a few documents. `--copies` makes the pool as many times as large, each document with
another id and a word more. Prints and writes JSON.
"""

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import tamis
import yaml
from side_by_side import WORK, machine
from tamis.pipelines.engine_entry import Engine
from tamis.pipelines.flows import curate
from tamis.pipelines.loading import load_config
from tamis.pipelines.plugins import make_feature
from tamis.pipelines.recorded import begin, recorded

GLOBS = ["crawl-0[0-8].*", "crawl-09/*.txt"]
FILE_BYTES = 16 << 20
CLEAN = {"short": "stats.n_words >= 20", "repeats": "sizes.gzip_bytes > 0.1 * sizes.n_bytes"}
STEPS = [
    {"name": "clean", "filter": CLEAN},
    {
        "name": "code", "select": "dsir", "target": "code_python", "refit": "merge",
        "with": {"keep_ids": "always"},
        "cut": {"budget": {"tokens": "60%"}},
    },
    {
        "name": "spread", "select": "kmeans", "with": {"vectors": "words", "clusters": {"count": 50}},
        "refit": "frozen", "cut": {"budget": {"tokens": "50%"}},
    },
]  # fmt: skip


def configuration(folder, files, data):
    config = {
        "version": 1, "lake": "lake", "seed": 17, "corpora": {"pool": {"files": files}},
        "targets": {"code_python": {"files": [str(data / "targets" / "code_python.dev.jsonl")]}},
        "features": {"stats": {"use": "text_stats"}, "sizes": {"use": "compression"},
                     "words": {"use": "static_embeddings"}},
        "flows": {"grows": {"corpus": "pool", "steps": STEPS}},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flows.yaml").write_text(yaml.safe_dump(config))
    return folder / "flows.yaml"


def documents(data, folder, copies):
    """Return id, source and text of the pool, as tamis reads it."""
    config = configuration(folder, [str(data / "pool" / g) for g in GLOBS], data)
    done = tamis.ingest(config, "pool")
    query = "select doc_id as id, source, text from documents join text using (corpus, doc_id) order by id"
    found = tamis.sql(done.lake, query).pl()
    more = [
        found.with_columns(pl.col("id") + f"-{n}", pl.col("text") + f" copy{n}") if n else found for n in range(copies)
    ]
    return pl.concat(more)


def write(table, folder, name):
    """Write a table as JSON Lines of some megabytes; return their size."""
    folder.mkdir(parents=True, exist_ok=True)
    size = table["text"].str.len_bytes().sum()
    n = max(1, round(size / FILE_BYTES))
    rows = -(-table.height // n)
    for i, piece in enumerate(table.iter_slices(rows)):
        piece.write_ndjson(folder / f"{name}-{i:04d}.jsonl")
    return int(size)


class Meter:
    """Run stages, and note the processor seconds of each: others on the machine change them little."""

    def __init__(self):
        self.seconds = {}

    def __call__(self, name, function):
        begun = time.process_time()
        try:
            return function()
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - begun


def timed(config, workers):
    """Run the flow; return the run, and seconds by stage."""
    loaded, meter = load_config(config), Meter()
    features = {alias: make_feature(alias, e, loaded.root) for alias, e in loaded.config.features.items()}
    work = replace(begin(loaded, "grows", features, Engine(workers=workers), None), execute=meter)
    begun, cpu = time.perf_counter(), time.process_time()
    run = recorded(work, lambda: curate(work, "grows", loaded.config.flows["grows"]))
    whole = {"seconds": round(time.perf_counter() - begun, 2), "cpu_seconds": round(time.process_time() - cpu, 2)}
    stages = {}
    for stage in run.record.stages:
        seen = stages.setdefault(stage.name, {"seconds": 0.0, "seconds_unchanged": 0.0, "documents": 0})
        for name in seen:
            seen[name] = round(seen[name] + getattr(stage, name), 4)
    for name, seconds in meter.seconds.items():
        stages[name]["cpu_seconds"] = round(seconds, 4)
    return run, {**whole, "stages": stages, "files": run.record.files["pool"]}


def features_of(found, name):
    return round(sum(s[name] for stage, s in found["stages"].items() if stage.startswith("feature ")), 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--copies", type=int, default=1)
    options = parser.parse_args()
    data, folder = options.data.resolve(), WORK / "increment"
    shutil.rmtree(folder, ignore_errors=True)
    pool = documents(data, folder / "read", options.copies)
    late = pl.Series(pool["id"].hash(7) % 100_000 < options.share * 100_000)
    few = pool.filter(~late).head(60)
    write(few.head(40), folder / "warm" / "raw", "a")
    config = configuration(folder / "warm", ["raw/*"], data)
    timed(config, options.workers)
    write(few.tail(20), folder / "warm" / "raw", "b")
    timed(config, options.workers)

    config = configuration(folder, ["raw/*"], data)
    old_bytes = write(pool.filter(~late), folder / "raw", "old")
    _, full = timed(config, options.workers)
    new_bytes = write(pool.filter(late), folder / "raw", "new")
    second, more = timed(config, options.workers)
    _, again = timed(config, options.workers)
    runs = {"full": full, "increment": more, "nothing new": again}
    kinds = {"seconds": "wall", "cpu_seconds": "processor", "seconds_unchanged": "wall, on what was there"}
    seconds = {kind: {run: features_of(found, name) for run, found in runs.items()} for name, kind in kinds.items()}
    ratios = {kind: round(seconds[kind]["increment"] / seconds[kind]["full"], 4) for kind in ("wall", "processor")}
    found = {
        "benchmark": "increment", "machine": machine(), "documents": pool.height, "old_bytes": old_bytes,
        "new_bytes": new_bytes, "new_share": round(new_bytes / old_bytes, 4), "feature_seconds": seconds,
        "feature_ratio": ratios, "holds": ratios["processor"] <= 0.05,
        "feature_ratios": {
            name: round(more["stages"][name]["cpu_seconds"] / s["cpu_seconds"], 4)
            for name, s in full["stages"].items() if name.startswith("feature ")
        },
        "run_ratio": {kind: round(more[name] / full[name], 4) for name, kind in list(kinds.items())[:2]},
        "seconds_on_unchanged_input": round(sum(s["seconds_unchanged"] for s in more["stages"].values()), 4),
        "refits": {s["name"]: s["fit"]["how"] for s in second.record.steps if "fit" in s},
        "diff": second.record.diff, **runs,
    }  # fmt: skip
    (WORK / "increment.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
