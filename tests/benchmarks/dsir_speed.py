"""DSIR from JSONL to JSONL, tamis beside the official package: wall clock, processor time, memory.

    python tests/benchmarks/dsir_speed.py DATA [--copies 10] [--rounds 1] [--quick]

DATA has `pool/` and `targets/`. Both sides read the same plain JSONL (id, text; blank texts are left out because the
official loader fails on them) and the development target code_python, fit, score, sample 1,000 documents by Gumbel
top-k and write them as JSONL; the official package with 2 processes, tamis with 2 threads. tamis runs without lake,
catalogue, Prefect and token counts (`dsir_speed_tamis.py`), and once as `tamis run --no-prefect`, which is not judged.

`work_s` is what a side times itself, after imports and (tamis) with kernels loaded; `process_s` is the whole process.
`peak_mb` adds up the resident sets of all processes, `proportional_mb` counts what they share once.
`--copies` adds a pool of so many copies, for tamis alone; `--quick` takes the first tenth of the pool."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from side_by_side import WORK, measure, median, peer_python, ratio, report
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import ReadOptions, read_records

GLOBS = ["crawl-0[0-8].*", "crawl-09/*.txt"]
FOLDER = WORK / "dsir_speed"
TARGET, SECOND_TARGET = "code_python", "math_word"
OFFICIAL = {"buckets": 10_000, "mix": 0.0, "normalise": "none", "min_words": 100}
SETTINGS = {
    "fast, default": {},
    "fast, as official": {**OFFICIAL, "hash": "fast"},
    "sha256, as official": {**OFFICIAL, "hash": "sha256"},
}
REQUIRED = {  # how many times faster than the official package: start-up excluded, fresh process
    "fast, default": (50, 25),
    "fast, as official": (50, 25),
    "sha256, as official": (22, None),
}
MAX_GROWTH = 1.25
"""Of the processor time a MB, from the pool to its copies."""


def write_pool(data, path, copies, every):
    """Write the pool as JSONL, `copies` times with new ids; return its bytes of text."""
    n_bytes = 0
    with path.open("w", encoding="utf-8") as file:
        for source in list_inputs(GLOBS, data / "pool"):
            for batch in read_records(source, ReadOptions(file_id="stem")):
                assert isinstance(batch, pa.RecordBatch)
                batch = batch.filter(pc.not_equal(pc.utf8_trim_whitespace(batch.column("text")), ""))
                batch = batch.take(pa.array(range(0, batch.num_rows, every), pa.int64()))
                rows = batch.select(["doc_id", "text"]).to_pylist()
                n_bytes += copies * pc.sum(pc.binary_length(batch.column("text"))).as_py()
                for copy in range(copies):
                    prefix = f"{copy}-" if copy else ""
                    file.writelines(json.dumps({"id": prefix + r["doc_id"], "text": r["text"]}) + "\n" for r in rows)
    return n_bytes


def tamis_command(pool, data, name, warm):
    said = {
        "pool": str(pool), "warm": warm, "settings": SETTINGS[name],
        "target": target_file(data, TARGET), "second_target": target_file(data, SECOND_TARGET),
    }  # fmt: skip
    return [sys.executable, Path(__file__).with_name("dsir_speed_tamis.py"), json.dumps(said)]


def target_file(data, name):
    return str(data / "targets" / f"{name}.dev.jsonl")


def run_side(command):
    """Run one side; return what it says about itself and what was measured from outside."""
    usage = measure(command, cwd=FOLDER, stdout=subprocess.DEVNULL, env={**os.environ, "TQDM_DISABLE": "1"})
    return json.loads((FOLDER / "said.json").read_text()), usage


def flow_command(pool, data):
    """A flow of the same: with its lake, catalogue, token counts and export."""
    folder = FOLDER / "flow"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    step = {"name": "near", "select": "dsir", "target": "t", "cut": {"by": "gumbel", "budget": {"documents": 1_000}}}
    config = {
        "version": 1, "corpora": {"pool": {"files": [str(pool)]}},
        "targets": {"t": {"files": [target_file(data, TARGET)]}},
        "flows": {"all": {"corpus": "pool", "engine": {"workers": 2}, "steps": [step],
                          "outputs": [{"format": "jsonl.zst"}]}},
    }  # fmt: skip
    (folder / "flows.yaml").write_text(yaml.safe_dump(config))
    cli = [sys.executable, "-m", "tamis.pipelines.cli"]
    return [*cli, "run", "all", "-c", str(folder / "flows.yaml"), "-q", "--no-prefect"]


def official_command(pool, data):
    python = peer_python("official-dsir", "data-selection==1.0.3", "nltk==3.9.1")
    return [python, Path(__file__).with_name("dsir_speed_official.py"), pool, target_file(data, TARGET)]


def compare(pool, data, rounds):
    """Alternate all sides; return {name: [(said, usage), ...]}, where "NAME, fresh" did not warm its kernels."""
    found = {}
    for _ in range(rounds):
        for name in SETTINGS:
            for fresh in (False, True):
                side = run_side(tamis_command(pool, data, name, not fresh))
                found.setdefault(f"{name}, fresh" if fresh else name, []).append(side)
        found.setdefault("official", []).append(run_side(official_command(pool, data)))
        usage = measure(flow_command(pool, data), stdout=subprocess.DEVNULL)
        found.setdefault("tamis run --no-prefect", []).append(({"work_s": None, "work_cpu_s": None}, usage))
    return found


def row(name, runs, n_bytes, official=None):
    """Return the figures of one side, and how many times faster than the official package it is."""
    said, whole = runs[0][0], asdict(median([usage for _, usage in runs]))
    fresh = [usage.wall_s for _, usage in runs]
    work = [s["work_s"] for s, _ in runs]
    timed = work[0] is not None
    cpu = said["work_cpu_s"]
    return {
        "side": name,
        "work_s": sorted(work)[len(work) // 2] if timed else None,
        "work_cpu_s": cpu,
        "cpu_s_per_mb": cpu / n_bytes * 1e6 if cpu else None,
        "process_s": whole["wall_s"],
        "process_cpu_s": whole["cpu_s"],
        "peak_mb": whole["resident_mb"],
        "proportional_mb": whole["peak_mb"],
        "second_target_s": said.get("second_target_s"),
        "x work": ratio([s["work_s"] for s, _ in official], work) if official and timed else None,
        "x process": ratio([u.wall_s for _, u in official], fresh) if official else None,
    }


def judge(rows, found):
    """Return what falls short."""
    by_name = {r["side"]: r for r in rows}
    for name, (work, fresh) in REQUIRED.items():
        if by_name[name]["x work"] < work:
            yield f"{name}: {by_name[name]['x work']:.1f} times the official speed, required {work}"
        if fresh and by_name[f"{name}, fresh"]["x process"] < fresh:
            yield f"{name}: {by_name[f'{name}, fresh']['x process']:.1f} times in a fresh process, required {fresh}"
        if by_name[name]["peak_mb"] >= by_name["official"]["peak_mb"]:
            yield f"{name}: {by_name[name]['peak_mb']:.0f} MB, more than the official package"
        copies = found.get(name)
        if copies and copies["cpu_s_per_mb"] > MAX_GROWTH * by_name[name]["cpu_s_per_mb"]:
            yield f"{name}: {copies['cpu_s_per_mb'] / by_name[name]['cpu_s_per_mb']:.2f} of the time a MB with copies"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--copies", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    data, pool = options.data.resolve(), FOLDER / "pool.jsonl"
    every = 10 if options.quick else 1
    n_bytes = write_pool(data, pool, 1, every)
    for name in SETTINGS:  # compile what is not in Numba's cache yet
        run_side(tamis_command(pool, data, name, True))
    found = compare(pool, data, options.rounds)
    rows = [row(name, runs, n_bytes, found["official"]) for name, runs in found.items()]
    many, copied = {}, []
    if options.copies:
        n_bytes = write_pool(data, pool, options.copies, every)
        for name in SETTINGS:
            many[name] = row(name, [run_side(tamis_command(pool, data, name, True))], n_bytes)
            copied.append({**many[name], "side": f"{name}, {options.copies} copies"})
    pool.unlink()
    short = list(judge(rows, many))
    report("dsir_speed", [*rows, *copied], mb_of_text=round(n_bytes / 1e6, 1), short=short)
    print("\n".join(short) or "all that is required is reached")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
