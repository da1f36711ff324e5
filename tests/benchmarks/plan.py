"""A plan beside what happens: ten copies of a pool with new ids, planned and then run, each in a process of its own.

    python tests/benchmarks/plan.py DATA [--copies 10] [--target code_python] [--no-prefect]

DATA has `pool/`, a folder of raw files, and `targets/NAME.dev.jsonl`. The flow filters, drops copies, chooses by DSIR,
then by ZIP-FIT, and writes Parquet. Nothing is in the lake before; the plan is made from the raw files. The figures are
those that `tamis status` shows, and the growth of the lake's folder.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import tamis
import yaml
from memory import copy_pool
from side_by_side import measure, report
from tamis.pipelines.plan_compared import compared_stages, compared_steps
from tamis.pipelines.runs import load_runs
from tamis.storage.usage import folder_bytes

STEPS = [
    {"name": "clean", "filter": {"words": "stats.n_words >= 20", "symbols": "stats.symbol_word_ratio < 0.1"}},
    {"name": "twins", "dedup": "exact"},
    {"name": "near", "select": "dsir", "target": "target", "cut": {"budget": {"tokens": "30%"}}},
    {"name": "nearer", "select": "zip_fit", "target": "target", "cut": {"budget": {"tokens": "1M"}}},
]


def write_flow(folder, target):
    """Write the configuration; return what calls a command on it."""
    config = {
        "version": 1,
        "corpora": {"pool": {"files": ["raw/*"]}},
        "targets": {"target": {"files": [str(target)]}},
        "features": {"stats": {"use": "text_stats"}},
        "flows": {"all": {"corpus": "pool", "steps": STEPS, "outputs": [{"format": "parquet"}]}},
    }
    (folder / "flows.yaml").write_text(yaml.safe_dump(config))
    return lambda name: [sys.executable, "-m", "tamis.pipelines.cli", name, "all", "-c", folder / "flows.yaml", "-q"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--target", default="code_python")
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--no-prefect", action="store_true")
    options = parser.parse_args()
    data, prefect = options.data.resolve(), "--no-prefect" if options.no_prefect else "--prefect"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        documents, n_bytes = copy_pool(data / "pool", folder / "raw", options.copies)
        command = write_flow(folder, data / "targets" / f"{options.target}.dev.jsonl")
        planning = measure([*command("plan"), prefect], stdout=subprocess.DEVNULL)
        before = folder_bytes(folder / "lake")
        running = measure([*command("run"), prefect], stdout=subprocess.DEVNULL)
        grown = folder_bytes(folder / "lake") - before
        (record,) = load_runs(tamis.Lake.open(folder / "lake"))
    total, rows = record.plan["total"], []
    for row in compared_stages(record):
        rows.append({"stage": row["stage"], "planned s": row["planned_seconds"], "happened s": row["seconds"],
                     "planned MB": row["planned_bytes"] / 1e6, "happened MB": row["bytes"] / 1e6})  # fmt: skip
    memory = {"planned MB": total["memory"] / 1e6, "happened MB": running.largest_mb}
    report(
        "plan", rows, documents=documents, text_mb=n_bytes / 1e6, steps=compared_steps(record), memory=memory,
        lake_grew_mb=grown / 1e6, planning_s=planning.wall_s, planning_peak_mb=planning.largest_mb,
        run_wall_s=running.wall_s, planned_s=total["seconds"], time_ratio=total["seconds"]["value"] / running.wall_s,
        disk_ratio=total["bytes"]["value"] / grown, plan=record.plan,
    )  # fmt: skip
    print(f"time: planned {total['seconds']['value']:.1f} s, happened {running.wall_s:.1f} s with start-up and imports")
    print(f"disk: planned {total['bytes']['value'] / 1e6:,.0f} MB, the lake grew by {grown / 1e6:,.0f} MB")
    print(f"memory: {json.dumps(memory)}; planning took {planning.wall_s:.1f} s and {planning.largest_mb:,.0f} MB")
    for row in compared_steps(record):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
