"""The loops of k-means: sums over the rows of each cluster and the weights of its seeds, in float64 and row order."""

import math
from typing import Any

import numpy as np
from numba import njit

from .nearest_kernels import Float32s, Float64s, Int64s


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
        scale = float(counts[c])
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
def logarithms(values: Float64s, out: Float64s) -> None:
    """Write the logarithms, libm's: NumPy's last bits follow the processor. 0 has -inf, what is below has NaN."""
    for i in range(len(out)):
        out[i] = math.log(values[i]) if values[i] > 0.0 else -np.inf if values[i] == 0.0 else np.nan


@njit(nogil=True, cache=True)
def log_weights(weights: Float64s, gumbels: Float64s, out: Float64s) -> None:
    """Write log(weight) + Gumbel number; -inf for weight 0."""
    for i in range(len(out)):
        out[i] = math.log(weights[i]) + gumbels[i] if weights[i] > 0.0 else -np.inf


@njit(nogil=True, cache=True)
def try_seed(columns: Float32s, place: int, weights: Float64s, before: Float32s, after: Float32s) -> Any:
    """Write each column's squared distance to the nearest seed if `place` becomes one; return their weighted sum.

    Vectors are columns: so the loop over them is the inner one, and fast although each adds up in a fixed order.
    """
    after[:] = 0
    for k in range(len(columns)):
        at = columns[k, place]
        for j in range(columns.shape[1]):
            step = columns[k, j] - at
            after[j] += step * step
    total = 0.0
    for j in range(len(after)):
        after[j] = min(before[j], after[j])
        total += weights[j] * after[j]
    return total


@njit(nogil=True, cache=True)
def silhouettes(columns: Float32s, cluster: Int64s, counts: Int64s, spherical: bool, out: Float64s) -> None:
    """Write the silhouette of each column; `counts` are the columns in each cluster.

    Distances are Euclidean; if spherical half their squares, which is 1 - dot product at length 1.
    """
    d, n = columns.shape
    sums, distance = np.zeros((n, len(counts))), np.empty(n)
    for i in range(n):
        distance[:i] = 0.0
        for k in range(d):
            at = np.float64(columns[k, i])
            for j in range(i):
                step = np.float64(columns[k, j]) - at
                distance[j] += step * step
        for j in range(i):
            far = distance[j] / 2 if spherical else math.sqrt(distance[j])
            sums[i, cluster[j]] += far
            sums[j, cluster[i]] += far
    for i in range(n):
        own = cluster[i]
        other = np.inf
        for c in range(len(counts)):
            if c != own and counts[c] > 0:
                other = min(other, sums[i, c] / counts[c])
        inner = sums[i, own] / max(1, counts[own] - 1)
        alone = counts[own] == 1 or other == np.inf or max(inner, other) == 0.0
        out[i] = 0.0 if alone else (other - inner) / max(inner, other)
