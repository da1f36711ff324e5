"""Raw files into the lake, against datatrove's JsonlReader into its ParquetWriter (zstd), two workers each.

    python tests/benchmarks/ingest.py DATA [--rounds 3] [--copies 10] [--peer-copies 4]

DATA is the folder of the reference data: its pool is written as plain JSON Lines (id, text, source) in two files, so
that two processes can read it, once and as several copies with ids of their own. Fresh processes, pinned to two
processors; the first run of each is not counted. tamis does more: zstd level 3 where datatrove's writer leaves Arrow's
level 1, SHA-256 of files and texts, ids, quarantine, a snapshot and the catalogue.
"""

import argparse
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import side_by_side
import yaml
from tamis.storage.inputs import list_inputs
from tamis.storage.json_lines import _parsed
from tamis.storage.jsonl_kernels import scan
from tamis.storage.readers import ReadOptions, read_records
from tamis.storage.streams import Block

WORKERS = 2
FOLDER = side_by_side.WORK / "ingest"
ORIGINAL = ["crawl-*.jsonl*", "crawl-*.parquet", "crawl-09/*.txt"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=10, help="of the pool, for how time grows with it")
    parser.add_argument("--peer-copies", type=int, default=4, help="of the pool, so that start-up counts less")
    options = parser.parse_args()
    pool = options.data / "pool"
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:WORKERS])
    shapes = {"one": (1, 2), "some": (options.peer_copies, 2), "many": (options.copies, 2), "file": (1, 1)}
    folders = {name: written(pool, *shape) for name, shape in shapes.items()}
    files = {name: [f"{folder}/*.jsonl"] for name, folder in folders.items()}
    files["pool"] = [f"{pool}/{pattern}" for pattern in ORIGINAL]
    config = {"version": 1, "lake": "lake", "corpora": {name: {"files": found} for name, found in files.items()}}
    (FOLDER / "flows.yaml").write_text(yaml.safe_dump(config | {"flows": {}}))
    what = {name: f"plain, copies: {copies}, files: {n}" for name, (copies, n) in shapes.items()}
    what["pool"] = "as it is: zst, gz, plain, parquet, txt"
    rows, ratios = [], {}
    for name in ("one", "some"):
        pair = {"datatrove": peer(folders[name]), "tamis": ours(name)}
        found = measured(pair, options.rounds)
        rows += [row(program, files[name], what[name], usages) for program, usages in found.items()]
        ratios[what[name]] = compared(found["datatrove"], found["tamis"])
    for name, usages in measured({name: ours(name) for name in ("file", "pool", "many")}, options.rounds).items():
        rows.append(row("tamis", files[name], what[name], usages))
    grown = rows[-1]["cpu s/MB"] / rows[1]["cpu s/MB"]
    more = {"datatrove over tamis": ratios, "cpu s/MB, many copies over one": grown, "MB/s": scanner(folders["file"])}
    print(json.dumps(more, indent=1))
    side_by_side.report("ingest", rows, **more)


def measured(commands, rounds):
    """Measure commands in turn; the first run of each warms up what is cached on disk and does not count."""
    quiet = {"cwd": FOLDER, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return {name: usages[1:] for name, usages in side_by_side.alternate(commands, rounds + 1, **quiet).items()}


def compared(peer, product):
    """Return how many times as much the peer takes of each figure."""
    figures = ("wall_s", "cpu_s", "peak_mb")
    return {f: side_by_side.ratio([getattr(u, f) for u in peer], [getattr(u, f) for u in product]) for f in figures}


def written(*shape):
    """Write a plain copy in another process: this one's memory counts in what it starts."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(plain, *shape).result()


def plain(pool, copies, files):
    """Write the pool as plain JSON Lines in some files of a size; return their folder."""
    folder = FOLDER / f"plain-{copies}-{files}"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        batches = [
            batch.to_pylist()
            for file in list_inputs(ORIGINAL, pool)
            for batch in read_records(file, ReadOptions(file_id="stem"))
            if isinstance(batch, pa.RecordBatch)
        ]
        outs = [(partial / f"{n}.jsonl").open("w") for n in range(files)]
        for copy in range(copies):
            for n, record in enumerate(record for batch in batches for record in batch):
                fields = {
                    "id": f"{copy}-{record['doc_id']}",
                    "text": record["text"],
                    "source": record["source"] or "txt",
                }
                outs[n % files].write(json.dumps(fields, ensure_ascii=n % 10 == 0) + "\n")  # one in ten, as in the pool
        for out in outs:
            out.close()
        partial.rename(folder)
    return folder


def ours(corpus):
    """Return the command that ingests a corpus into a fresh lake."""
    return fresh("lake", sys.executable, "-m", "tamis.pipelines.cli", "ingest", corpus, "-q")


def peer(folder):
    """Return datatrove's command for a folder."""
    python = side_by_side.peer_python("datatrove", "datatrove[io]==0.10.1")
    return fresh("out", python, Path(__file__).with_name("datatrove_ingest.py"), folder, "out", WORKERS)


def fresh(folder, *command):
    """Return a command that first removes what it made before."""
    return ["sh", "-c", f"rm -rf {folder} && exec {shlex.join(map(str, command))}"]


def row(name, patterns, what, usages):
    """Return one line of the table."""
    megabytes = sum(file.size for file in list_inputs(patterns, FOLDER)) / 1e6
    usage = side_by_side.median(usages)
    speeds = {"MB/s": megabytes / usage.wall_s, "cpu s/MB": usage.cpu_s / megabytes}
    return {"program": name, "pool": what, "MB": round(megabytes), **asdict(usage), **speeds}


def scanner(folder):
    """Measure the kernel alone, and blocks to Arrow, over a file in memory: MB/s of processor, of the clock for two."""
    data = (folder / "0.jsonl").read_bytes()
    blocks, at = [], 0
    while at < len(data):
        end = data.rfind(b"\n", at, at + (1 << 20)) + 1 or data.index(b"\n", at) + 1
        blocks.append(Block(0, data[at:end]))
        at = end
    names = [b"text", b"id", b"source", b"meta"]
    keys = np.frombuffer(b"".join(names), np.uint8), np.cumsum([0, *map(len, names)]).astype(np.uint64)

    def kernel(block):
        n, most = len(block.data), len(block.data) // 64 + 16
        columns = (
            tuple(np.empty(n, np.uint8) for _ in names),
            np.empty((4, most + 1), np.int64),
            np.empty((4, most), bool),
        )
        lines, odd = np.empty(most, np.uint64), np.empty((most, 4), np.uint64)
        scan(np.frombuffer(block.data, np.uint8), 0, keys, 1 << 28, columns, lines, odd)

    def arrow(block):
        _parsed("a", ReadOptions(), block)

    return {
        f"{name}, {threads} threads": len(data) / 1e6 / min(timed(work, blocks, threads) for _ in range(3))
        for name, work in {"kernel": kernel, "to Arrow": arrow}.items()
        for threads in (1, WORKERS)
    }


def timed(work, blocks, n_threads):
    """Return the seconds: of the processor for one thread, of the clock for several."""
    work(blocks[0])
    wall, cpu = time.monotonic(), time.process_time()
    threads = [threading.Thread(target=lambda n=n: list(map(work, blocks[n::n_threads]))) for n in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.process_time() - cpu if n_threads == 1 else time.monotonic() - wall


if __name__ == "__main__":
    main()
