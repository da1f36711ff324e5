"""Rounds over clusters: eq. 6 by hand, weights that stay weights, and rounds that are the beginning of each cluster."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tamis.selectors.budget import CutRule, Part, make_cut
from tamis.selectors.refinement import Round, left_over, next_weights, round_budget, shares_of, united

NAN = math.nan
MEANS = st.one_of(st.just(NAN), st.floats(-1e308, 1e308))


def weighed(weights, means, by="paper"):
    return next_weights(np.array(weights, np.float64), np.array(means, np.float64), by).tolist()


def test_equation_6_by_hand():
    first = weighed([0.25, 0.25, 0.5], [1.0, 3.0, 2.0])
    assert first == pytest.approx([0.125, 0.375, 0.5])  # 1/6 * 1/4, 3/6 * 1/4, 2/6 * 1/2, over their sum of 8/24
    assert weighed(first, [4.0, 0.0, 1.0]) == pytest.approx([0.5, 0.0, 0.5])
    assert weighed([0.5, 0.0, 0.5], [1.0, 9.0, 1.0]) == pytest.approx([0.5, 0.0, 0.5]), "what is at 0 stays there"


def test_a_mean_below_0_counts_as_0():
    assert weighed([0.25, 0.25, 0.5], [-7.0, 1.0, 1.0]) == pytest.approx([0, 1 / 3, 2 / 3])


def test_if_no_mean_is_above_0_all_keep_their_weights():
    assert weighed([0.3, 0.7], [-1.0, 0.0]) == [0.3, 0.7]
    assert weighed([0.3, 0.7], [NAN, NAN]) == weighed([0.3, 0.7], [NAN, NAN], "official") == [0.3, 0.7]


def test_a_cluster_that_nobody_scored_keeps_its_weight():
    found = weighed([0.2, 0.3, 0.5], [1.0, 2.0, NAN])
    assert found == pytest.approx([0.125, 0.375, 0.5])
    s = (0.2 * 1 + 0.3 * 2) / 0.5  # the same as eq. 6 with the weighted mean of the others
    assert found == pytest.approx(weighed([0.2, 0.3, 0.5], [1.0, 2.0, s]))


def test_the_official_weights_are_the_softmax_and_forget_the_weights_before():
    expected = np.exp([1.0, -2.0, 0.5]) / np.exp([1.0, -2.0, 0.5]).sum()
    assert weighed([0.9, 0.1, 0.0], [1.0, -2.0, 0.5], "official") == pytest.approx(expected.tolist())
    assert weighed([0.5, 0.5], [1000.0, 0.0], "official") == [1.0, 0.0]  # the official code has NaN from 709 on


@given(st.lists(st.tuples(st.floats(0, 1), MEANS), min_size=1, max_size=12), st.sampled_from(["paper", "official"]))
def test_weights_stay_weights(pairs, by):
    weights = np.array([w for w, _ in pairs])
    if not weights.sum():
        weights[0] = 1
    weights = weights / math.fsum(weights)
    for _ in range(3):
        weights = next_weights(weights, np.array([m for _, m in pairs]), by)
        assert math.fsum(weights) == pytest.approx(1, abs=1e-12) and weights.min() >= 0
        CutRule(budget=1, per=True, shares=shares_of(weights))  # refuses shares that are none


@given(st.integers(0, 10**15), st.integers(1, 9))
def test_budgets_of_rounds_that_spend_all_sum_to_the_whole(budget, rounds):
    spent, each = 0, []
    for number in range(1, rounds + 1):
        each.append(round_budget(budget, number, rounds, spent))
        spent += each[-1]
    assert spent == budget and max(each) - min(each) <= 1


def test_what_a_round_cannot_spend_is_the_next_ones():
    assert [round_budget(90, n, 3, spent) for n, spent in [(1, 0), (2, 20), (3, 55)]] == [30, 40, 35]
    assert round_budget(90, 2, 3, 61) == 0


def part_of(documents):
    ids = [f"{i:04}" for i in range(len(documents))]
    score, weight, cluster, eligible = (np.array(column) for column in zip(*documents, strict=True))
    return Part(
        shard="only", row=np.arange(len(ids)), doc_key=np.arange(len(ids), dtype=np.uint64) * 2**50, score=score,
        eligible=eligible, weight=weight, group=cluster, doc_ids=lambda rows: [ids[row] for row in rows.tolist()],
    )  # fmt: skip


DOCUMENTS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, NAN]), st.integers(0, 9), st.integers(0, 3), st.booleans()),
    min_size=1, max_size=40,
)  # fmt: skip
WEIGHTS = st.lists(st.integers(0, 5), min_size=4, max_size=4).map(lambda w: np.array(w if sum(w) else [1, 0, 0, 0]))


@settings(max_examples=200)
@given(DOCUMENTS, st.lists(st.tuples(st.integers(0, 60), WEIGHTS), min_size=1, max_size=4), st.booleans(),
       st.sampled_from(["top", "gumbel"]), st.booleans())  # fmt: skip
def test_the_union_of_rounds_is_one_cut(documents, asked, redistribute, by, remainders):
    part = part_of(documents)
    rule = CutRule(by=by, per=True, budget=0, remainders=remainders)
    census = make_cut(lambda: [part], rule, 7)
    rounds, chosen = [], np.zeros(len(documents), bool)
    for budget, weights in asked:
        left = left_over(part, united(census, rounds))
        assert not (left.eligible & chosen).any() and (left.eligible | chosen).tolist() == part.eligible.tolist()
        shares = weights / weights.sum()
        mine = CutRule(by=by, per=True, budget=budget, shares=shares_of(shares), redistribute=redistribute,
                       remainders=remainders)  # fmt: skip
        cut = make_cut(lambda left=left: [left], mine, 7)
        kept = cut.kept(left)
        assert part.weight[kept].sum() <= budget and not (kept & chosen).any()
        n_docs = np.bincount(part.group[kept], minlength=4)
        rounds.append(Round.of(cut, shares, n_docs, n_docs))
        chosen |= kept
        rounds[-1] = Round.from_table(rounds[-1].table())
        whole = united(census, rounds)
        assert whole.kept(part).tolist() == chosen.tolist()
        assert whole.n_kept == chosen.sum() and whole.weight_kept == part.weight[chosen].sum()
        assert [g.n_kept for g in whole.groups] == np.bincount(part.group[chosen], minlength=4).tolist()
        assert sum(g.quota for g in whole.groups) == budget + whole.weight_kept - part.weight[kept].sum()
        assert whole.shortfall == cut.shortfall


def test_the_second_round_of_a_cluster_goes_on_where_the_first_ended():
    part = part_of([(float(i), 1, 0, True) for i in range(10)])
    census = make_cut(lambda: [part], CutRule(per=True, budget=0))
    rounds = []
    for n, expected in [(3, [7, 8, 9]), (0, []), (2, [5, 6]), (9, [0, 1, 2, 3, 4])]:
        left = left_over(part, united(census, rounds))
        cut = make_cut(lambda left=left: [left], CutRule(per=True, budget=n, shares={"0": 1.0}))
        assert np.flatnonzero(cut.kept(left)).tolist() == expected
        rounds.append(Round.of(cut, np.ones(1), np.array([len(expected)]), np.array([0])))
    assert united(census, rounds).shortfall == 4


def test_a_round_on_disk_is_the_same_round():
    part = part_of([(1.0, 2, 0, True), (1.0, 2, 0, True), (NAN, 3, 1, True)])
    cut = make_cut(lambda: [part], CutRule(per=True, budget=4, shares={"0": 0.5, "1": 0.5, "2": 0.0}))
    made = Round.of(cut, np.array([0.5, 0.5, 0.0]), np.array([1, 0, 0]), np.array([20, 0, 0]))
    found = Round.from_table(made.table())
    assert found.edges == made.edges and any(edge.doc_id for edge in found.edges)
    assert found.table().equals(made.table())
    assert np.isnan(found.mean_score).all() and found.achieved.tolist() == [2, 0, 0]
