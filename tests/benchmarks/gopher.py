"""Gopher's quality rules: tamis beside datatrove, how fast and how often with the same verdict.

    python tests/benchmarks/gopher.py DATA [--rounds 3] [--sample-mb 9]

DATA has `pool/` and `labels.parquet` (id, lang). Both filter the same English documents, held in memory, in processes
that alternate: datatrove 0.10 by a call of GopherQualityFilter a document, tamis by the rules of the flow `gopher` in
flows.yaml, text_stats included. The figure is CPU seconds of the filtering alone, on a sample at regular distances;
verdicts are compared on all documents. A difference is put down to the rule that decided, and to the kind of
characters between two spaces in which counting words in the two ways moved that rule's margin most.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

import polars as pl
import pyarrow as pa
from side_by_side import REPOSITORY, WORK, alternate, measure, peer_python, ratio, report
from tamis.features.text_stats import TextStats
from tamis.pipelines.loading import load_config
from tamis.pipelines.pure_sql import connect
from tamis.pipelines.rules import compile_rules, first_failing
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import ReadOptions, read_records

GLOBS = ["crawl-0[0-8].*", "crawl-09/*.txt"]
PEER = ("datatrove[processing]==0.10.1", "spacy==3.8.18")
PEER_FILE = Path(__file__).with_name("gopher_datatrove.py")
FOLDER = WORK / "gopher"
BATCH_BYTES = 8_000_000
REPEATS = 5

#: The rules of the flow `gopher`, and datatrove's names of them.
RULES = {
    "short": "gopher_short_doc",
    "long": "gopher_long_doc",
    "short_words": "gopher_below_avg_threshold",
    "long_words": "gopher_above_avg_threshold",
    "hashes": "gopher_too_many_hashes",
    "ellipses": "gopher_too_many_ellipsis",
    "bullets": "gopher_too_many_bullets",
    "ellipsis_ends": "gopher_too_many_end_ellipsis",
    "no_letters": "gopher_below_alpha_threshold",
    "no_stop_words": "gopher_enough_stop_words",
}

#: What stands between two spaces, by the first pattern that is found in it.
KINDS = {
    "address or path": r"://|www\.|\S@\S|\w\.(com|org|net|edu|html?)\b|\w/\w+/|^/\w|\\",
    "contraction or possessive": r"(?i)\w['’](s|t|d|m|re|ve|ll|em)\b|s['’](\W|$)",
    "number with marks": r"\d[.,:/\-–]\d|[$£€#]\d|\d%",
    "initial or abbreviation": r"\b[A-Za-z]\.|\b[A-Z][a-z]{0,3}\.$",
    "dash or hyphen": r"\w[-–—]+\w|--|[–—]",
    "underscore": r"_",
    "marks inside a word": r"\w[^\w\s]+\w",
    "several marks at an end": r"[^\w\s]{2}",
}
#: How far a document is from failing a rule, by words with a letter, words, words that are no marks, and their length.
MARGINS = {
    "gopher_short_doc": lambda alpha, words, real, chars: real,
    "gopher_below_avg_threshold": lambda alpha, words, real, chars: chars - 3 * real,
    "gopher_above_avg_threshold": lambda alpha, words, real, chars: 10 * real - chars,
    "gopher_below_alpha_threshold": lambda alpha, words, real, chars: alpha - 0.8 * words,
}


def english(data, out):
    """Write the pool's English documents as JSON lines; return how many and their bytes of text."""
    labels = pl.read_parquet(data / "labels.parquet", columns=["id", "lang"])
    wanted = set(labels.filter(pl.col("lang") == "en")["id"])
    n = n_bytes = 0
    with out.open("w", encoding="utf-8") as file:
        for source in list_inputs(GLOBS, data / "pool"):
            for batch in read_records(source, ReadOptions(file_id="stem")):
                for row in batch.select(["doc_id", "text"]).to_pylist() if isinstance(batch, pa.RecordBatch) else []:
                    if row["doc_id"] in wanted:
                        file.write(json.dumps({"id": row["doc_id"], "text": row["text"]}) + "\n")
                        n, n_bytes = n + 1, n_bytes + len(row["text"].encode())
    return n, n_bytes


def sample(source, out, share):
    """Write documents at regular distances; return their bytes of text."""
    lines = source.read_text(encoding="utf-8").splitlines()
    kept = [lines[int(i / share)] for i in range(int(len(lines) * share))]
    out.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    return sum(len(json.loads(line)["text"].encode()) for line in kept)


def filter_with_tamis(source, out):
    """Filter documents held in memory, as `gopher_datatrove.py` does: reasons and CPU seconds."""
    (step,) = load_config(REPOSITORY / "flows.yaml").config.flows["gopher"].steps
    stats = TextStats()
    rules = compile_rules(step.filter, {"stats": stats.columns})
    batches = list(_batches([json.loads(line)["text"] for line in source.read_text(encoding="utf-8").splitlines()]))
    _reasons(stats, rules, [batches[0].slice(0, 10)])
    begin = time.process_time()
    for _ in range(REPEATS):
        reasons = _reasons(stats, rules, batches)
    out.write_text(json.dumps({"cpu_s": (time.process_time() - begin) / REPEATS, "reasons": reasons}))


def _batches(texts):
    part, size = [], 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size > BATCH_BYTES or text is texts[-1]:
            yield pa.record_batch({"text": pa.array(part, pa.large_string())})
            part, size = [], 0


def _reasons(stats, rules, batches):
    found = []
    with connect() as connection:
        for batch in batches:
            numbers = stats.compute(batch)
            names = [f"stats.{name}" for name in numbers.schema.names]
            row = pa.array(range(batch.num_rows), pa.int64())
            columns = pa.RecordBatch.from_arrays([row, *numbers.columns], ["row", *names])
            found += first_failing(rules, columns, connection).to_pylist()
    return found


def cause(text, words, reason, dropped_by):
    """Return the kind of characters between two spaces that moved the rule's margin most towards the difference."""
    if reason not in MARGINS:
        return "counted otherwise"
    moved, words = defaultdict(float), iter(words)
    for chunk in text.split():
        theirs, left = [], len(chunk)
        while left > 0 and (word := next(words, None)):
            theirs.append(word)
            left -= len(word[0])
        ours = [(word, True) for word in re.findall(r"\w+", chunk)]
        ours += [(mark, False) for mark in re.findall(r"(?!(?<=\w).(?=\w))[^\w\s]", chunk)]
        kind = next((name for name, pattern in KINDS.items() if re.search(pattern, chunk)), "other")
        moved[kind] += MARGINS[reason](*_counts(theirs)) - MARGINS[reason](*_counts(ours))
    return (min if dropped_by == "datatrove" else max)(moved, key=moved.get)


def _counts(words):
    real = [w for w, counts in words if counts]
    return sum(any(map(str.isalpha, w)) for w, _ in words), len(words), len(real), sum(map(len, real))


def differences(documents, peer, theirs, ours):
    """Return a row for each class of documents with two verdicts: who drops, by which rule, why, how many, an id."""
    differing = [i for i, (p, t) in enumerate(zip(theirs, ours, strict=True)) if (p is None) != (t is None)]
    lines = documents.read_text(encoding="utf-8").splitlines()
    source, out = FOLDER / "differing.jsonl", FOLDER / "words.json"
    source.write_text("".join(f"{lines[i]}\n" for i in differing), encoding="utf-8")
    measure([peer, PEER_FILE, source, out, "words"])
    classes = defaultdict(list)
    for i, words in zip(differing, json.loads(out.read_text()), strict=True):
        document, by = json.loads(lines[i]), "tamis" if theirs[i] is None else "datatrove"
        reason = theirs[i] or ours[i]
        classes[by, reason.removeprefix("gopher_"), cause(document["text"], words, reason, by)].append(document["id"])
    return [
        {"dropped by": by, "rule": rule, "put down to": kind, "documents": len(ids), "example": ids[0]}
        for (by, rule, kind), ids in sorted(classes.items(), key=lambda found: (found[0][0], -len(found[1])))
    ]


def compare_speed(commands, outputs, mb, rounds):
    """Return rows of who, MB, CPU seconds and MB a core-second, and the ratio."""
    seconds = {who: [] for who in commands}
    for _ in range(rounds):
        alternate(commands, 1)
        for who, out in outputs.items():
            seconds[who].append(json.loads(out.read_text())["cpu_s"])
    rows = [
        {"who": who, "MB": mb, "CPU s": statistics.median(found), "MB a core-second": mb / statistics.median(found)}
        for who, found in seconds.items()
    ]
    return rows, ratio(seconds["datatrove"], seconds["tamis"])


def compare_verdicts(documents, commands, outputs):
    """Return the figures of agreement and the table of differences."""
    alternate(commands, 1)
    theirs, ours = (json.loads(outputs[who].read_text())["reasons"] for who in ("datatrove", "tamis"))
    ours = [reason and RULES[reason] for reason in ours]
    pairs = list(zip(theirs, ours, strict=True))
    long = [pair for pair in pairs if "gopher_short_doc" not in pair]
    figures = {
        "documents": len(pairs),
        "same_verdict": sum((p is None) == (t is None) for p, t in pairs) / len(pairs),
        "same_verdict_of_50_words": sum((p is None) == (t is None) for p, t in long) / len(long),
        "same_reason": sum(p == t for p, t in pairs) / len(pairs),
        "kept_by_datatrove": sum(p is None for p, _ in pairs),
        "kept_by_tamis": sum(t is None for _, t in pairs),
    }
    return figures, differences(documents, commands["datatrove"][0], theirs, ours)


def commands_for(source, peer):
    """Return what filters a file's documents, and where it writes."""
    outputs = {who: source.with_suffix(f".{who}.json") for who in ("datatrove", "tamis")}
    commands = {
        "datatrove": [peer, PEER_FILE, source, outputs["datatrove"]],
        "tamis": [sys.executable, __file__, source, "--write", outputs["tamis"]],
    }
    return commands, outputs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample-mb", type=float, default=9)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:  # a process of this benchmark
        filter_with_tamis(options.data, options.write)
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    documents, part = FOLDER / "english.jsonl", FOLDER / "sample.jsonl"
    n, n_bytes = english(options.data, documents)
    mb = sample(documents, part, min(1, options.sample_mb * 1e6 / n_bytes)) / 1e6
    peer = peer_python("datatrove", *PEER)
    rows, faster = compare_speed(*commands_for(part, peer), mb, options.rounds)
    figures, classes = compare_verdicts(documents, *commands_for(documents, peer))
    report("gopher", rows, ratio=faster, mb_compared=n_bytes / 1e6, **figures)
    report("gopher_differences", classes)
    print(f"{faster:.0f} times as fast; of {n:,} documents {figures['same_verdict']:.2%} with the same verdict")


if __name__ == "__main__":
    main()
