"""ZIP-FIT beside the official package: speed, and agreement with all pairs at gzip 9.

    python tests/benchmarks/zip_fit_speed.py DATA [--documents 3000] [--targets code_python reviews_movie] [--pool]

DATA has `pool/` and `targets/NAME.dev.jsonl`. The documents are a sample of the pool by keyed hash that played no part
when the numbers of `selectors/zip_fit.py` were chosen: those were tuned on another sample, with the targets math_word
and encyclopedia and with documents of the pool as targets. The official package (PyPI zip-fit, gzip 9, 2 processes)
scores all pairs; so does `exact` with all targets. The frontier shows fewer targets and refined shares. Product and
peer run one after the other in the same run; ratios are of CPU seconds, start-up excluded on both sides. `--pool`
scores the whole pool with the default, in two threads.
"""

import argparse
import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from side_by_side import WORK, peer_python, report
from tamis.pipelines.engine import Threads
from tamis.pipelines.health import spearman
from tamis.selectors.base import Target
from tamis.selectors.keyed import stream_key, uniform
from tamis.selectors.zip_fit import ZipFit
from tamis.storage.documents import doc_key, text_hashes
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import ReadOptions, read_records

GLOBS = ["crawl-0[0-8].*", "crawl-09/*.txt"]
SAMPLE = "benchmark/3"  # numbers 1 and 2 were looked at while tuning
ROWS_A_BATCH = 1000
OFFICIAL = ZipFit("exact", "ncd", level=9, n_targets="all", unit="document")
FAST = replace(OFFICIAL, method="fast", n_targets="auto")
FRONTIER = [
    ("exact, all targets", OFFICIAL),
    ("exact, 128 targets", replace(OFFICIAL, n_targets=128)),
    ("exact, 32 targets", replace(OFFICIAL, n_targets="auto")),
    ("exact, 8 targets", replace(OFFICIAL, n_targets=8)),
    ("fast, all targets for the best", replace(FAST, n_targets="all")),
    ("fast", FAST),
    ("fast, best 30%", replace(FAST, refined_share=0.3)),
    ("fast, best 5%", replace(FAST, refined_share=0.05)),
    ("fast, gzip 6", replace(FAST, level=6)),
]


def documents(data):
    """Yield id and text of every document of the pool that has text."""
    for file in list_inputs(GLOBS, data / "pool"):
        for batch in read_records(file, ReadOptions(file_id="stem")):
            if isinstance(batch, pa.RecordBatch):
                yield from zip(batch.column("doc_id").to_pylist(), batch.column("text").to_pylist(), strict=True)


def sampled(found, n):
    keys = np.array([doc_key(i) for i, _ in found], np.uint64)
    order = np.argsort(uniform(keys, stream_key(0, "sample", SAMPLE)))
    return [found[i] for i in order[:n]]


def batches(found, rows=ROWS_A_BATCH):
    for start in range(0, len(found), rows):
        part = found[start : start + rows]
        text = pa.array([t for _, t in part], pa.large_string())
        yield pa.RecordBatch.from_pydict({
            "row": np.arange(start, start + len(part)),
            "doc_key": pa.array([doc_key(i) for i, _ in part], pa.uint64()),
            "text": text,
                "text_hash": pa.array(text_hashes(text), pa.binary(16)),
        })  # fmt: skip


def ours(selector, pool, target, workers):
    """Return scores, wall and CPU seconds of everything that a flow calls between reading and the cut."""
    parts = list(batches(pool))
    wanted = [Target("target", None, lambda: batches(target))]
    selector.score(parts[0].slice(0, 2), selector.fit(None, wanted, _draw))  # compiled, or loaded from the cache
    begin, cpu = time.monotonic(), time.process_time()
    engine = Threads(workers)
    summary = selector.merge(list(engine.map(selector.summarise, parts)))
    state = selector.fit(summary, wanted, _draw)
    scores = np.concatenate(
        [np.asarray(t.column("score")) for t in engine.map(lambda b: selector.score(b, state), parts)]
    )
    return scores, time.monotonic() - begin, time.process_time() - cpu


def _draw(purpose):
    return stream_key(17, "zip_fit", purpose)


def official(pool, target, folder):
    """Return the official scores in the order of the pool, and the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "sources.jsonl", folder / "targets.jsonl"]
    for path, found in zip(paths, (pool, target), strict=True):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for _, text in found))
    python = peer_python("zip_fit", "zip-fit==1.0.9", "zstandard", "brotli")  # the last two are not declared
    script = Path(__file__).with_name("official_zip_fit.py")
    subprocess.run([python, script, *paths, "9", folder / "out.json"], check=True, stdout=subprocess.DEVNULL)
    found = json.loads((folder / "out.json").read_text())
    by_text = dict(zip(found["texts"], found["scores"], strict=True))
    return np.array([by_text[text] for _, text in pool]), found


def overlap(left, right, share=0.1):
    """Return the share of the best documents that both have, ties by place."""
    k = int(len(left) * share)
    best = [set(np.lexsort((np.arange(len(s)), -s))[:k].tolist()) for s in (left, right)]
    return len(best[0] & best[1]) / k


def compare(name, pool, target):
    """Yield a row a setting."""
    wanted, figures = official(pool, target, WORK / "zip_fit" / name)
    pairs = len(pool) * len(target)
    yield _row(
        name, "official, gzip 9, 2 processes", pairs, figures["wall_s"], figures["cpu_s"], figures, 1.0, 1.0, 1.0
    )
    for setting, selector in FRONTIER:
        scores, wall, cpu = ours(selector, pool, target, 2)
        agreement = [spearman(scores, wanted), overlap(scores, wanted), overlap(scores, wanted, 0.05)]
        yield _row(name, setting, pairs, wall, cpu, figures, *agreement)


def _row(target, setting, pairs, wall, cpu, peer, rho, tenth, twentieth):
    return {
        "target": target, "setting": setting, "wall s": wall, "CPU s": cpu, "pairs per CPU s": round(pairs / cpu),
        "times official": peer["cpu_s"] / cpu, "Spearman": round(rho, 4), "of the best 10%": round(tenth, 3),
        "of the best 5%": round(twentieth, 3),
    }  # fmt: skip


def whole_pool(pool, targets):
    """Yield the time for the whole pool with the default."""
    megabytes = sum(len(text.encode()) for _, text in pool) / 1e6
    for name, target in targets.items():
        _, wall, cpu = ours(ZipFit(), pool, target, 2)
        yield {"target": name, "documents": len(pool), "MB": megabytes, "wall s": wall, "CPU s": cpu}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--targets", nargs="+", default=["code_python", "reviews_movie"])
    parser.add_argument("--pool", action="store_true")
    options = parser.parse_args()
    pool = [(i, text) for i, text in documents(options.data) if text.strip()]
    targets = {}
    for name in options.targets:
        lines = (options.data / "targets" / f"{name}.dev.jsonl").read_text().splitlines()
        targets[name] = [(r["id"], r["text"]) for r in map(json.loads, lines)]
    chosen = sampled(pool, options.documents)
    rows = [row for name, target in targets.items() for row in compare(name, chosen, target)]
    report("zip_fit", rows)
    if options.pool:
        report("zip_fit_pool", list(whole_pool(pool, targets)))


if __name__ == "__main__":
    main()
