"""k-means whose clusters depend on the data alone: exact assignments, sums in a fixed order, keyed seeds.

TODO-HEADER
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .blas_threads import usable_threads
from .keyed import mix64
from .kmeans_kernels import Float32s, Float64s, Int64s, add_up, move_centroids, sum_rows, sum_values
from .kmeans_seeds import Keys, seed_rows
from .nearest import nearest


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
) -> Clusters:
    """Fit k-means by Lloyd's iterations (1982) and return the best of `n_init` runs, the first one of equals.

    `x` is (n, d), of length 1 (or 0) if spherical (Dhillon and Modha, 2001); `keys` are those of the documents. A run ends
    when an iteration lowers the inertia by at most `tol` of it, when nothing moves, or after `max_iter`. A cluster that
    lost all rows starts again at the row that is farthest from its own centroid. `threads` (None: as many as BLAS may
    use) changes nothing but time.
    """
    threads = usable_threads() if threads is None else threads
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
    clusters = _Assigned(x, x[seed_rows(x, keys, n_clusters, key, threads)], spherical, threads)
    n_iterations, converged = 0, False
    while n_iterations < max_iter and not converged:
        moved = _Assigned(x, _moved(x, keys, clusters, threads), spherical, threads)
        n_iterations += 1
        converged = clusters.inertia - moved.inertia <= tol * clusters.inertia
        clusters = moved
    return clusters.used(n_iterations, converged)


class _Assigned:
    """Centroids, and the rows assigned to them."""

    def __init__(self, x: Float32s, centroids: Float32s, spherical: bool, threads: int) -> None:
        self.centroids, self.spherical = centroids, spherical
        self.index, value = nearest(x, centroids, spherical=spherical, threads=threads)
        self.distance = np.maximum(1 - value, 0.0) if spherical else value
        self.n_rows = np.bincount(self.index, minlength=len(centroids))
        self.inertia = add_up(self.distance)

    def used(self, n_iterations: int, converged: bool) -> Clusters:
        """Return the clusters that have rows."""
        sums, used = np.zeros(len(self.centroids)), np.flatnonzero(self.n_rows)
        sum_values(self.distance, self.index, sums)
        n_sample = self.n_rows[used]
        return Clusters(
            self.centroids[used], n_sample, sums[used] / n_sample, self.inertia, self.spherical, n_iterations, converged
        )


def _moved(x: Float32s, keys: Keys, clusters: _Assigned, threads: int) -> Float32s:
    """Return the centroids of the rows that are assigned to each, and far rows instead of those without any."""
    sums = np.zeros(clusters.centroids.shape)
    if threads < 2:
        sum_rows(x, clusters.index, 0, 1, sums)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: sum_rows(x, clusters.index, part, threads, sums), range(threads)))
    centroids = clusters.centroids.copy()
    move_centroids(sums, clusters.n_rows, clusters.spherical, centroids)
    empty = np.flatnonzero(clusters.n_rows == 0)
    if len(empty):
        far = np.lexsort((keys, -clusters.distance))[: len(empty)]
        far = far[clusters.distance[far] > 0]
        centroids[empty[: len(far)]] = x[far]
    return centroids
