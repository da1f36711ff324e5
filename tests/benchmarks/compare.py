"""How long the page of a comparison takes, how large it is, and how much memory it needs.

    python tests/benchmarks/compare.py DATA [--rounds 3]

DATA has `pool/` and `targets/NAME.dev.jsonl`. Five flows choose 5% of the tokens of the pool without its repeated
texts: by lot, `dsir` and `zip_fit` for one target, `dsir` for another, and `kmeans` over static vectors. Their runs
stay in build/benchmarks/compare, so they are paid for once. Then `tamis compare … --html` is measured as a fresh
process, after one that is not counted: it compiles the kernels that a machine has not used before. There is no peer: no
other tool makes such a page. The exit code is 1 where a bound does not hold.
"""

import argparse
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import tamis
import yaml
from side_by_side import WORK, alternate, measure, median, report

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
    measure(command, stdout=subprocess.DEVNULL)
    taken = alternate({"page": command}, options.rounds, stdout=subprocess.DEVNULL)["page"]
    middle, megabytes = median(taken), page.stat().st_size / 1e6
    rows = [
        {"page of 5 runs": f"seconds, median of {options.rounds}", "measured": middle.wall_s, "bound": SECONDS},
        {"page of 5 runs": "CPU seconds", "measured": middle.cpu_s, "bound": None},
        {"page of 5 runs": "peak memory, MB", "measured": middle.peak_mb, "bound": None},
        {"page of 5 runs": "size, MB", "measured": megabytes, "bound": MEGABYTES},
    ]
    report("compare", rows, documents=run.steps[0]["entered"], bytes=page.stat().st_size,
           rounds=[asdict(usage) for usage in taken])  # fmt: skip
    return 0 if middle.wall_s < SECONDS and megabytes < MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
