"""A corpus larger than the memory that a flow may use: does the process stay below the cap that `memory:` says?

    python tests/benchmarks/memory_cap.py DATA [--gb 8] [--memory 1GB] [--folder DIR] [--prefect] [--keep]

DATA has `pool/`, a folder of raw files, and `targets/`. The corpus is the pool again and again as JSON Lines, one plain
file of three eighths and compressed ones: in one copy of ten the texts are those of the first, else each has words of
its own in its middle. A flow filters, removes exact duplicates, decontaminates, chooses by DSIR, then RS2, and writes
Parquet and JSON Lines; a mixture draws from what it chose and from the whole pool. The resident sets of the whole
process tree are sampled, what is mapped from files apart (its pages can be dropped; `top` counts them all the same),
and so is the kernel's own peak of the largest process. 8 GB take 11 GB of disk and 10 minutes of CPU.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import yaml
import zstandard
from side_by_side import _lines, _tree, report
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import ReadOptions, read_records

SAMPLE_S = 0.1
FILE_BYTES = 500_000_000
KINDS = ("RssAnon", "RssFile", "RssShmem", "VmHWM")
WORDS = [a + b for a in ("ba", "ko", "lu", "ne", "ri", "so", "ta", "vi") for b in ("den", "gol", "mar", "pis", "tur")]


def read_halves(pool):
    """Return of each document its id and both halves of its text, as bytes of JSON."""
    found = []
    for file in list_inputs(["*.*", "*/*.txt"], pool):
        for batch in read_records(file, ReadOptions(file_id="stem")):
            if isinstance(batch, pa.RecordBatch):
                for row in batch.select(["doc_id", "text", "source"]).to_pylist():
                    words = row["text"].split(" ")
                    at = len(" ".join(words[: len(words) // 2]))
                    source = json.dumps(row["source"] or "none").encode()
                    halves = (json.dumps(half)[1:-1].encode() for half in (row["text"][:at], row["text"][at:]))
                    found.append((row["doc_id"].encode(), source, *halves))
    return found


def copies(halves, n_bytes):
    """Yield the lines of one copy of the pool after another, so many bytes in all."""
    written = copy = 0
    while written < n_bytes:
        chance = random.Random(copy)
        lines = []
        for name, source, before, after in halves:
            own = " " + " ".join(chance.choices(WORDS, k=6)) if copy % 10 else ""
            lines.append(b'{"id": "%d-%s", "source": %s, "text": "%s%s%s"}\n' % (
                copy, name, source, before, own.encode(), after))  # fmt: skip
        written += sum(map(len, lines))
        copy += 1
        yield lines


def write_corpus(pool, folder, n_bytes):
    """Write the corpus; return its documents and bytes."""
    folder.mkdir(parents=True)
    stream = copies(read_halves(pool), n_bytes)
    documents = written = number = 0
    while written < n_bytes:
        large = number == 0
        most = n_bytes * 3 // 8 if large else FILE_BYTES
        with (folder / f"part-{number:02d}.jsonl{'' if large else '.zst'}").open("wb") as raw:
            out = raw if large else zstandard.ZstdCompressor(level=1).stream_writer(raw, closefd=False)
            begun = written
            while written - begun < most and written < n_bytes and (lines := next(stream, None)):
                out.write(b"".join(lines))
                documents, written = documents + len(lines), written + sum(map(len, lines))
            if not large:
                out.close()
        number += 1
    return documents, written


def write_config(folder, data, memory, n_bytes):
    """Write the flow and the mixture."""
    target, leak = (str(data / "targets" / f"{name}.dev.jsonl") for name in ("code_python", "math_word"))
    config = {
        "version": 1,
        "corpora": {"pool": {"files": ["raw/*"]}},
        "targets": {"code": {"files": [target]}, "exam": {"files": [leak]}},
        "features": {"stats": {"use": "text_stats"}},
        "flows": {"code": {
            "corpus": "pool", "outputs": [{"format": "parquet"}, {"format": "jsonl.zst"}],
            "steps": [{"name": "clean", "filter": {"words": "stats.n_words > 2"}}, {"name": "twins", "dedup": "exact"},
                      {"name": "no_leak", "decontaminate": ["exam"]},
                      {"name": "near", "select": "dsir", "target": "code",
                       "cut": {"by": "gumbel", "budget": {"tokens": "30%"}}},
                      {"name": "fresh", "select": "rs2", "with": {"rounds": 3}, "cut": {"budget": {"fraction": 0.2}}}],
        }},
        "mixtures": {"mix": {
            "budget": {"tokens": n_bytes // 40}, "dedup": "text", "outputs": [{"format": "jsonl.zst"}],
            "parts": [{"flow": "code", "weight": 0.6, "max_epochs": 4}, {"corpus": "pool", "weight": 0.4}],
        }},
    }  # fmt: skip
    if memory:
        config["memory"] = memory
    (folder / "flows.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def measured(command):
    """Run a command; return its exit code, its seconds, and samples: the time and MB by kind, of the whole tree."""
    begin, samples, done = time.monotonic(), [], threading.Event()
    process = subprocess.Popen([str(part) for part in command])

    def watch():
        while not done.wait(SAMPLE_S):
            found = {kind: [] for kind in KINDS}
            for pid in _tree(process.pid):
                for line in _lines(f"/proc/{pid}/status"):
                    name, _, value = line.partition(":")
                    if name in found:
                        found[name].append(int(value.split()[0]) * 1024 / 1e6)
            sums = {kind: (max if kind == "VmHWM" else sum)(values or [0.0]) for kind, values in found.items()}
            samples.append((time.time(), {**sums, "processes": len(found["VmHWM"])}))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    done.set()
    watcher.join()
    return process.returncode, time.monotonic() - begin, usage.ru_utime + usage.ru_stime, samples


def by_stage(lake, samples):
    """Return the largest samples of each stage of the newest run."""
    run = max((lake / "runs").glob("2*"))
    rows = []
    for event in map(json.loads, (run / "log.jsonl").read_text().splitlines()):
        if event["event"] == "stage":
            end = datetime.fromisoformat(event["time"]).timestamp()
            inside = [s for at, s in samples if end - event["seconds"] <= at <= end]
            rows.append({"stage": event["name"], "seconds": event["seconds"],
                         "anonymous MB": max((s["RssAnon"] for s in inside), default=None),
                         "mapped MB": max((s["RssFile"] + s["RssShmem"] for s in inside), default=None),
                         "resident MB": max((resident(s) for s in inside), default=None),
                         "peak so far": event.get("peak_rss", 0) / 1e6})  # fmt: skip
    return rows


def resident(sample):
    return sample["RssAnon"] + sample["RssFile"] + sample["RssShmem"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--gb", type=float, default=8)
    parser.add_argument("--memory", default="1GB", help="empty: not in flows.yaml")
    parser.add_argument("--folder", type=Path, help="default: a temporary one; a corpus that lies there is used again")
    parser.add_argument("--prefect", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave the lake")
    options = parser.parse_args()
    scratch = options.folder or Path(tempfile.mkdtemp(prefix="memory-cap-"))
    n_bytes, made = int(options.gb * 1e9), scratch / "corpus.json"
    if not made.exists():
        documents, written = write_corpus(options.data.resolve() / "pool", scratch / "raw", n_bytes)
        made.write_text(json.dumps({"documents": documents, "GB": written / 1e9}))
    shutil.rmtree(scratch / "lake", ignore_errors=True)
    write_config(scratch, options.data.resolve(), options.memory, n_bytes)
    totals, stages = [], []
    for command, name in (("run", "code"), ("mix", "mix")):
        code, wall, cpu, samples = measured(
            [sys.executable, "-m", "tamis.pipelines.cli", command, name, "-c", scratch / "flows.yaml", "-q",
             "--prefect" if options.prefect else "--no-prefect"]
        )  # fmt: skip
        stages += by_stage(scratch / "lake", samples)
        totals.append({
            "command": f"{command} {name}", "exit code": code, "wall s": wall, "CPU s": cpu,
            "processes": max(s["processes"] for _, s in samples),
            "anonymous MB": max(s["RssAnon"] for _, s in samples),
            "mapped MB": max(s["RssFile"] + s["RssShmem"] for _, s in samples),
            "resident MB": max(resident(s) for _, s in samples),
            "largest process, VmHWM": max(s["VmHWM"] for _, s in samples),
        })  # fmt: skip
    found = json.loads(made.read_text())
    report("memory_cap_stages", stages)
    report("memory_cap", totals, memory=options.memory, **found)
    if not options.keep:
        shutil.rmtree(scratch / "lake", ignore_errors=True)
        if not options.folder:
            shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
