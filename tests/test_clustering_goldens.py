"""The clustering family against the official implementations, given the clusters that these found.

Where the official code draws from NumPy's legacy generator, the draw is made here with it, from our quotas and weights:
so the law is compared exactly, and only the source of the random numbers is not ours.
"""

import json
import random
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from letters import Letters
from reference import reference_data
from tamis.selectors.budget import CutRule, Part, make_cut
from tamis.selectors.clusters import ClusterState
from tamis.selectors.density_pruning import DensityPruning
from tamis.selectors.exact_sums import ExactMeans
from tamis.selectors.kmeans import KMeans
from tamis.selectors.refinement import next_weights
from tamis.selectors.semdedup import SemDeDup


@cache
def golden(topic, name):
    folder = reference_data("goldens") / topic
    with np.load(folder / "inputs.npz") as inputs:
        return json.loads((folder / name).read_text()), dict(inputs)


def state_of(n_clusters, centroids=None):
    centroids = np.eye(n_clusters, dtype=np.float32) if centroids is None else centroids
    return ClusterState(centroids, np.ones(n_clusters, np.int64), False, 0.0)


def parts_of(cluster, score):
    """All documents as one part, for any score column: an index is a document."""
    ids = [f"{i:05}" for i in range(len(cluster))]
    part = Part(
        shard="golden",
        row=np.arange(len(ids)),
        doc_key=np.arange(len(ids), dtype=np.uint64),
        score=score.astype(np.float64),
        eligible=np.ones(len(ids), bool),
        weight=np.ones(len(ids), np.int64),
        group=pa.array(cluster),
        doc_ids=lambda rows: [ids[row] for row in rows.tolist()],
    )
    return part, lambda column: lambda: iter([part])


def chosen(selector, state, cluster, score, budget):
    part, parts = parts_of(cluster, score)
    (cut,) = selector.select(parts, state, CutRule(budget=budget, per=True), lambda purpose: 7).cuts.values()
    return np.flatnonzero(cut.kept(part)), {int(g.name): g.n_kept for g in cut.groups}


KMQ = {
    "kmeans_random": {"sampler": "random", "shares": "equal"},
    "kMQ_KMenasRandomDeita": {"sampler": "kmq", "quality": "n_bytes", "mode": "official"},
    "kMQ_KMenasRandomDeita_frac0.3": {"sampler": "kmq", "quality": "n_bytes", "mode": "official"},
    "kmeans_iter_round0": {"sampler": "random", "shares": "equal"},
}


@pytest.mark.parametrize("name", KMQ)
def test_kmq_draws_as_the_official_code(name):
    goldens, inputs = golden("kmq", "goldens.json")
    case = goldens[name]
    selector = KMeans(vectors=Letters(), **KMQ[name])
    cluster = np.array(case["cluster_of_doc"])
    weight = np.zeros(len(cluster))
    if selector.quality:
        weight = selector._log_weight(pa.array(inputs["scores"].astype(np.float64)))
    _, quota = chosen(selector, state_of(case["K"]), cluster, weight, case["n_selected"])
    generator, drawn = np.random.RandomState(case["np_seed_active"]), []
    for c in range(case["K"]):
        mine = np.flatnonzero(cluster == c)
        p = np.exp(weight[mine] - weight[mine].max())
        p = p / p.sum() if selector.quality else None  # NumPy takes another path without weights
        drawn += generator.choice(mine, quota[c], replace=False, p=p).tolist()
    assert drawn == case["indices_in_order"]


def test_two_rounds_of_the_official_refinement():
    goldens, _ = golden("kmq", "goldens.json")
    case = goldens["kmeans_iter_round0"]
    cluster, weights = np.array(case["cluster_of_doc"]), np.full(case["K"], 1 / case["K"])
    chosen = case["indices_in_order"]
    for official in goldens["iterative_refinement_official_select_new_iter"]:
        assert chosen == official["input_indices"], "each round scores everything that was chosen so far"
        means = ExactMeans(case["K"])
        means.add(cluster[chosen], np.subtract(official["reward_gold"], official["reward_generated"]))
        assert means.means() == pytest.approx(list(official["derived_cluster_mean_reward_diff"].values()), rel=1e-12)
        weights = next_weights(weights, means.means(), "official")
        assert weights == pytest.approx(list(official["derived_cluster_weight_softmax"].values()), rel=1e-12)
        generator, drawn = np.random.RandomState(official["np_seed"]), []
        n_draws = int(len(cluster) * 0.3 / case["K"] / 3)  # all clusters together: the official division by K
        quota = np.bincount(generator.choice(case["K"], n_draws, p=weights), minlength=case["K"])
        for c in range(case["K"]):
            left = np.setdiff1d(np.flatnonzero(cluster == c), chosen)
            drawn += generator.choice(left, quota[c], replace=False).tolist()
        assert drawn == official["new_indices_added"]
        chosen = chosen + drawn


def test_the_documents_nearest_to_the_centroids():
    goldens, inputs = golden("kmq", "goldens.json")
    case = goldens["kmeans_centroid_deita"]
    cluster, x = np.array(case["cluster_of_doc"]), inputs["embeddings"]
    means = np.array([x[cluster == c].mean(axis=0) for c in range(cluster.max() + 1)])
    selector = KMeans(vectors=Letters(), sampler="centroid", shares="equal")
    rows, _ = chosen(selector, state_of(len(means)), cluster, -((x - means[cluster]) ** 2).sum(axis=1), len(means))
    assert rows.tolist() == sorted(case["indices_in_order"])


@pytest.mark.parametrize("epsilon", [0.005, 0.01, 0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("first", ["hard", "easy", "random"])
def test_semdedup_keeps_what_the_official_code_keeps(first, epsilon):
    kept, inputs = golden("semdedup", "kept.json")
    cluster, distance = inputs["cluster"], 1 - inputs["sim_to_centroid"].astype(np.float64)
    turn = {"hard": -distance, "easy": distance, "random": shuffled(cluster, kept["sorted_order_hard"])}[first]
    ids = [f"{i:03}" for i in range(len(cluster))]
    x = inputs["embeddings"].astype(np.float32)
    block = pa.table(
        {
            "row": np.arange(len(ids)),
            "doc_key": np.arange(len(ids), dtype=np.uint64)[
                :: -1 if first == "easy" else 1
            ],  # `easy` reverses ties too
            "doc_id": ids,
            "vectors.vector": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1]),
            "group": cluster.astype(np.uint64),
            "turn": turn,
        }
    )
    selector = SemDeDup(vectors=Letters(), epsilon=epsilon, first=first)
    verdict = selector.within(block, state_of(1))
    assert np.flatnonzero(verdict.column("keep").to_numpy()).tolist() == kept["results"][first][f"eps={epsilon}|kept"]
    share = len(kept["results"][first][f"eps={epsilon}|kept"]) / len(ids)
    scores = SemDeDup(vectors=Letters(), keep=share, first=first).within(block, state_of(1)).column("score").to_numpy()
    n = round(share * len(ids))
    assert np.sort(scores)[::-1][:n].min() >= epsilon - 1 > np.sort(scores)[::-1][n:].max()


def shuffled(cluster, order):
    """Each document's turn where the official code shuffles the clusters' members, one after the other."""
    generator, turn = random.Random(1234), np.zeros(len(cluster))
    for c in sorted(map(int, order)):
        members = order[str(c)][:]
        generator.shuffle(members)
        turn[members] = np.arange(len(members))
    return turn


@pytest.mark.parametrize("number", range(12))
def test_the_quotas_of_density_pruning_are_the_exact_solution(number):
    goldens, _ = golden("density_pruning", "quotas.json")
    case = goldens["qp"][number]
    selector = DensityPruning(vectors=Letters(), temperature=case["temperature"], least=case["cls_bal_ratio"])
    sizes, within, between = (np.array(goldens[name]) for name in ("cluster_sizes", "d_intra", "d_inter"))
    found = selector.quotas(case["target_total"], sizes, within, between)
    assert found == pytest.approx(case["derived_exact_continuous"], abs=1e-3)
    assert np.abs(found - case["official_osqp_int"]).max() < 0.6  # the solver's, rounded


@pytest.mark.parametrize("first", ["hard", "easy"])
def test_density_pruning_takes_the_official_documents_of_each_cluster(first):
    goldens, inputs = golden("density_pruning", "quotas.json")
    quota = np.array(goldens["qp"][2]["official_osqp_int"])
    cluster, distance = inputs["cluster"], inputs["dist_to_centroid"].astype(np.float64)
    quota[np.bincount(cluster, minlength=len(quota)) == 0] = 0  # the official code puts document 0 into empty clusters
    part, parts = parts_of(cluster, distance if first == "hard" else -distance)
    shares = {str(c): q / quota.sum() for c, q in enumerate(quota.tolist())}
    cut = make_cut(parts("score"), CutRule(budget=int(quota.sum()), per=True, shares=shares))
    found, wanted = np.flatnonzero(cut.kept(part)).tolist(), goldens["selection_for_case_index_2"][first]
    assert sorted(found + [0] * (len(wanted) - len(found))) == wanted


def test_the_distances_between_clusters_are_the_official_ones():
    goldens, inputs = golden("density_pruning", "quotas.json")
    found = DensityPruning(vectors=Letters())._between(state_of(40, inputs["centroids"]))
    assert found == pytest.approx(goldens["d_inter"], abs=1e-6)
