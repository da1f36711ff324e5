"""First centroids for k-means, chosen in rounds that double: k-means|| with keyed random numbers.

k-means++ (Arthur and Vassilvitskii, 2007) takes one row after the other, each with probability in proportion to D^2,
its squared distance to those taken before: k passes over all rows, which no matrix product can do together. Here a
round takes as many rows as were taken before it, up to a limit, so there are about twenty (k-means||, Bahmani et al.,
2012), and four times the number needed. The plain method then chooses among them, each with the weight of the rows
nearest to it, and each time the best of 2 + log k draws, as scikit-learn does. A draw is the largest log(weight) +
Gumbel number (Gumbel-max and top-k), so the seeds depend on rows and their keys, not on their order.
"""

import math

import numpy as np
import numpy.typing as npt

from .keyed import gumbel, mix64, uniform
from .kmeans_kernels import log_weights, try_seed
from .nearest import nearest
from .nearest_kernels import Float32s, Float64s, Int64s

Keys = npt.NDArray[np.uint64]

OVERSAMPLING = 4
ROUNDS = 16
"""A round takes at most 1/16 of all."""


def seed_rows(x: Float32s, keys: Keys, n_seeds: int, key: int, threads: int) -> Int64s:
    """Return the rows of at most `n_seeds` seeds, all different: fewer where x has fewer different rows."""
    n = OVERSAMPLING * n_seeds
    rows, weights = _candidates(x, keys, n, key, threads)
    if len(rows) <= n_seeds:
        return rows
    return rows[_plus_plus(x[rows], keys[rows], weights, n_seeds, _round_key(key, 1 << 32))]


def keyed_part(keys: Keys, size: int, key: int) -> Int64s:
    """Return the places of at most `size` rows drawn at random, in ascending order; equal draws by key."""
    order = np.lexsort((keys, uniform(keys, key)))
    return np.sort(order[:size])


def _candidates(x: Float32s, keys: Keys, n_wanted: int, key: int, threads: int) -> tuple[Int64s, Float64s]:
    """Return rows drawn in rounds by D^2, and the number of rows that are nearest to each."""
    rows = np.empty(0, np.int64)
    owner, distance = np.zeros(len(x), np.int64), np.ones(len(x))
    for i in range(n_wanted):
        size = min(max(1, len(rows)), max(1, n_wanted // ROUNDS), n_wanted - len(rows))
        new = _draw(distance, keys, size, _round_key(key, i))
        if not len(new):
            break
        found, to_new = nearest(x, x[new], threads=threads)
        nearer = to_new < distance if len(rows) else np.ones(len(x), bool)
        owner[nearer], distance[nearer] = found[nearer] + len(rows), to_new[nearer]
        rows = np.concatenate([rows, new])
    return rows, np.bincount(owner, minlength=len(rows)).astype(np.float64)


def _plus_plus(x: Float32s, keys: Keys, weights: Float64s, n_seeds: int, key: int) -> Int64s:
    """Return the places of seeds drawn one after the other, by weight times D^2: each is the best of some draws."""
    chosen: list[int] = []
    columns, distance = np.ascontiguousarray(x.T), np.full(len(x), np.inf, np.float32)
    n_draws = 2 + int(math.log(n_seeds))
    for i in range(n_seeds):
        tried: list[tuple[float, int, int, Float32s]] = []
        for place in _draw(weights * distance if chosen else weights, keys, n_draws, _round_key(key, i)).tolist():
            after = np.empty_like(distance)
            tried.append((try_seed(columns, place, weights, distance, after), len(tried), place, after))
        if not tried:
            break
        _, _, place, distance = min(tried, key=lambda one: one[:2])
        chosen.append(place)
    return np.array(chosen, np.int64)


def _draw(weights: Float64s, keys: Keys, size: int, key: int) -> Int64s:
    """Return the places of `size` draws without replacement, or of all weights above 0; equal draws by key."""
    draws = np.empty(len(weights))
    log_weights(weights, gumbel(keys, key), draws)
    size = min(size, int(np.count_nonzero(weights > 0)))
    if size < 1:
        return np.empty(0, np.int64)
    least = np.partition(draws, len(draws) - size)[len(draws) - size]
    places = np.flatnonzero(draws >= least)
    return places[np.lexsort((keys[places], -draws[places]))[:size]]


def _round_key(key: int, i: int) -> int:
    return int(mix64(np.uint64((key + i) % 2**64)))
