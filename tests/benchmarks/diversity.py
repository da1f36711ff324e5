"""What the clustering family chooses: how many domains, how near to the rest of the pool, how many copies.

    python tests/benchmarks/diversity.py DATA [--seeds 5] [--clusters 200]

DATA has `labels.parquet` and `near_dups.parquet`. The documents and their MiniLM vectors are those that `embeddings.py`
leaves behind (about 20,000 of the pool, whole groups of copies). Each way chooses 5% of the tokens, for each seed;
`semdedup` keeps half of the documents, and as many tokens of what is left are drawn at random.

Of the chosen: documents, the entropy of the 26 domains over documents and over tokens (bits), the mean distance
(1 - cosine) of a document of the pool to its nearest chosen one, and the share of the chosen that are a copy of another
chosen one. A second table says which copies `semdedup` finds at each epsilon: of the exact ones all but the first of
each text, of the near ones those where one of the two went, by kind.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import tamis
import yaml
from embeddings import FAST
from embeddings import FOLDER as EMBEDDED
from side_by_side import WORK, report
from tamis.selectors.nearest import nearest
from tamis.selectors.vectors import unit_rows

FOLDER = WORK / "diversity"
CUT = {"budget": {"tokens": "5%", "of": "corpus"}}
RANDOM = {"name": "pick", "select": "random", "cut": CUT}
EPSILONS = [0.001, 0.01, 0.03, 0.05, 0.1, 0.2]
NOT_FARTHER = "kmeans, centroid"
FOUND_EXACT = 0.95


def ways(clusters):
    """Return the steps of each way."""
    given = {"vectors": "minilm", "clusters": {"count": clusters}}
    kmq = given | {"sampler": "kmq", "quality": "stats.alpha_token_share"}
    steps = {
        "random": [RANDOM],
        "kmeans, random": [{"name": "pick", "select": "kmeans", "with": given, "cut": CUT}],
        NOT_FARTHER: [{"name": "pick", "select": "kmeans", "with": given | {"sampler": "centroid"}, "cut": CUT}],
        "kmeans, kmq": [{"name": "pick", "select": "kmeans", "with": kmq, "cut": CUT}],
        "kmeans, random, equal shares": [
            {"name": "pick", "select": "kmeans", "with": given | {"shares": "equal"},
             "cut": CUT | {"per": "cluster", "redistribute": True}},
        ],
        "density_pruning": [{"name": "pick", "select": "density_pruning", "with": given, "cut": CUT}],
        "density_pruning, official temperature": [
            {"name": "pick", "select": "density_pruning", "with": given | {"mode": "official"}, "cut": CUT},
        ],
    }  # fmt: skip
    spherical = {"vectors": "minilm", "clusters": {"count": clusters, "spherical": True}}
    steps["semdedup to half, random"] = [
        {"name": "copies", "dedup": "semdedup", "with": spherical | {"keep": 0.5}},
        RANDOM,
    ]
    return steps, {e: [{"name": "copies", "dedup": "semdedup", "with": spherical | {"epsilon": e}}] for e in EPSILONS}


def configuration(clusters):
    """Write flows.yaml with a flow a way; return its path."""
    steps, dedups = ways(clusters)
    flows = {f"w{i}": {"corpus": "sample", "steps": way} for i, way in enumerate(steps.values())}
    flows |= {f"e{i}": {"corpus": "sample", "steps": way} for i, way in enumerate(dedups.values())}
    features = {
        "minilm": {"use": "external", "files": ["vectors.parquet"], "join": "id", "values": ["vector"]},
        "stats": {"use": "text_stats"},
    }
    config = {
        "version": 1, "lake": "lake", "corpora": {"sample": {"files": ["sample.jsonl"]}}, "features": features,
        "flows": flows,
    }  # fmt: skip
    (FOLDER / "flows.yaml").write_text(yaml.safe_dump(config))
    return FOLDER / "flows.yaml"


def prepare(data):
    """Write the sample and its vectors; return ids and unit vectors."""
    if not (EMBEDDED / f"{FAST}.npy").exists():
        subprocess.run([sys.executable, Path(__file__).with_name("embeddings.py"), data], check=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    ids, texts = (json.loads((EMBEDDED / f"{name}.json").read_text()) for name in ("ids", "texts"))
    with (FOLDER / "sample.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": one, "text": text}) + "\n" for one, text in zip(ids, texts, strict=True))
    x = np.load(EMBEDDED / f"{FAST}.npy")
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
    pq.write_table(pa.table({"id": ids, "vector": column}), FOLDER / "vectors.parquet")
    return ids, unit_rows(column)[0]


def kept(config, flow, seed):
    run = tamis.run(config, flow, overrides=[f"seed={seed}"])
    return tamis.sql(run.lake, "select doc_id as id from selections where run = $1 and kept", [run.id]).pl()["id"]


class Truth:
    """What is known of the sample: domains, tokens, copies."""

    def __init__(self, data, ids, lake):
        self.place = {one: i for i, one in enumerate(ids)}
        labels = pl.read_parquet(data / "labels.parquet", columns=["id", "domain", "sha256_16"])
        tokens = tamis.sql(lake, "select doc_id as id, n_tokens from documents").pl()
        mine = pl.DataFrame({"id": ids}).join(labels, on="id", how="left", maintain_order="left")
        mine = mine.join(tokens, on="id", how="left", maintain_order="left")
        self.domain, self.tokens, text = mine["domain"].to_list(), mine["n_tokens"].to_numpy(), mine["sha256_16"]
        self.text = text.to_numpy()
        near = pl.read_parquet(data / "near_dups.parquet").filter(pl.col("id").is_in(ids) & pl.col("of_id").is_in(ids))
        self.near = [
            (self.place[a], self.place[b], kind) for a, b, kind in near.select("id", "of_id", "kind").iter_rows()
        ]

    def entropy(self, rows, weight):
        sums = {}
        for row, w in zip(rows, weight, strict=True):
            sums[self.domain[row]] = sums.get(self.domain[row], 0) + w
        p = np.array([s for s in sums.values() if s]) / sum(sums.values())
        return float(-(p * np.log2(p)).sum())

    def figures(self, rows, x):
        inside = np.zeros(len(x), bool)
        inside[rows] = True
        cosine = nearest(x, x[inside], spherical=True, threads=2)[1]
        near = {a for a, b, _ in self.near if inside[a] and inside[b]}
        return {
            "documents": len(rows),
            "entropy": self.entropy(rows, np.ones(len(rows))),
            "entropy, tokens": self.entropy(rows, self.tokens[rows]),
            "distance to the nearest": float(np.maximum(0, 1 - cosine).mean()),
            "exact copies": 1 - len(set(self.text[rows])) / len(rows),
            "near copies": len(near) / len(rows),
        }

    def found(self, rows):
        """Return which copies are gone when these rows stay."""
        inside = np.zeros(len(self.place), bool)
        inside[rows] = True
        copies = len(self.text) - len(set(self.text))
        left = inside.sum() - len(set(self.text[inside]))
        gone = {}
        for a, b, kind in sorted(self.near, key=lambda pair: pair[2]):
            gone.setdefault(kind, []).append(not (inside[a] and inside[b]))
        return {
            "kept": float(inside.mean()),
            "exact": 1 - left / max(1, copies),
            "texts lost": 1 - len(set(self.text[inside])) / len(set(self.text)),
            **{kind: float(np.mean(pairs)) for kind, pairs in gone.items()},
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--clusters", type=int, default=200)
    options = parser.parse_args()
    ids, x = prepare(options.data)
    config = configuration(options.clusters)
    kept(config, "w0", 0)
    truth = Truth(options.data.resolve(), ids, FOLDER / "lake")
    steps, dedups = ways(options.clusters)
    rows = []
    for number, who in enumerate(steps):
        found = []
        for seed in range(options.seeds):
            chosen = np.array([truth.place[one] for one in kept(config, f"w{number}", seed)])
            found.append(truth.figures(chosen, x))
        means = {name: float(np.mean([f[name] for f in found])) for name in found[0]}
        spread = float(np.std([f["distance to the nearest"] for f in found]))
        rows.append({"5% of the tokens": who, **means, "its deviation over seeds": spread})
        print(who, means, flush=True)
    copies = []
    for number, epsilon in enumerate(dedups):
        chosen = np.array([truth.place[one] for one in kept(config, f"e{number}", 0)])
        copies.append({"semdedup, epsilon": epsilon, **truth.found(chosen)})
    report("diversity_copies", copies, documents=len(ids), clusters=options.clusters)
    report("diversity", rows, documents=len(ids), clusters=options.clusters, seeds=options.seeds)
    distance = {row["5% of the tokens"]: row["distance to the nearest"] for row in rows}
    held = distance[NOT_FARTHER] < distance["random"] and all(row["exact"] >= FOUND_EXACT for row in copies)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
