"""Which documents of a pool repeat an evaluation set, against lists of others; and how fast they are found.

    python tests/benchmarks/decontaminate.py DATA [--rounds 5]

DATA has `pool/`, `targets/NAME.dev.jsonl`, `overlap13.parquet` (every pair of a pool and a target document with a
common run of 13 words, made with plain Python: lower-cased `\\w+`, nothing else) and `leaks.parquet` (the planted leaks
by kind). Each pair that is not in both is put into a class by what makes the difference. The last rows are those of the
step in a flow, where a document has one `ref`. Speed: CPU seconds of one thread, text in memory, everything compiled.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import tamis
import yaml
from side_by_side import report
from tamis.features.ngrams import NGrams
from tamis.selectors.decontamination import evaluation_runs
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import ReadOptions, read_records

GLOBS = ["crawl-0[0-8].*", "crawl-09/*.txt"]
ROW_GROUP_BYTES = 8 << 20


def read_pool(pool):
    """Return all ids and texts."""
    batches = [
        b
        for f in list_inputs(GLOBS, pool)
        for b in read_records(f, ReadOptions(file_id="stem"))
        if isinstance(b, pa.RecordBatch)
    ]
    ids = [i for b in batches for i in b.column("doc_id").to_pylist()]
    return ids, pa.concat_arrays([b.column("text") for b in batches])


def words_of(text):
    return re.findall(r"\w+", text.lower())


def share_13(a, b):
    """Say whether two lists of words share a run of 13."""
    runs = {tuple(a[i : i + 13]) for i in range(len(a) - 12)}
    return any(tuple(b[i : i + 13]) in runs for i in range(len(b) - 12))


def class_of(pair, listed, document, evaluation):
    """Name what makes a pair differ from the list."""
    plain = share_13(words_of(document), words_of(evaluation))
    if pair in listed:
        return "missed although words are shared" if plain else "listed without shared words"
    if plain:
        return "not listed although words are shared"
    if len(words_of(evaluation)) < 13:
        return "evaluation document of fewer than 13 words, found whole"
    if share_13(words_of(document), words_of(re.sub(r"[^\w\s]", "", evaluation))):
        return "copy with the punctuation deleted, which joins words"
    return "accents, width or invisible marks"


def compared(what, listed, found, classes=()):
    both = len(listed & found)
    differences = "; ".join(f"{n} x {name}" for name, n in Counter(classes).most_common())
    return {"what": what, "listed": len(listed), "found": len(found), "both": both, "recall": both / len(listed),
            "precision": both / len(found) if found else None, "differences": differences}  # fmt: skip


def agreement(data, ids, text, evaluation, runs):
    """Compare all pairs, the documents and the planted leaks with the lists; return rows and the pairs that differ."""
    overlap = pl.read_parquet(data / "overlap13.parquet").filter(pl.col("split") == "dev")
    leaks = pl.read_parquet(data / "leaks.parquet").filter(pl.col("split") == "dev")
    names = [e["id"] for e in evaluation]
    document, other, shared = (part.tolist() for part in runs.pairs(text))
    found = {(ids[d], names[e]): n for d, e, n in zip(document, other, shared, strict=True)}
    listed = {(d, e): n for d, e, n in overlap.select("pool_id", "target_id", "shared13").rows()}
    texts = {ids[d]: text[d].as_py() for d in document} | {e["id"]: e["text"] for e in evaluation}
    differ = {p: class_of(p, listed, texts.get(p[0], ""), texts[p[1]]) for p in sorted(listed.keys() ^ found.keys())}
    rows = [compared("pairs", listed.keys(), found.keys(), differ.values())]
    rows.append(compared("documents", {d for d, _ in listed}, {d for d, _ in found}))
    more = ["other reading of the punctuation" for p in listed.keys() & found.keys() if found[p] != listed[p]]
    rows.append(
        compared("runs of a pair", set(listed.items()), set(found.items()) - {(p, found[p]) for p in differ}, more)
    )
    for (kind,), part in sorted(leaks.group_by("kind")):
        planted = set(part.select("pool_id", "target_id").rows())
        rows.append(compared(f"planted: {kind}", planted, planted & found.keys()))
    return rows, found, differ


def in_a_flow(data, targets, found):
    """Run the step over the pool; compare what it dropped, and the pairs that its refs name, with all pairs."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "corpora": {"pool": {"files": [str(data / "pool" / g) for g in GLOBS], "id": "stem"}},
            "targets": {t: {"files": [str(data / "targets" / f"{t}.dev.jsonl")], "holdout": 0.5} for t in targets},
            "flows": {"all": {"corpus": "pool", "steps": [{"name": "no_leaks", "decontaminate": targets}]}},
        }
        path = Path(folder) / "flows.yaml"
        path.write_text(yaml.safe_dump(config))
        run = tamis.run(path, "all")
        query = "select doc_id, ref from selections where run = $1 and not kept"
        dropped = set(tamis.sql(run.lake, query, [run.id]).fetchall())
        assert not run.record.warnings, run.record.warnings
    one_each = ["a document has one ref"] * (len(found) - len(dropped))
    return [compared("step: documents", {d for d, _ in found}, {d for d, _ in dropped}),
            compared("step: pairs named by ref", found.keys(), dropped, one_each)]  # fmt: skip


def speed(text, evaluation, rounds):
    """Return MB a CPU second of one thread, for four evaluation sets and some with short documents too."""
    size = int(sum(len(one.as_buffer()) for one in text))
    step = max(1, len(text) * ROW_GROUP_BYTES // size)
    groups = [text.slice(i, step) for i in range(0, len(text), step)]
    texts = [e["text"] for e in evaluation]
    short = [" ".join(t.split()[5 : 5 + n]) for n in range(8, 13) for t in texts[:200]]
    cases = {"four target sets": texts, "and documents of 8 to 12 words": texts + short}
    indexes = {name: evaluation_runs(pa.array(t, pa.large_string())) for name, t in cases.items()}
    found = {name: [] for name in [*cases, "hashing n-grams (NGrams, 2)"]}
    for _ in range(rounds + 1):
        for name, runs in indexes.items():
            found[name].append(cpu_seconds(runs.best, groups))
        feature = NGrams(2)
        batches = [pa.record_batch({"text": g}) for g in groups]
        found["hashing n-grams (NGrams, 2)"].append(cpu_seconds(feature.compute, batches))
    return [
        {"what": name, "runs": indexes[name].n_runs if name in indexes else None,
         "lengths": len(indexes[name].sizes) if name in indexes else None,
         "MB a core-second": round(size / 1e6 / statistics.median(seconds[1:]), 1)}
        for name, seconds in found.items()
    ]  # fmt: skip


def cpu_seconds(function, items):
    begin = time.process_time()
    for item in items:
        function(item)
    return time.process_time() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    targets = sorted(p.name.removesuffix(".dev.jsonl") for p in (options.data / "targets").glob("*.dev.jsonl"))
    paths = [options.data / "targets" / f"{t}.dev.jsonl" for t in targets]
    evaluation = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    ids, text = read_pool(options.data / "pool")
    runs = evaluation_runs(pa.array([e["text"] for e in evaluation], pa.large_string()))
    rows, found, differ = agreement(options.data, ids, text, evaluation, runs)
    rows += in_a_flow(options.data.resolve(), targets, found)
    report("decontaminate", rows, differences=[{"pair": p, "class": why} for p, why in differ.items()],
           unprotected=int((~runs.protected).sum()), documents=len(ids))  # fmt: skip
    report("decontaminate_speed", speed(text, evaluation, options.rounds), rounds=options.rounds)


if __name__ == "__main__":
    main()
