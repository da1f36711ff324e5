"""k-means: Lloyd's iterations as anyone would write them, the same bits always, and no trouble with little data."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from letters import Letters, vectors
from tamis.selectors import kmeans_fit
from tamis.selectors import nearest as nearest_module
from tamis.selectors.clustering import Clustering, find_clusters
from tamis.selectors.keyed import mix64
from tamis.selectors.kmeans_choice import choose_n_clusters
from tamis.selectors.kmeans_fit import Clusters, fit_clusters
from tamis.selectors.kmeans_kernels import logarithms, silhouettes
from tamis.selectors.kmeans_seeds import seed_rows
from tamis.storage.errors import SelectionError
from tamis.storage.lake import Lake
from tamis.storage.state import load_state, publish_state
from threadpoolctl import threadpool_limits

KEY = 12345


def doc_keys(n):
    return np.array([mix64(np.uint64(i)) for i in range(1, n + 1)], np.uint64)


def blobs(n, d, n_centres, spread=0.3, seed=0, spherical=False):
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((n_centres, d))[draw.integers(n_centres, size=n)] + spread * draw.standard_normal(
        (n, d)
    )
    if spherical:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


def plain_lloyd(x, centroids, spherical, n_iterations):
    """Return centroids and assignments in float64, without anything clever."""
    x, centroids = x.astype(np.float64), centroids.astype(np.float64)

    def assigned():
        if spherical:
            return (x @ centroids.T).argmax(axis=1)
        return ((x[:, None, :] - centroids[None]) ** 2).sum(axis=2).argmin(axis=1)

    for _ in range(n_iterations):
        index = assigned()
        for c in range(len(centroids)):
            centroids[c] = x[index == c].mean(axis=0)
            if spherical:
                centroids[c] /= np.linalg.norm(centroids[c])
    return centroids, assigned()


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("n_iterations", [1, 4])
def test_it_is_lloyds_algorithm(spherical, n_iterations):
    x, keys = blobs(300, 12, 7, 0.8, spherical=spherical), doc_keys(300)
    seeds = seed_rows(x, keys, 5, int(mix64(np.uint64(KEY))), 1)
    expected, index = plain_lloyd(x, x[seeds], spherical, n_iterations)
    clusters = fit_clusters(x, keys, 5, spherical=spherical, max_iter=n_iterations, tol=-1.0, key=KEY)
    assert clusters.n_iterations == n_iterations
    np.testing.assert_allclose(clusters.centroids, expected, rtol=0, atol=1e-5)
    found, distance = clusters.assign(x)
    assert np.array_equal(found, index)
    assert clusters.n_sample.tolist() == np.bincount(index).tolist()
    near = expected[index]
    far = 1 - (x * near).sum(axis=1) if spherical else ((x - near) ** 2).sum(axis=1)
    np.testing.assert_allclose(distance, far, rtol=1e-4, atol=1e-6)
    assert clusters.inertia == pytest.approx(far.sum(), rel=1e-5)
    np.testing.assert_allclose(clusters.mean_distance, np.bincount(index, far) / np.bincount(index), rtol=1e-4)


def bits(clusters):
    arrays = (clusters.centroids, clusters.n_sample, clusters.mean_distance)
    return [a.tobytes() for a in arrays], clusters.inertia, clusters.n_iterations


@pytest.mark.parametrize("spherical", [False, True])
def test_threads_and_blocks_change_no_bit(monkeypatch, spherical):
    monkeypatch.setattr(kmeans_fit, "PART", 20)  # so that the first iterations look at a part
    x, keys = blobs(900, 24, 30, 0.5, spherical=spherical), doc_keys(900)
    x[100:200] = x[:100]

    def fit(threads):
        return bits(fit_clusters(x, keys, 20, spherical=spherical, n_init=2, key=KEY, threads=threads))

    expected = fit(1)
    for rows, columns, threads, blas in [(1, 1000, 1, 1), (50, 3, 3, 2), (128, 7, 2, 1)]:
        monkeypatch.setattr(nearest_module, "BLOCK_ROWS", rows)
        monkeypatch.setattr(nearest_module, "BLOCK_COLUMNS", columns)
        with threadpool_limits(blas):
            assert fit(threads) == expected
    assert fit(None) == expected


def test_the_order_of_rows_does_not_change_the_seeds():
    x, keys = blobs(500, 8, 10, 0.5), doc_keys(500)
    x[50:150] = x[0]
    order = np.random.default_rng(2).permutation(500)
    seeds = seed_rows(x, keys, 12, KEY, 1)
    assert keys[seeds].tolist() == keys[order][seed_rows(x[order], keys[order], 12, KEY, 1)].tolist()
    assert len(np.unique(x[seeds], axis=0)) == len(seeds) == 12
    assert seeds.tolist() != seed_rows(x, keys, 12, KEY + 1, 1).tolist()


def test_seeds_find_clusters_that_are_far_apart():
    """One seed each for 30 tight blobs: random rows reach about 19 of them."""
    x, keys = blobs(1500, 16, 30, 0.01, seed=4), doc_keys(1500)
    seeds = seed_rows(x, keys, 30, KEY, 1)
    assert len(np.unique(np.round(x[seeds]), axis=0)) == 30
    clusters = fit_clusters(x, keys, 30, spherical=False, key=KEY)
    assert clusters.inertia < 1500 * 16 * 0.01**2 * 1.1


def test_first_iterations_on_a_part_cost_no_quality(monkeypatch):
    x, keys = blobs(4000, 16, 25, 0.7, seed=5), doc_keys(4000)
    part = fit_clusters(x, keys, 20, spherical=False, max_iter=50, tol=1e-4, key=KEY)
    monkeypatch.setattr(kmeans_fit, "PART", 4000)
    whole = fit_clusters(x, keys, 20, spherical=False, max_iter=50, tol=1e-4, key=KEY)
    assert part.n_iterations < whole.n_iterations
    assert part.inertia < whole.inertia * 1.05


def test_the_best_of_some_runs_is_taken():
    x, keys = blobs(300, 6, 12, 0.4, seed=6), doc_keys(300)
    runs = [fit_clusters(x, keys, 8, spherical=False, key=KEY + i).inertia for i in range(4)]
    assert len(set(runs)) > 1
    assert fit_clusters(x, keys, 8, spherical=False, n_init=4, key=KEY).inertia == min(runs)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize(
    ("rows", "n_distinct"),
    [
        (np.empty((0, 4)), 0),
        (np.eye(4)[:1], 1),
        (np.repeat(np.eye(4)[:1], 50, axis=0), 1),
        (np.repeat(np.eye(4)[:3], 20, axis=0), 3),
        (np.zeros((5, 4)), 1),
    ],
)
def test_few_different_rows_give_as_many_clusters(rows, n_distinct, spherical):
    x = rows.astype(np.float32)
    clusters = fit_clusters(x, doc_keys(len(x)), 7, spherical=spherical, key=KEY)
    assert clusters.centroids.shape == (n_distinct, 4)
    assert clusters.n_sample.sum() == len(x) and (clusters.n_sample > 0).all()
    index, distance = clusters.assign(x)
    assert clusters.inertia == distance.sum() == (len(x) if spherical and not x.any() else 0)
    assert np.bincount(index, minlength=n_distinct).tolist() == clusters.n_sample.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(1, 12), st.booleans())
def test_coarse_rows_with_many_ties_end_and_are_all_in_a_cluster(seed, n, n_clusters, spherical):
    x = np.random.default_rng(seed).integers(-1, 2, (n, 2)).astype(np.float32)
    if spherical:
        x /= np.maximum(1, np.linalg.norm(x, axis=1, keepdims=True))
    clusters = fit_clusters(x, doc_keys(n), n_clusters, spherical=spherical, max_iter=10, key=KEY)
    assert clusters.n_sample.sum() == n and (clusters.n_sample > 0).all()
    assert len(clusters.n_sample) <= min(n_clusters, len(np.unique(x, axis=0)))
    assert (clusters.assign(x)[1] >= 0).all()


def test_a_cluster_that_lost_its_rows_starts_at_the_farthest():
    x = np.array([[0, 0], [0, 1], [1, 0], [9, 9]], np.float32)
    start = np.array([[0.3, 0.3], [50, 50]], np.float32)
    moved = kmeans_fit._Assigned(x, doc_keys(4), start, False, 1).moved()
    assert moved.centroids[1].tolist() == [9, 9] and moved.n_rows.tolist() == [3, 1]


def test_clusters_are_kept_as_they_are(tmp_path):
    x, keys = blobs(60, 4, 3), doc_keys(60)
    clusters = fit_clusters(x, keys, 3, spherical=False, key=KEY)
    lake = Lake.open(tmp_path / "lake", create=True)
    publish_state(lake, lake.root / "clusters", clusters)
    again = load_state(lake.root / "clusters", Clusters)
    assert bits(again) == bits(clusters) and again.converged is clusters.converged


@pytest.mark.parametrize("spherical", [False, True])
def test_the_silhouette_chooses_the_planted_number(spherical):
    x, keys = blobs(600, 12, 6, 0.15, seed=8, spherical=spherical), doc_keys(600)
    best, means = choose_n_clusters(x, keys, [12, 3, 6, 9, 6], spherical=spherical, n_init=3, key=KEY)
    assert best == 6 and sorted(means) == [3, 6, 9, 12] and means[6] > 0.7


@pytest.mark.parametrize("spherical", [False, True])
def test_silhouettes_are_those_of_scikit_learn(spherical):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference of silhouettes")
    x = blobs(200, 10, 5, 0.8, seed=9, spherical=spherical)
    cluster = np.random.default_rng(1).integers(0, 5, 200)
    cluster[0] = 5  # alone
    found = np.empty(200)
    silhouettes(np.ascontiguousarray(x.T), cluster, np.bincount(cluster), spherical, found)
    metric = "cosine" if spherical else "euclidean"
    np.testing.assert_allclose(found, metrics.silhouette_samples(x.astype(float), cluster, metric=metric), atol=1e-6)


def test_numbers_of_clusters_are_compared_as_they_will_be_fitted():
    x, keys = blobs(300, 8, 6, 0.9, seed=3), doc_keys(300)
    sample = pa.RecordBatch.from_pydict({"doc_key": keys, "vectors.vector": vectors(x)})

    def silhouettes_of(**how):
        return find_clusters(Clustering(count=(3, 6), **how), Letters(), sample, lambda purpose: KEY).silhouettes

    assert silhouettes_of(iterations=0) != silhouettes_of() != silhouettes_of(iterations=0, tries=5)


def test_logarithms_are_libms():
    values = np.random.default_rng(0).random(100_000) * 100
    found = np.empty_like(values)
    logarithms(values, found)
    assert found.tolist() == [math.log(v) for v in values.tolist()]
    logarithms(np.array([0.0, -0.0, -1.0, np.nan, np.inf]), found := np.empty(5))
    assert str(found.tolist()) == "[-inf, -inf, nan, nan, inf]"


def test_equal_silhouettes_go_to_the_fewest_clusters():
    x = np.ones((10, 3), np.float32)
    assert choose_n_clusters(x, doc_keys(10), [4, 2], spherical=False, key=KEY) == (2, {2: 0.0, 4: 0.0})
    with pytest.raises(SelectionError, match="at least one"):
        choose_n_clusters(x, doc_keys(10), [], spherical=False, key=KEY)
