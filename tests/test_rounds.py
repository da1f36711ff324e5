"""Rounds of random subsets: those of the authors, those of plain Python, exact sizes, as many visits for everyone."""

import json
import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import reference_data
from tamis.selectors.budget import CutRule, Part
from tamis.selectors.keyed import stream_key, uniform
from tamis.selectors.marks import places
from tamis.selectors.official_rounds import slices, uniform_no_replacement
from tamis.selectors.official_rounds import uniform as official_uniform
from tamis.selectors.order_blocks import Limits, Ordered, find_blocks
from tamis.selectors.rounds import RoundPlan
from tamis.selectors.rs2 import Rs2
from tamis.storage.documents import doc_key
from tamis.storage.errors import ConfigError, SelectionError

MODES = ("without", "with", "official")


def draw(purpose):
    return stream_key(17, "step", purpose)


def document(doc_id, weight=1, group="a", eligible=True, key=None):
    key = doc_key(doc_id) if key is None else key
    return {"doc_id": doc_id, "doc_key": key, "weight": weight, "group": group, "eligible": eligible}


def part_of(docs):
    ids = [doc["doc_id"] for doc in docs]
    keys = np.array([doc["doc_key"] for doc in docs], np.uint64)
    return Part(
        shard="s",
        row=np.arange(len(docs)),
        doc_key=keys,
        score=uniform(keys, draw("order 0")),
        eligible=np.array([doc["eligible"] for doc in docs], np.bool_),
        weight=np.array([doc["weight"] for doc in docs], np.int64),
        group=pa.array([doc["group"] for doc in docs], pa.string()),
        doc_ids=lambda at: [ids[i] for i in at.tolist()],
    )


def rounds_of(docs, rule, n_rounds, mode, n_parts=1):
    """Return the ids of each round as a set, and the cut."""
    parts = [part_of(docs[i::n_parts]) for i in range(n_parts)]
    (cut,) = Rs2(rounds=n_rounds, mode=mode).select(lambda _: lambda: parts, None, rule, draw).cuts.values()
    rounds = [set() for _ in range(n_rounds)]
    for part in parts:
        rows, copies = cut.entrants.rows(part), np.zeros(len(part.row), int)
        for number, ids in enumerate(rounds):
            inside = cut.plan.has(rows, number)
            ids.update(part.doc_ids(np.flatnonzero(inside)))
            copies += inside
        assert (cut.copies(part) == copies).all() and (cut.kept(part) == (copies > 0)).all()
    return rounds, cut


def in_order(docs, number):
    key = draw(f"order {number}")
    return sorted(docs, key=lambda doc: (int(places(np.array([doc["doc_key"]], np.uint64), key)[0]), doc["doc_id"]))


class Round(list):
    """Documents within the limits of a round."""

    def __init__(self, limits):
        super().__init__()
        self.left = [limits.n_documents, limits.weight]

    def take_first_of(self, queue):
        """Move documents from the front of a queue as long as they fit."""
        while queue and self.left[0] >= 1 and self.left[1] >= queue[0]["weight"]:
            self.append(queue.pop(0))
            self.left = [self.left[0] - 1, self.left[1] - self[-1]["weight"]]


def expected(docs, limits, n_rounds, mode):
    """The rounds of one group as plain Python has them."""
    docs = [doc for doc in docs if doc["weight"] <= limits.weight]
    everything = Round(limits)
    everything.take_first_of(whole := list(docs))
    if not whole:
        return [everything] * n_rounds
    size = min(limits.n_documents, limits.weight)
    if mode == "official":
        orders = [in_order(docs, number) for number in range(n_rounds)]
        blocks = slices(len(docs), size, n_rounds)
        return [[doc for e, start, stop in found for doc in orders[e][start:stop]] for found in blocks]
    queue, order, rounds = in_order(docs, 0), 0, []
    for number in range(n_rounds):
        if mode == "with":
            queue = in_order(docs, number)
        rounds.append(one := Round(limits))
        one.take_first_of(queue)
        if not queue and mode == "without":
            order += 1
            rest, fresh = list(one), in_order(docs, order)
            others = [doc for doc in fresh if doc not in rest]
            if min(one.left) > 0:
                one.take_first_of(others)
            queue = [doc for doc in fresh if doc in rest or doc in others]
    return rounds


documents = st.builds(
    document,
    doc_id=st.text("abcé\U0001f600", max_size=4),
    weight=st.integers(0, 6),
    group=st.sampled_from(["a", "b", None]),
    eligible=st.sampled_from([True, True, True, False]),
    key=st.sampled_from([None, None, None, 7, 8]),  # keys that collide: their documents go by id in every order
)
pools = st.lists(documents, max_size=40, unique_by=lambda doc: doc["doc_id"])
rules = st.builds(
    lambda budget, per, percent: CutRule("percentile" if percent else "top", budget=budget, per=per, percent=percent),
    budget=st.one_of(st.none(), st.integers(0, 40), st.integers(0, 150)),
    per=st.booleans(),
    percent=st.sampled_from([None, None, 20, 61]),
)


@settings(deadline=None, max_examples=150)
@given(docs=pools, rule=rules, n_rounds=st.integers(1, 9), mode=st.sampled_from(MODES))
def test_rounds_are_those_of_plain_python_for_any_split(docs, rule, n_rounds, mode):
    if mode == "official":
        docs = [doc | {"weight": 1} for doc in docs]
    (rounds, cut), (again, other) = (rounds_of(docs, rule, n_rounds, mode, n_parts) for n_parts in (1, 3))
    assert rounds == again and cut.plan == other.plan == pickle.loads(pickle.dumps(cut.plan))
    assert RoundPlan.from_json(json.loads(json.dumps(cut.plan.to_json()))) == cut.plan
    wanted = [set() for _ in range(n_rounds)]
    for name, limits in zip(cut.entrants.names, cut.entrants.limits, strict=True):
        mine = [doc for doc in docs if doc["eligible"] and (not rule.per or (doc["group"] or "") == name)]
        alone = expected(mine if limits.n_documents else [], limits, n_rounds, mode)
        for number, one in enumerate(alone):
            wanted[number] |= {doc["doc_id"] for doc in one}
            stated = cut.plan.groups[name][number]
            assert (stated.n_documents, stated.weight) == (len(one), sum(doc["weight"] for doc in one))
    assert rounds == wanted
    assert all(sum(doc["weight"] for doc in docs if doc["doc_id"] in ids) <= (rule.budget or 999) for ids in rounds)


@settings(deadline=None, max_examples=200)
@given(
    docs=pools,
    limits=st.builds(Limits, st.integers(1, 40), st.integers(6, 60)),
    wanted=st.integers(0, 9),
    room=st.sampled_from([1, 4, 99]),
)
def test_blocks_are_found_with_any_room_for_rows(docs, limits, wanted, room):
    parts = [part_of(docs[i::2]) for i in range(2)]
    key = draw("order 0")

    def stream():
        for p in parts:
            yield Ordered(np.where(p.eligible, 0, -1), places(p.doc_key, key), p.weight, p.doc_ids)

    (found,) = find_blocks(stream, len(docs), [limits], [wanted], room)
    queue, sizes, firsts = in_order([doc for doc in docs if doc["eligible"]], 0), [], []
    for _ in range(wanted):
        block = Round(limits)
        block.take_first_of(queue)
        if not queue:
            break
        sizes.append((len(block), sum(doc["weight"] for doc in block)))
        firsts.append(int(places(np.array([queue[0]["doc_key"]], np.uint64), key)[0]))
    assert found.sizes == sizes and [place for place, _ in found.ends] == firsts


@settings(deadline=None, max_examples=100)
@given(n=st.integers(1, 60), size=st.integers(1, 60), n_rounds=st.integers(1, 20))
def test_sizes_are_exact_and_visits_differ_by_at_most_one_at_any_time(n, size, n_rounds):
    docs = [document(f"{i}") for i in range(n)]
    rounds, _ = rounds_of(docs, CutRule(budget=size), n_rounds, "without")
    visits = Counter({doc["doc_id"]: 0 for doc in docs})
    for ids in rounds:
        assert len(ids) == min(n, size)
        visits.update(ids)
        assert max(visits.values()) - min(visits.values()) <= 1


def test_97_documents_16_rounds_of_a_quarter():
    docs = [document(f"{i}") for i in range(97)]
    for mode, fewest, most in (("without", 3, 4), ("with", 0, 16), ("official", 3, 7)):
        rounds, _ = rounds_of(docs, CutRule(budget=24), 16, mode)
        assert [len(ids) for ids in rounds] == [23 if mode == "official" and i % 5 == 4 else 24 for i in range(16)]
        visits = Counter(doc_id for ids in rounds for doc_id in ids)
        assert fewest <= min(visits[f"{i}"] for i in range(97)) and max(visits.values()) <= most
    sweep = rounds_of(docs, CutRule(budget=24), 16, "without")[0][:4]
    assert sum(map(len, sweep)) == len(set.union(*sweep)) == 96


def test_each_round_of_with_is_uniform():
    docs = [document(f"{i}") for i in range(40)]
    rounds, _ = rounds_of(docs, CutRule(budget=10), 400, "with")
    visits = np.array([sum(doc["doc_id"] in ids for ids in rounds) for doc in docs])
    assert np.abs(visits / 400 - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 400)
    together = sum({"0", "1"} <= ids for ids in rounds) / 400
    assert abs(together - 10 * 9 / (40 * 39)) < 4 * np.sqrt(0.06 / 400)


def test_the_document_that_ends_a_sweep_is_not_always_the_same():
    docs = [document(f"{i}") for i in range(9)]
    rounds, cut = rounds_of(docs, CutRule(budget=4), 360, "without")
    pairs = Counter(doc_id for ids, after in pairwise(rounds) for doc_id in ids & after)
    assert len(pairs) == 9 and max(pairs.values()) < 2 * min(pairs.values())
    assert set(Counter(doc_id for ids in rounds for doc_id in ids).values()) == {160}
    assert cut.plan.groups["all"][2].spans[1].within


def test_a_document_larger_than_a_round_is_in_none_and_stops_nobody():
    docs = [document(f"{i}", weight=3) for i in range(20)] + [document("huge", weight=31)]
    rounds, cut = rounds_of(docs, CutRule(budget=30), 4, "without")
    assert [len(ids) for ids in rounds] == [10] * 4 and all("huge" not in ids for ids in rounds)
    assert (cut.n_kept, cut.weight_kept, cut.shortfall) == (10, 30, 0)


def test_a_long_walk_reads_the_pool_a_few_times():
    docs = [document(f"{i}", weight=i % 7) for i in range(3000)]
    part, passes = part_of(docs), []

    def parts():
        passes.append(1)
        return [part]

    rule = CutRule(budget=sum(doc["weight"] for doc in docs) // 100)
    Rs2(rounds=95).select(lambda _: parts, None, rule, draw)
    assert len(passes) < 15, "not a pass a round"


@pytest.mark.parametrize("mode", MODES)
def test_no_documents_are_no_error(mode):
    assert rounds_of([], CutRule(budget=5), 3, mode)[0] == [set()] * 3
    assert rounds_of([document("a")], CutRule(budget=0), 3, mode)[0] == [set()] * 3
    assert rounds_of([document("a")], CutRule(), 3, mode)[0] == [{"a"}] * 3


def test_wrong_parameters_are_named():
    with pytest.raises(ConfigError, match="rounds is 0"):
        Rs2(rounds=0)
    with pytest.raises(ConfigError, match="mode is 'both'"):
        Rs2(mode="both")
    with pytest.raises(SelectionError, match="budget in documents"):
        rounds_of([document("a", 2), document("b", 2)], CutRule(budget=2), 3, "official")


def golden_rounds():
    for name, case in json.loads(reference_data("goldens/rs2/rounds.json").read_text()).items():
        n, fraction, seed = (float(value.split("=")[1]) for value in name.split(","))
        yield int(n), fraction, int(seed), case


def test_the_rounds_of_the_authors_code():
    for n, fraction, seed, case in golden_rounds():
        wanted = case["with_replacement_across_rounds (Uniform)"]
        assert list(official_uniform(n, fraction, len(wanted), seed)) == wanted
        wanted = case["stratified (Uniform balance=True, class=i%5)"]
        assert list(official_uniform(n, fraction, len(wanted), seed, [i % 5 for i in range(n)])) == wanted
        wanted = case["without_replacement (UniformNoReplacement)"]
        assert list(uniform_no_replacement(n, fraction, len(wanted), seed)) == wanted


def test_mode_official_has_the_sizes_of_the_authors_code():
    for n, fraction, _, case in golden_rounds():
        sizes = case["no_repl_round_sizes"]
        rounds, _ = rounds_of(
            [document(f"{i}") for i in range(n)], CutRule(budget=round(n * fraction)), len(sizes), "official"
        )
        assert [len(ids) for ids in rounds] == sizes
