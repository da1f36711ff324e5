"""How long the page of a comparison takes, how large it is, and how much memory it needs.

    python tests/benchmarks/compare.py DATA [--rounds 3]

DATA has `pool/` and `targets/NAME.dev.jsonl`. Five flows choose 5% of the tokens of the pool without its repeated
texts: by lot, `dsir` and `zip_fit` for one target, `dsir` for another, and `kmeans` over static vectors. Their runs
stay in build/benchmarks/compare, so they are paid for once. Then `tamis compare … --html` is run as a fresh process:
once for the kernels that a machine has not compiled before, then to be timed with nobody watching, and once for its
memory, because to sample that 20 times a second slows it down by a third on two cores. There is no peer: no other tool
makes such a page. The exit code is 1 where a bound does not hold.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import tamis
import yaml
from side_by_side import WORK, measure, report

FOLDER = WORK / "compare"
GLOBS = ["crawl-0[0-8].*", "crawl-09/*.txt"]
TARGETS = ["code_python", "math_word"]
CUT = {"budget": {"tokens": "5%"}}
PICKS = {
    "by_lot": {"select": "random"},
    "dsir_code": {"select": "dsir", "target": "code_python"},
    "zip_fit_code": {"select": "zip_fit", "target": "code_python"},
    "dsir_math": {"select": "dsir", "target": "math_word"},
    "clusters": {"select": "kmeans", "with": {"vectors": "words", "clusters": {"count": 200}}},
}
SECONDS, MEGABYTES = 30, 5


def configuration(data):
    """Write flows.yaml with a flow a choice; return its path."""
    twins = {"name": "twins", "dedup": "exact"}
    config = {
        "version": 1, "lake": "lake", "seed": 17,
        "corpora": {"pool": {"files": [str(data / "pool" / g) for g in GLOBS], "id": "stem"}},
        "targets": {t: {"files": [str(data / "targets" / f"{t}.dev.jsonl")], "holdout": 0.2} for t in TARGETS},
        "features": {"words": {"use": "static_embeddings"}},
        "flows": {
            name: {"corpus": "pool", "steps": [twins, {"name": "pick", **pick, "cut": CUT}]}
            for name, pick in PICKS.items()
        },
    }  # fmt: skip
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "flows.yaml").write_text(yaml.safe_dump(config))
    return FOLDER / "flows.yaml"


def timed(command):
    """Run a command; return its wall clock and CPU seconds."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config, page = configuration(options.data.resolve()), FOLDER / "compared.html"
    for name in PICKS:
        run = tamis.run(config, name)
        print(f"{name}: {run.steps[-1]['kept']:,} of {run.steps[0]['entered']:,} documents", flush=True)
    command = [sys.executable, "-m", "tamis.pipelines.cli", "compare", *PICKS, "--html", page, "-c", config, "-q"]
    timed(command)
    rounds = [timed(command) for _ in range(options.rounds)]
    wall, cpu = (statistics.median(figures) for figures in zip(*rounds, strict=True))
    peak, megabytes = measure(command, stdout=subprocess.DEVNULL).peak_mb, page.stat().st_size / 1e6
    rows = [
        {"page of 5 runs": f"seconds, median of {options.rounds}", "measured": wall, "bound": SECONDS},
        {"page of 5 runs": "CPU seconds", "measured": cpu, "bound": None},
        {"page of 5 runs": "peak memory, MB", "measured": peak, "bound": None},
        {"page of 5 runs": "size, MB", "measured": megabytes, "bound": MEGABYTES},
    ]
    report("compare", rows, documents=run.steps[0]["entered"], bytes=page.stat().st_size, rounds=rounds)
    return 0 if wall < SECONDS and megabytes < MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
