"""k-means whose clusters depend on the data alone: exact assignments, sums in a fixed order, keyed seeds.

An iteration is one product of matrices, at BLAS speed. Seeds and first iterations look at 64 keyed rows a cluster only.
For 100,000 vectors of 384 numbers around 2,000 uneven centres and 1,000 clusters, a fit with the defaults takes 9.6
processor seconds for an inertia of 32,676. Ten iterations of scikit-learn from random rows take 9.7 s for 36,560; from
its k-means++ 8.5 s for 32,211, after 140 s for the seeds. With 100 clusters: 0.9 s for 81,891; 1.5 s for 82,873; 1.2 s
for 81,754, after 41 s. Single runs on two shared cores.

A pool of 10^9 documents is not fitted: 256 rows a cluster are, which the caller draws by key (393 MB for 1,000 clusters
of 384 numbers, and a quarter more for the first iterations). `Clusters.assign` then sees the pool once, row group by
row group; beside that it keeps the centroids and 8 MB of products a thread. A million such vectors took 13.5 + 9.9
processor seconds and at most 1.1 GB, of which 0.8 may be pages of the mapped input; 100,000 took 10.4 + 1.0 s.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .blas_threads import usable_threads
from .keyed import mix64
from .kmeans_kernels import add_up, move_centroids, sum_rows, sum_values
from .kmeans_seeds import Keys, keyed_part, seed_rows
from .nearest import nearest
from .nearest_kernels import Float32s, Float64s, Int64s

PART = 64
"""Rows a cluster for the seeds and the first iterations."""


@dataclass(frozen=True)
class Clusters:
    """Clusters of a sample; all have rows, so there are fewer than asked for where it has fewer different ones."""

    centroids: Float32s
    """(k, d); of length 1 if spherical."""
    n_sample: Int64s
    """(k,): rows of the sample in each."""
    mean_distance: Float64s
    """(k,): of these rows to their centroid, as `assign` gives it."""
    inertia: float
    """Sum of the distances of the sample."""
    spherical: bool
    n_iterations: int
    converged: bool
    """Whether `tol` was reached within `max_iter` iterations."""

    def assign(self, x: Float32s, *, threads: int = 1) -> tuple[Int64s, Float64s]:
        """Return the nearest cluster of each row and its distance, at least 0; -1 and inf without clusters.

        The distance is the squared Euclidean one; 1 - dot product if spherical.
        """
        index, value = nearest(x, self.centroids, spherical=self.spherical, threads=threads)
        return index, np.maximum(1 - value, 0.0) if self.spherical else value


def fit_clusters(
    x: Float32s,
    keys: Keys,
    n_clusters: int,
    *,
    spherical: bool,
    n_init: int = 1,
    max_iter: int = 20,
    tol: float = 1e-3,
    key: int,
    threads: int | None = None,
    start: Float32s | None = None,
) -> Clusters:
    """Fit k-means by Lloyd's iterations (1982) and return the best of `n_init` runs, the first one of equals.

    With `start`, centroids to begin at, there is one run, of as many clusters at most; `key` changes nothing then.

    `x` is (n, d), rows of length 1 (or 0) if spherical (Dhillon and Modha, 2001); `keys` are those of the documents. A
    run ends when an iteration lowers the inertia by at most `tol` of it, when nothing moves, or after `max_iter`. A
    cluster that lost all rows starts again at the row that is farthest from its own centroid, equals by key; one that
    has none in the end is left out. `threads` (None: as many as BLAS may use) changes nothing but time.
    """
    threads = usable_threads() if threads is None else threads
    if start is not None:
        clusters, n_iterations, converged = _lloyd(_Assigned(x, keys, start, spherical, threads), max_iter, tol)
        return clusters.used(n_iterations, converged)
    best = None
    for run in range(n_init):
        found = _run(x, keys, n_clusters, spherical, max_iter, tol, int(mix64(np.uint64((key + run) % 2**64))), threads)
        if best is None or found.inertia < best.inertia:
            best = found
    if best is None:
        raise ValueError(f"n_init is {n_init}, expected at least 1")
    return best


def _run(
    x: Float32s, keys: Keys, n_clusters: int, spherical: bool, max_iter: int, tol: float, key: int, threads: int
) -> Clusters:
    part = keyed_part(keys, PART * n_clusters, key)
    if 2 * len(part) > len(x):
        seeds = x[seed_rows(x, keys, n_clusters, key, threads)]
    else:
        x_part, keys_part = x[part], keys[part]
        seeds = x_part[seed_rows(x_part, keys_part, n_clusters, key, threads)]
        seeds = _lloyd(_Assigned(x_part, keys_part, seeds, spherical, threads), max_iter, tol)[0].centroids
    clusters, n_iterations, converged = _lloyd(_Assigned(x, keys, seeds, spherical, threads), max_iter, tol)
    return clusters.used(n_iterations, converged)


def _lloyd(clusters: "_Assigned", max_iter: int, tol: float) -> tuple["_Assigned", int, bool]:
    """Return the clusters after the last iteration, the number of iterations, and whether that was enough."""
    for i in range(1, max_iter + 1):
        moved = clusters.moved()
        gain, clusters, inertia = clusters.inertia - moved.inertia, moved, clusters.inertia
        if gain <= tol * inertia:
            return clusters, i, True
    return clusters, max_iter, False


class _Assigned:
    """Centroids, and the rows assigned to them."""

    def __init__(self, x: Float32s, keys: Keys, centroids: Float32s, spherical: bool, threads: int) -> None:
        self.x, self.keys, self.centroids, self.spherical, self.threads = x, keys, centroids, spherical, threads
        self.index, value = nearest(x, centroids, spherical=spherical, threads=threads)
        self.distance = np.maximum(1 - value, 0.0) if spherical else value
        self.n_rows = np.bincount(self.index, minlength=len(centroids))
        self.inertia = add_up(self.distance)

    def moved(self) -> "_Assigned":
        """Assign to the means of the clusters, and to far rows instead of those without any."""
        sums = np.zeros(self.centroids.shape)
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(lambda part: sum_rows(self.x, self.index, part, self.threads, sums), range(self.threads)))
        centroids = self.centroids.copy()
        move_centroids(sums, self.n_rows, self.spherical, centroids)
        empty = np.flatnonzero(self.n_rows == 0)
        if len(empty):
            far = np.lexsort((self.keys, -self.distance))[: len(empty)]
            far = far[self.distance[far] > 0]
            centroids[empty[: len(far)]] = self.x[far]
        return _Assigned(self.x, self.keys, centroids, self.spherical, self.threads)

    def used(self, n_iterations: int, converged: bool) -> Clusters:
        """Return the clusters that have rows."""
        sums, used = np.zeros(len(self.centroids)), np.flatnonzero(self.n_rows)
        sum_values(self.distance, self.index, sums)
        n_sample = self.n_rows[used]
        return Clusters(
            self.centroids[used], n_sample, sums[used] / n_sample, self.inertia, self.spherical, n_iterations, converged
        )
