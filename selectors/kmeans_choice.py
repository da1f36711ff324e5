"""How many clusters: the number whose clusters are told apart best, by the silhouette of a sample.

A row's silhouette compares its mean distance to its own cluster with that to the nearest other one: from -1 to 1, and 0
for a row alone in its cluster (Rousseeuw, 1987). All distances of the sample are computed, hence its limit: at 4,096
rows of 384 numbers 0.5 s a candidate. They add up in a fixed order in float64, so the choice is exact too.
"""

from collections.abc import Sequence

import numpy as np

from ..storage.errors import SelectionError
from .kmeans_fit import fit_clusters
from .kmeans_kernels import add_up, silhouettes
from .kmeans_seeds import Keys, keyed_part
from .nearest_kernels import Float32s

SAMPLE = 4096


def choose_n_clusters(
    x: Float32s,
    keys: Keys,
    candidates: Sequence[int],
    *,
    spherical: bool,
    n_init: int = 1,
    max_iter: int = 20,
    tol: float = 1e-3,
    key: int,
    threads: int | None = None,
) -> tuple[int, dict[int, float]]:
    """Return the candidate with the largest mean silhouette, the smallest of equals, and the mean of each.

    The clusters are fitted to all rows as by `fit_clusters`, their silhouettes are those of at most 4,096 rows drawn by
    key. A single cluster has 0. Raises SelectionError without candidates.
    """
    if not candidates:
        raise SelectionError("no number of clusters to choose from: give at least one candidate")
    sample = np.ascontiguousarray(x[keyed_part(keys, SAMPLE, key)])
    columns, means = np.ascontiguousarray(sample.T), {}
    for n_clusters in sorted(set(candidates)):
        clusters = fit_clusters(
            x,
            keys,
            n_clusters,
            spherical=spherical,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            key=key,
            threads=threads,
        )
        index, _ = clusters.assign(sample)
        found = np.zeros(len(sample))
        silhouettes(columns, index, np.bincount(index, minlength=len(clusters.n_sample)), spherical, found)
        means[n_clusters] = float(add_up(found)) / max(1, len(found))
    return max(means, key=lambda n: (means[n], -n)), means
