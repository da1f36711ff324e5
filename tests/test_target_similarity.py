"""target_similarity against the formula, written in plain float64."""

import numpy as np
import pyarrow as pa
import pytest
from letters import DIMENSIONS, Letters, vectors
from tamis.selectors.base import Target
from tamis.selectors.target_similarity import TargetSimilarity
from tamis.storage.errors import ConfigError, SelectionError


def batch_of(rows, first_key=1):
    keys = np.arange(first_key, first_key + len(rows), dtype=np.uint64)
    return pa.RecordBatch.from_pydict({"doc_key": keys, "vectors.vector": vectors(rows)})


def unit(rows):
    rows = rows.astype(np.float16).astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def rows_of(n, seed):
    return np.random.default_rng(seed).standard_normal((n, DIMENSIONS))


POOL, WANTED, OTHER = rows_of(60, 1), rows_of(12, 2) + 1, rows_of(9, 3) - 1


def scores(selector, targets, sample=None):
    made = [Target(name, None, lambda rows=rows: iter([batch_of(rows, 1000)])) for name, rows in targets.items()]
    state = selector.fit(sample, made, lambda purpose: 7)
    return selector.score(batch_of(POOL), state)


def mean_of_largest(cosine, k):
    return np.sort(cosine, axis=1)[:, ::-1][:, :k].mean(axis=1)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_cosine_is_the_mean_over_the_nearest_of_the_target(k):
    selector = TargetSimilarity(vectors=Letters(), score_by="cosine", neighbours=k)
    found = scores(selector, {"wanted": WANTED}).column("score").to_numpy()
    assert found == pytest.approx(mean_of_largest(unit(POOL) @ unit(WANTED).T, k), abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_contrast_takes_off_the_mean_over_as_many_others_of_the_pool(k):
    selector = TargetSimilarity(vectors=Letters(), neighbours=k)
    sampled = batch_of(POOL).slice(10, 20)
    found = scores(selector, {"wanted": WANTED}, sampled).column("score").to_numpy()
    k = min(k, len(WANTED))
    to_pool = unit(POOL) @ unit(POOL[10:30]).T
    to_pool[np.arange(10, 30), np.arange(20)] = -2  # a document of the sample is no neighbour of its own
    expected = mean_of_largest(unit(POOL) @ unit(WANTED).T, k) - mean_of_largest(to_pool, k)
    assert found == pytest.approx(expected, abs=1e-6)


def test_several_targets_have_a_score_each_or_one_over_all():
    targets = {"wanted": WANTED, "other": OTHER}
    separate = scores(TargetSimilarity(vectors=Letters(), score_by="cosine", neighbours=2), targets)
    for name, rows in targets.items():
        expected = mean_of_largest(unit(POOL) @ unit(rows).T, 2)
        assert separate.column(f"score_{name}").to_numpy() == pytest.approx(expected, abs=1e-6)
    joint = scores(TargetSimilarity(vectors=Letters(), score_by="cosine", neighbours=2, targets="joint"), targets)
    expected = mean_of_largest(unit(POOL) @ unit(np.concatenate([WANTED, OTHER])).T, 2)
    assert joint.column("score").to_numpy() == pytest.approx(expected, abs=1e-6)


def test_one_centroid_is_the_direction_of_the_mean():
    selector = TargetSimilarity(vectors=Letters(), score_by="cosine", centroids=1)
    found = scores(selector, {"wanted": WANTED}).column("score").to_numpy()
    mean = unit(WANTED).mean(axis=0)
    assert found == pytest.approx(unit(POOL) @ (mean / np.linalg.norm(mean)), abs=1e-6)


def test_a_target_without_vectors_is_refused():
    empty = np.full((2, DIMENSIONS), np.nan)
    with pytest.raises(SelectionError, match="no document of the target 'wanted' has a vector"):
        scores(TargetSimilarity(vectors=Letters()), {"wanted": empty})


@pytest.mark.parametrize("wrong", [{"neighbours": 0}, {"centroids": 0}, {"pool_sample": -1}])
def test_counts_below_one_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected 1 or more"):
        TargetSimilarity(vectors=Letters(), **wrong)
