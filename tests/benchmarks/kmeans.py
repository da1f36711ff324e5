"""k-means beside scikit-learn and faiss, and its time and memory from 10^5 to 10^6 vectors; each case is a process.

    python tests/benchmarks/kmeans.py [--rows 100000] [--large 1000000]

Vectors have length 1 and 384 numbers: 2,000 centres in random directions whose shares are Dirichlet(0.5), plus Gaussian
noise of length 0.6. Times are those of the fit alone; the inertia is over all points, in float64, by the same code."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from side_by_side import measure, peer_python, report

D = 384
N_ITERATIONS = 10
PEER = """
import sys, time, json, numpy as np, faiss
rows, k, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
x = np.load(rows)
fit = faiss.Kmeans(x.shape[1], k, niter=10, seed=1, max_points_per_centroid=256)
wall, cpu = time.monotonic(), time.process_time()
fit.train(x)
np.save(out, fit.centroids)
print(json.dumps([time.monotonic() - wall, time.process_time() - cpu]))
"""


def make_rows(n, seed=0):
    draw = np.random.default_rng(seed)
    shares = draw.dirichlet(np.full(2000, 0.5))
    centres = draw.standard_normal((2000, D), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    x = centres[draw.choice(2000, n, p=shares)]
    for start in range(0, n, 100_000):
        part = x[start : start + 100_000]
        part += draw.standard_normal(part.shape, dtype=np.float32) * np.float32(0.6 / D**0.5)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return x


def fit_ours(x, k):
    from tamis.selectors.kmeans_fit import fit_clusters

    return fit_clusters(x, doc_keys(len(x)), k, spherical=False, key=1).centroids


def fit_sklearn(name):
    def fit(x, k):
        from sklearn.cluster import KMeans, MiniBatchKMeans

        warnings.simplefilter("ignore")  # that ten iterations did not converge
        same = {"n_init": 1, "max_iter": N_ITERATIONS, "random_state": 1}
        if name == "mini-batch":
            return MiniBatchKMeans(k, batch_size=4096, init="random", **same).fit(x).cluster_centers_
        return KMeans(k, init=name, tol=0, **same).fit(x).cluster_centers_

    return fit


WAYS = {
    "tamis, defaults": fit_ours,
    "scikit-learn, random rows": fit_sklearn("random"),
    "scikit-learn, k-means++": fit_sklearn("k-means++"),
    "scikit-learn, MiniBatchKMeans": fit_sklearn("mini-batch"),
}


def doc_keys(n):
    return np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def inertia(x, centroids):
    from tamis.selectors.nearest import nearest

    return float(nearest(x, np.ascontiguousarray(centroids, np.float32), threads=2)[1].sum())


def one_fit(rows, way, k):
    """Fit in this process; print seconds and inertia."""
    x = np.load(rows)
    WAYS[way](x[:200], 2)  # compiles and imports
    wall, cpu = time.monotonic(), time.process_time()
    centroids = WAYS[way](x, k)
    print(json.dumps([time.monotonic() - wall, time.process_time() - cpu, inertia(x, centroids)]))


def one_growth(rows, k):
    """Fit 256 rows a cluster, assign all of them in row groups of stored float16."""
    import pyarrow as pa
    from tamis.selectors.kmeans_fit import fit_clusters
    from tamis.selectors.vectors import unit_rows

    stored = np.load(rows, mmap_mode="r")

    def vectors(start, n):
        part = np.ascontiguousarray(stored[start : start + n])
        return unit_rows(pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), D))[0]

    fit_clusters(vectors(0, 200), doc_keys(200), 2, spherical=False, key=1).assign(vectors(0, 10))
    begin = time.process_time()
    n = min(256 * k, len(stored))
    clusters = fit_clusters(vectors(0, n), doc_keys(n), k, spherical=False, key=1)
    fitted = time.process_time()
    total = sum(clusters.assign(vectors(start, 4096))[1].sum() for start in range(0, len(stored), 4096))
    print(json.dumps([fitted - begin, time.process_time() - fitted, float(total)]))


def run(*arguments):
    """Run a case in a process of its own; return what it printed."""
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def compare(folder, n, ks):
    rows = folder / "rows.npy"
    np.save(rows, make_rows(n))
    python, found = peer_python("faiss", "faiss-cpu==1.15.1", "numpy"), []
    for k in ks:
        for way in WAYS:
            wall, cpu, total = run("--fit", rows, way, k)
            found.append({"fit": way, "clusters": k, "CPU s": cpu, "wall s": wall, "inertia": total})
            print(found[-1], file=sys.stderr, flush=True)
        done = subprocess.run(
            [python, "-c", PEER, rows, str(k), folder / "c.npy"], check=True, stdout=subprocess.PIPE, text=True
        )
        wall, cpu = json.loads(done.stdout.splitlines()[-1])
        total = inertia(np.load(rows), np.load(folder / "c.npy"))
        found.append({"fit": "faiss", "clusters": k, "CPU s": cpu, "wall s": wall, "inertia": total})
    return found


def growth(folder, sizes, k):
    found = []
    for n in sizes:
        rows, answer = folder / f"{n}.npy", folder / "answer"
        np.save(rows, make_rows(n).astype(np.float16))
        with answer.open("w") as out:
            usage = measure([sys.executable, __file__, "--growth", rows, str(k)], stdout=out)
        fit, assign, total = json.loads(answer.read_text())
        row = {"vectors": n, "clusters": k, "fit CPU s": fit, "assign CPU s": assign, "peak MB": usage.peak_mb}
        found.append({**row, "inertia a vector": total / n})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--fit", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--growth", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        return one_fit(options.fit[0], options.fit[1], int(options.fit[2]))
    if options.growth:
        return one_growth(options.growth[0], int(options.growth[1]))
    with tempfile.TemporaryDirectory() as folder:
        report("kmeans", compare(Path(folder), options.rows, options.clusters))
        report("kmeans_growth", growth(Path(folder), (options.large // 10, options.large), max(options.clusters)))


if __name__ == "__main__":
    main()
