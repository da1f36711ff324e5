"""Documents into packed token ids, against datatrove's DocumentTokenizer with the same tokenizer, two workers each.

    python tests/benchmarks/tokenise.py DATA [--rounds 3] [--files GLOB ...]

DATA is the folder of the reference data. Its pool goes into a lake once, without exact copies; both programs then read
the same documents from Parquet (zstd): tamis its lake's, datatrove the mixture's. The tokenizer is a byte-level BPE of
32,000 tokens that is learned from part of the pool. Fresh processes, pinned to two processors, start-up included; the
first round is not counted. tamis does more: the origin of every document, SHA-256, a card and the catalogue. datatrove
runs as it is and with TOKENIZERS_PARALLELISM=false, which its processes may be better off with. That both wrote the
same documents is checked.
"""

import argparse
import json
import os
import shlex
import sys
from collections import Counter
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import side_by_side
import tamis
import tokenizers
import yaml
from tamis.features.byte_bpe import END, train_tokenizer

WORKERS = 2
FOLDER = side_by_side.WORK / "tokenise"
POOL = ["crawl-*.jsonl*", "crawl-*.parquet"]
OUTPUT = {"format": "parquet", "shard_bytes": "8MB"}  # files enough for both of datatrove's workers
LEARNED_FROM, VOCABULARY = 8_000, 32_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", nargs="+", default=POOL, help="globs below the pool")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:WORKERS])
    mixture, tokenizer = prepared(options.data / "pool", options.files)
    megabytes = json.loads((mixture / "manifest.json").read_text())["bytes"] / 1e6
    python = side_by_side.peer_python(
        "datatrove-tokens", "datatrove[io]==0.10.1", f"tokenizers=={tokenizers.__version__}"
    )
    script = Path(__file__).with_name("tokenise_datatrove.py")
    theirs = shlex.join(map(str, [python, script, mixture, FOLDER / "theirs", tokenizer, END, WORKERS]))
    ours = shlex.join([sys.executable, "-m", "tamis.pipelines.cli", "export", "all", "-q", "--format", "tokens",
                       "--tokenizer", str(tokenizer), "--output", str(FOLDER / "ours")])  # fmt: skip
    clean = f"rm -rf theirs ours; grep -l dtype lake/mixtures/all/*/manifest.json | xargs -r -n1 dirname | xargs -r rm -rf; cd {FOLDER} && "  # noqa: E501
    commands = {
        "datatrove": ["sh", "-c", clean + theirs],
        "datatrove, TOKENIZERS_PARALLELISM=false": ["sh", "-c", f"{clean}TOKENIZERS_PARALLELISM=false {theirs}"],
        "tamis": ["sh", "-c", clean + ours],
    }
    environment = {k: v for k, v in os.environ.items() if k not in ("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS")}
    found = {name: [] for name in commands}
    same = {}
    for number in range(options.rounds + 1):
        for name, command in commands.items():
            with (FOLDER / "log").open("w") as log:
                usage = side_by_side.measure(command, cwd=FOLDER, stdout=log, stderr=log, env=environment)
            found[name] += [usage] if number else []
            if number == 0:
                same[name] = written_by_tamis() if name == "tamis" else written_by_datatrove()
                assert same[name] == same["datatrove"], f"{name} wrote other documents than datatrove"
    rows = [
        {"program": name, "MB": round(megabytes), **asdict(u := side_by_side.median(usages)),
         "MB/s": megabytes / u.wall_s} for name, usages in found.items()
    ]  # fmt: skip
    walls = {name: [u.wall_s for u in usages] for name, usages in found.items()}
    ratios = {f"{name} over tamis": side_by_side.ratio(times, walls["tamis"]) for name, times in walls.items()}
    documents, tokens = sum(same["tamis"].values()), sum(n * times for (n, _), times in same["tamis"].items())
    more = {"wall, ratio": ratios, "documents": documents, "tokens": tokens}
    print(json.dumps(more, indent=1))
    side_by_side.report("tokenise", rows, **more)


def prepared(pool, patterns):
    """Bring the pool into a lake; return its documents as a mixture in Parquet, and the tokenizer."""
    flow = {"corpus": "pool", "steps": [{"name": "twins", "dedup": "exact"}], "outputs": [OUTPUT]}
    files = [f"{pool}/{pattern}" for pattern in patterns]
    config = {"version": 1, "lake": "lake", "corpora": {"pool": {"files": files}}, "flows": {"all": flow}}
    (FOLDER / "flows.yaml").write_text(yaml.safe_dump(config))
    run = tamis.run(FOLDER / "flows.yaml", "all")
    tokenizer = FOLDER / "tokenizer.json"
    if not tokenizer.exists():
        query = f"select text from text order by hash(doc_id) limit {LEARNED_FROM}"
        train_tokenizer((row[0] for row in tamis.sql(run.lake, query).fetchall()), VOCABULARY).save(str(tokenizer))
    return run.outputs[0], tokenizer


def written_by_tamis():
    """Return how often each document was written, as its length and digest."""
    found = Counter()
    for path in sorted((FOLDER / "ours").glob("tokens-*.bin")):
        spans = pq.read_table(path.with_name(path.name.replace("tokens", "spans")).with_suffix(".parquet"))
        found += counted(np.fromfile(path, np.uint16), np.cumsum(spans.column("length").to_numpy()))
    return found


def written_by_datatrove():
    found = Counter()
    for path in sorted((FOLDER / "theirs").glob("*.ds")):
        found += counted(np.fromfile(path, np.uint16), np.fromfile(f"{path}.index", np.uint64).astype(np.int64))
    return found


def counted(ids, ends):
    """Count documents of a file; the empty ones, of which only tamis keeps the end token, are left out."""
    pieces = np.split(ids, ends[:-1])
    return Counter(
        (len(piece), blake2b(piece.tobytes(), digest_size=16).digest()) for piece in pieces if len(piece) > 1
    )


if __name__ == "__main__":
    main()
