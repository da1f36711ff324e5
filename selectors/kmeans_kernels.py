"""The loops of k-means: sums over the rows of each cluster and the weights of its seeds, in float64 and row order."""

import math
from typing import Any

import numpy as np
from numba import njit

from .nearest_kernels import Float32s, Float64s, Int64s, squared_distance


@njit(nogil=True, cache=True)
def sum_rows(x: Float32s, index: Int64s, part: int, n_parts: int, sums: Float64s) -> None:
    """Add the rows of every `n_parts`-th cluster to its sum, in row order: parts may run beside each other."""
    for i in range(len(x)):
        cluster = index[i]
        if cluster % n_parts == part:
            for k in range(x.shape[1]):
                sums[cluster, k] += np.float64(x[i, k])


@njit(nogil=True, cache=True)
def sum_values(values: Float64s, index: Int64s, sums: Float64s) -> None:
    """Add each row's value to the sum of its cluster, in row order."""
    for i in range(len(values)):
        sums[index[i]] += values[i]


@njit(nogil=True, cache=True)
def move_centroids(sums: Float64s, counts: Int64s, spherical: bool, centroids: Float32s) -> None:
    """Write the mean of each cluster's rows (spherical: of length 1); one without rows or direction stays."""
    for c in range(len(centroids)):
        scale = np.float64(counts[c])
        if spherical:
            scale = 0.0
            for k in range(sums.shape[1]):
                scale += sums[c, k] * sums[c, k]
            scale = math.sqrt(scale)
        if scale > 0.0:
            for k in range(sums.shape[1]):
                centroids[c, k] = sums[c, k] / scale


@njit(nogil=True, cache=True)
def add_up(values: Float64s) -> Any:
    """Return the sum, from the first to the last."""
    total = 0.0
    for value in values:
        total += value
    return total


@njit(nogil=True, cache=True)
def log_weights(weights: Float64s, gumbels: Float64s, out: Float64s) -> None:
    """Write log(weight) + Gumbel number; -inf for weight 0."""
    for i in range(len(out)):
        out[i] = math.log(weights[i]) + gumbels[i] if weights[i] > 0.0 else -np.inf


@njit(nogil=True, cache=True)
def lower_distances(x: Float32s, row: int, distance: Float64s) -> None:
    """Lower each row's squared distance to that from one row of x, where this is nearer."""
    for i in range(len(x)):
        distance[i] = min(distance[i], squared_distance(x, i, x, row))


@njit(nogil=True, cache=True)
def silhouettes(x: Float32s, cluster: Int64s, counts: Int64s, out: Float64s) -> None:
    """Write the silhouette of each row; `counts` are the rows in each cluster."""
    n, d, n_clusters = len(x), x.shape[1], len(counts)
    sums = np.zeros((n, n_clusters))
    for i in range(n):
        for j in range(i):
            total = 0.0
            for k in range(d):
                total += (np.float64(x[i, k]) - np.float64(x[j, k])) ** 2
            distance = math.sqrt(total)
            sums[i, cluster[j]] += distance
            sums[j, cluster[i]] += distance
    for i in range(n):
        own = cluster[i]
        other = np.inf
        for c in range(n_clusters):
            if c != own and counts[c] > 0:
                other = min(other, sums[i, c] / counts[c])
        inner = sums[i, own] / max(1, counts[own] - 1)
        wider = max(inner, other)
        out[i] = (other - inner) / wider if counts[own] > 1 and wider > 0.0 else 0.0
