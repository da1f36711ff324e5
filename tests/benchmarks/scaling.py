"""What each stage of a flow costs a document and a shard, in time and in memory: the figures of docs/scaling.md.

    python tests/benchmarks/scaling.py [--cases 100000x8 1000000x8 1000000x512] [--words 12] [--workers 2]

A case is DOCUMENTSxSHARDS of made-up text. Its flow has a filter, exact deduplication, a DSIR selection with a drawn
cut, and writes Parquet; each case runs in a fresh process and lake. The resident set is sampled, and the largest sample
of each stage is its memory, above what the process had before it began to read: the stages that do not grow with the
case are those that a corpus of any size goes through.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import yaml
from side_by_side import report
from tamis.storage.shards import BYTES_A_ROW

SAMPLE_S = 0.02
BUDGET = {"tokens": "10%"}


def write_corpus(folder, documents, shards, words, seed=0):
    """Write as many files; a tenth of the documents repeats another's text. Return the bytes of text."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    vocabulary = np.array([f"w{number:05d}" for number in range(20_000)])
    sizes = np.full(shards, documents // shards)
    sizes[: documents % shards] += 1
    n_bytes = 0
    for shard, size in enumerate(sizes.tolist()):
        chosen = np.minimum(random.zipf(1.3, (size, words)) - 1, len(vocabulary) - 1)
        repeats = random.random(size) < 0.1
        chosen[repeats] = chosen[0]
        with (folder / f"{shard:06d}.jsonl").open("w") as out:
            for row in vocabulary[chosen]:
                text = " ".join(row.tolist())
                n_bytes += len(text)
                out.write(f'{{"text": "{text}"}}\n')
    return n_bytes


def run_case(documents, shards, words, workers):
    """Run the flow over a case in a fresh process; return its figures."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        n_bytes = write_corpus(folder / "raw", documents, min(shards, 8), words)
        write_corpus(folder / "target", 2_000, 1, words, seed=1)
        config = {
            "version": 1,
            "corpora": {"pool": {"files": ["raw/*"], "shard_bytes": (n_bytes + BYTES_A_ROW * documents) // shards + 1}},
            "targets": {"wanted": {"files": ["target/*"]}},
            "features": {"stats": {"use": "text_stats"}},
            "flows": {"all": {
                "corpus": "pool", "engine": {"workers": workers}, "outputs": [{"format": "parquet"}],
                "steps": [{"name": "clean", "filter": {"words": "stats.n_words > 2"}},
                          {"name": "twins", "dedup": "exact"},
                          {"name": "near", "select": "dsir", "target": "wanted",
                           "cut": {"by": "gumbel", "budget": BUDGET}}],
            }},
        }  # fmt: skip
        (folder / "flows.yaml").write_text(yaml.safe_dump(config))
        done = subprocess.run([sys.executable, __file__, "--inside", folder], check=True, stdout=subprocess.PIPE)
        return {"documents": documents, "MB of text": n_bytes / 1e6, **json.loads(done.stdout)}


def inside(folder):
    """Run the flow here and print what its stages took."""
    import tamis

    samples, done = [], threading.Event()

    def watch():
        while not done.wait(SAMPLE_S):
            samples.append((time.time(), resident_mb()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = resident_mb()
    begin = time.monotonic()
    run = tamis.run(folder / "flows.yaml", "all")
    wall = time.monotonic() - begin
    done.set()
    watcher.join()
    lines = (run.lake.run(run.id) / "log.jsonl").read_text().splitlines()
    stages, last = [], None
    for event in map(json.loads, lines):
        end = datetime.fromisoformat(event["time"]).timestamp()
        if event["event"] == "stage":
            inside_it = [mb for at, mb in samples if end - event["seconds"] <= at <= end]
            stages.append({"stage": event["name"], "seconds": event["seconds"], "peak MB": max(inside_it, default=None),
                           "MB written": event["bytes"] / 1e6})  # fmt: skip
        last = end
    assert last is not None
    shards = tamis.sql(run.lake, "select count(*) from shards where corpus = 'pool'").fetchall()[0][0]
    print(
        json.dumps(
            {
                "shards": shards,
                "wall s": wall,
                "MB before": before,
                "peak MB": max(mb for _, mb in samples),
                "stages": stages,
            }
        )
    )


def resident_mb():
    """Return the resident set of this process."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["100000x8", "1000000x8", "1000000x512"])
    parser.add_argument("--words", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside)
        return
    cases = [tuple(map(int, case.split("x"))) for case in ["20000x2", *options.cases]]  # the first compiles the kernels
    found = [run_case(*case, options.words, options.workers) for case in cases][1:]
    rows = []
    for case in found:
        for stage in case["stages"]:
            rows.append({"documents": case["documents"], "shards": case["shards"], **stage,
                         "us a document": stage["seconds"] / case["documents"] * 1e6})  # fmt: skip
    report("scaling", rows, cases=[{k: v for k, v in case.items() if k != "stages"} for case in found])


if __name__ == "__main__":
    main()
