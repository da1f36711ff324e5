"""The cut: against a plain reference that sorts everything and walks, for any split, any cap and hostile doc_ids."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from tamis.selectors.budget import Cut, CutRule, Part, make_cut
from tamis.selectors.keyed import stream_key, uniform
from tamis.selectors.quotas import apportion, redistribute
from tamis.storage.errors import SelectionError

KEY = stream_key(17, "cut", "gumbel")
SCORES = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 5e-324]


def reference(docs, rule, n_limit, quota):
    """The chosen ids; `n_limit` and `quota` by group."""

    def place(doc):
        key = doc["score"]
        if rule.by == "gumbel":
            u = float(uniform(np.array([doc["doc_key"]], np.uint64), KEY)[0])
            key = key / rule.temperature - math.log(-math.log(u))
        return (math.isnan(key), 0.0 if math.isnan(key) else -key, doc["doc_id"].encode())

    chosen, n, total, ended = set(), dict.fromkeys(n_limit, 0), dict.fromkeys(n_limit, 0), set()
    pool = [doc for doc in docs if doc["eligible"] and (rule.min_score is None or doc["score"] >= rule.min_score)]
    for doc in sorted(pool, key=place):
        group = group_of(doc, rule)
        if n[group] + 1 > n_limit[group] or total[group] + doc["weight"] > quota[group]:
            ended.add(group)
        if group not in ended:
            chosen.add(doc["doc_id"])
            n[group], total[group] = n[group] + 1, total[group] + doc["weight"]
    return chosen


def group_of(doc, rule):
    return "all" if not rule.per else "" if doc["group"] is None else str(doc["group"])


def expected(docs, rule):
    """The chosen ids, with the budget shared by hand."""
    names = {group_of(doc, rule) for doc in docs} | set(rule.shares or ())
    eligible = {name: [doc for doc in docs if doc["eligible"] and group_of(doc, rule) == name] for name in names}
    n_limit = {name: len(eligible[name]) for name in names}
    if rule.percent is not None:
        n_limit = {name: math.floor(n * Fraction(str(rule.percent)) / 100) for name, n in n_limit.items()}
    if rule.budget is None:
        return reference(docs, rule, n_limit, dict.fromkeys(names, math.inf))
    shares, asked = {name: sum(doc["weight"] for doc in eligible[name]) for name in names}, rule.budget
    if rule.shares is not None:
        shares = {name: Fraction(str(rule.shares.get(name, 0))) for name in names}
        asked = int(rule.budget * sum(shares.values()))
    quota = apportion(asked, shares)
    best = reference(docs, rule, n_limit, dict.fromkeys(names, math.inf))
    available = {name: sum(doc["weight"] for doc in eligible[name] if doc["doc_id"] in best) for name in names}
    if rule.redistribute:
        quota = redistribute(quota, available, shares)
    if rule.shares is not None or rule.budget == 0:
        n_limit = {name: limit if rule.budget and shares[name] else 0 for name, limit in n_limit.items()}
    first = reference(docs, rule, n_limit, quota)
    quota = {name: min(quota[name], available[name]) for name in names}
    return with_remainders(docs, rule, n_limit, quota, first) if rule.remainders else first


def with_remainders(docs, rule, n_limit, quota, first):
    """Add to the chosen the documents that the groups' remainders pay for together."""
    weight = {doc["doc_id"]: doc["weight"] for doc in docs}
    group = {doc["doc_id"]: group_of(doc, rule) for doc in docs}
    mine = {name: {i for i in first if group[i] == name} for name in n_limit}
    following = {}
    for name, limit in n_limit.items():
        one_more = {k: (min(limit, len(mine[k]) + 1) if k == name else len(mine[k])) for k in n_limit}
        more = reference(docs, rule, one_more, dict.fromkeys(n_limit, math.inf)) - first
        following |= dict.fromkeys([name] if more else [], next(iter(more), None))
    missing = {name: quota[name] - sum(weight[i] for i in mine[name]) for name in following}
    left = sum(quota.values()) - sum(weight[i] for i in first)
    for name in sorted(following, key=lambda n: (-Fraction(missing[n], max(1, weight[following[n]])), n)):
        if weight[following[name]] <= left:
            left -= weight[following[name]]
            first = first | {following[name]}
    return first


def part_of(docs, name="shard", arrow=True):
    ids = [doc["doc_id"] for doc in docs]
    groups = [doc["group"] for doc in docs]
    return Part(
        shard=name,
        row=np.arange(len(docs)),
        doc_key=np.array([doc["doc_key"] for doc in docs], np.uint64),
        score=np.array([doc["score"] for doc in docs], np.float64),
        eligible=np.array([doc["eligible"] for doc in docs], np.bool_),
        weight=np.array([doc["weight"] for doc in docs], np.int64),
        group=pa.array(groups) if arrow else np.array(groups, dtype=object),
        doc_ids=lambda positions: [ids[i] for i in positions],
    )


def document(doc_id, score=1.0, weight=1, group="a", eligible=True):
    key = xxhash.xxh3_64_intdigest(doc_id.encode("utf-8", "surrogatepass"))
    return {"doc_id": doc_id, "doc_key": key, "score": score, "weight": weight, "group": group, "eligible": eligible}


def cut_of(docs, rule, max_rows=2**18, n_parts=1):
    parts = [part_of(docs[i::n_parts], f"shard-{i}", arrow=i % 2 == 0) for i in range(n_parts)]
    return make_cut(lambda: parts, rule, KEY, max_rows), parts


def chosen(cut: Cut, parts):
    ids = [part.doc_ids(np.flatnonzero(cut.kept(part))) for part in parts]
    return [doc_id for some in ids for doc_id in some]


doc_ids = st.one_of(
    st.text(alphabet="ab\x00é\U0001f600\uffee", max_size=4),
    st.text(alphabet="ab", max_size=3).map(lambda end: "a" * 40 + end),
)
documents = st.builds(
    document,
    doc_id=doc_ids,
    score=st.one_of(st.sampled_from(SCORES), st.floats()),
    weight=st.integers(0, 6),
    group=st.sampled_from(["a", "b", "é", "", None]),
    eligible=st.sampled_from([True, True, True, False]),
)
ties = st.builds(document, doc_id=doc_ids, score=st.sampled_from([1.0, math.nan]), weight=st.integers(0, 2))
pools = st.sampled_from([documents, ties]).flatmap(
    lambda kind: st.lists(kind, max_size=40, unique_by=lambda doc: doc["doc_id"])
)
all_shares = [None, {"a": 0.7, "b": 0.3}, {"a": 0.25, "": 0.25, "not there": 0.5}, {"a": 0.1, "b": 0.1, "é": 0.0}]


@st.composite
def rules(draw):
    by = draw(st.sampled_from(["top", "gumbel", "threshold", "percentile"]))
    budget = draw(st.one_of(st.none(), st.integers(0, 60), st.integers(0, 200)))
    per = draw(st.booleans())
    divided = per and budget is not None
    return CutRule(
        by=by,
        temperature=draw(st.sampled_from([1.0, 0.25, 1e-300])),
        min_score=draw(st.sampled_from([0.0, -1.0, -math.inf] if by == "threshold" else [None, None, 0.5])),
        percent=draw(st.sampled_from([0, 12.5, 33.3, 70, 100])) if by == "percentile" else None,
        budget=budget,
        shares=draw(st.sampled_from(all_shares)) if divided else None,
        per=per,
        redistribute=draw(st.booleans()) if divided else False,
        remainders=draw(st.booleans()) if divided else False,
    )


@settings(deadline=None, max_examples=300)
@given(docs=pools, rule=rules(), max_rows=st.sampled_from([1, 4, 2**18]), shuffle=st.randoms())
def test_the_chosen_are_those_of_the_reference_for_any_split(docs, rule, max_rows, shuffle):
    wanted = expected(docs, rule)
    cuts = []
    for n_parts in (1, 3, 16):
        shuffle.shuffle(docs)
        cut, parts = cut_of(docs, rule, max_rows, n_parts)
        assert sorted(chosen(cut, parts)) == sorted(wanted)
        cuts.append(cut)
    assert cuts[0] == cuts[1] == cuts[2]
    check_numbers(cuts[0], docs, wanted)


def check_numbers(cut, docs, wanted):
    eligible = [doc for doc in docs if doc["eligible"]]
    assert (cut.n_seen, cut.n_eligible, cut.n_kept) == (len(docs), len(eligible), len(wanted))
    assert cut.weight_seen == sum(doc["weight"] for doc in eligible)
    assert cut.weight_kept == sum(doc["weight"] for doc in docs if doc["doc_id"] in wanted)
    if cut.rule.budget is not None:
        assert cut.weight_kept + cut.shortfall <= cut.rule.budget
        assert cut.rule.remainders or all(group.achieved <= group.quota for group in cut.groups)
    for group in cut.groups:
        ours = [doc for doc in docs if group_of(doc, cut.rule) == group.name]
        assert (group.n_seen, group.n_eligible) == (len(ours), sum(doc["eligible"] for doc in ours))
        assert group.n_kept == sum(doc["doc_id"] in wanted for doc in ours)


def test_decimal_shares_give_the_whole_budget_away():
    docs = [document(f"{group}{i}", group=group) for group in "abc" for i in range(1000)]
    cut, _ = cut_of(docs, CutRule(budget=1000, per=True, shares={"a": 0.7, "b": 0.2, "c": 0.1}))
    assert {group.name: group.asked for group in cut.groups} == {"a": 700, "b": 200, "c": 100}
    assert all(group.asked == group.achieved for group in cut.groups)


def test_the_first_document_that_does_not_fit_ends_the_prefix_and_empty_ones_fit():
    docs = [document("a", 3, 4), document("b", 2, 0), document("c", 2, 0), document("d", 1, 9), document("e", 0, 0)]
    for budget in (4, 12):
        cut, parts = cut_of(docs, CutRule(budget=budget))
        assert (chosen(cut, parts), cut.weight_kept, cut.shortfall) == (["a", "b", "c"], 4, 0)
    cut, parts = cut_of(docs[1:3], CutRule(budget=0))
    assert chosen(cut, parts) == []


def test_a_budget_above_the_pool_takes_all_and_says_so():
    docs = [document("a", 3, 4), document("b", math.nan, 9), document("c", 1, 1, eligible=False)]
    cut, parts = cut_of(docs, CutRule(budget=100))
    assert (chosen(cut, parts), cut.weight_kept, cut.shortfall) == (["a", "b"], 13, 87)
    cut, _ = cut_of(docs, CutRule(budget=13))
    assert cut.shortfall == 0
    cut, _ = cut_of(docs, CutRule(by="percentile", percent=50, budget=100))
    assert (cut.weight_kept, cut.shortfall) == (4, 96)


def test_a_groups_shortfall_stays_unless_it_is_redistributed():
    docs = [document(f"a{i}", group="a") for i in range(10)] + [document(f"b{i}", group="b") for i in range(100)]
    rule = CutRule(budget=60, per=True, shares={"a": 0.5, "b": 0.5})
    cut, _ = cut_of(docs, rule)
    assert [(group.asked, group.achieved, group.shortfall) for group in cut.groups] == [(30, 10, 20), (30, 30, 0)]
    assert cut.shortfall == 20
    rule = CutRule(budget=60, per=True, shares={"a": 0.5, "b": 0.5}, redistribute=True)
    cut, _ = cut_of(docs, rule)
    assert [(group.asked, group.quota, group.achieved) for group in cut.groups] == [(30, 10, 10), (30, 50, 50)]
    assert (cut.groups[0].shortfall, cut.shortfall) == (20, 0)


def test_what_a_group_lacks_is_no_remainder():
    docs = [document(f"{g}{i}", group=g) for g, n in [("a", 2), ("b", 50), ("c", 50)] for i in range(n)]
    rule = CutRule(budget=30, per=True, shares={"a": 0.33, "b": 0.33, "c": 0.34}, remainders=True)
    cut, _ = cut_of(docs, rule)
    assert [group.n_kept for group in cut.groups] == [2, 10, 10] and cut.shortfall == 8


def test_a_group_asks_for_its_part_of_all_eligible_documents():
    docs = [document(f"{i}", score=i, group="ab"[i % 2 or i < 6]) for i in range(10)]
    cut, _ = cut_of(docs, CutRule(by="threshold", min_score=6, budget=5, per=True))
    assert [(group.name, group.asked, group.n_kept) for group in cut.groups] == [("a", 1, 1), ("b", 4, 2)]


def test_groups_are_compared_as_text_and_nothing_is_a_group():
    docs = [document(f"{i}", group=group) for i, group in enumerate([7, 7, None, 8])]
    cut, _ = cut_of(docs, CutRule(budget=4, per=True))
    assert [(group.name, group.n_kept) for group in cut.groups] == [("", 1), ("7", 2), ("8", 1)]
    encoded = part_of([document("x", group="7"), document("y", group="zzz")])
    encoded = Part(**{**vars(encoded), "group": encoded.group.dictionary_encode()[:2]})
    assert cut.kept(encoded).tolist() == [True, False]


def test_ties_are_cut_by_the_bytes_of_the_id():
    ids = ["\U0001f600", "\uffee", "\ud800", "é", "z", "Z", "a" * 100 + "b", "a" * 100, "a" * 100 + "\x00", ""]
    docs = [document(doc_id) for doc_id in ids]
    in_order = sorted(ids, key=lambda doc_id: doc_id.encode("utf-8", "surrogatepass"))
    for max_rows in (1, 4, 100):
        for budget in range(len(ids) + 1):
            cut, parts = cut_of(docs, CutRule(budget=budget), max_rows, n_parts=3)
            assert sorted(chosen(cut, parts)) == sorted(in_order[:budget])
            cut, parts = cut_of(docs, CutRule("percentile", percent=10 * budget), max_rows, n_parts=3)
            assert sorted(chosen(cut, parts)) == sorted(in_order[:budget])


def test_negative_zero_ties_with_zero():
    cut, parts = cut_of([document("z", score=0.0), document("a", score=-0.0)], CutRule(budget=1))
    assert chosen(cut, parts) == ["a"]


def test_ids_are_asked_for_divided_ties_only():
    docs = [document(f"{i:03}", score=i // 10) for i in range(100)]
    asked = []

    def doc_ids(positions):
        asked.extend(positions.tolist())
        return [docs[i]["doc_id"] for i in positions]

    part = Part(**{**vars(part_of(docs)), "doc_ids": doc_ids})
    assert make_cut(lambda: [part], CutRule("percentile", percent=40)).kept(part).sum() == 40
    assert asked == []
    assert make_cut(lambda: [part], CutRule(budget=45)).kept(part).sum() == 45
    assert set(asked) == set(range(50, 60))


def test_gumbel_picks_in_proportion_to_the_weights():
    weight = np.array([1.0, 2.0, 5.0])
    part = part_of([document(name, score=math.log(one)) for name, one in zip("abc", weight, strict=True)])
    keys = [stream_key(1, "step", "gumbel", draw) for draw in range(4000)]
    first = sum(make_cut(lambda: [part], CutRule("gumbel", budget=1), key).kept(part) for key in keys)
    p = weight / weight.sum()
    assert np.all(np.abs(first / len(keys) - p) < 4 * np.sqrt(p * (1 - p) / len(keys)))


@pytest.mark.parametrize("rule", [CutRule(budget=9), CutRule(budget=9, per=True), CutRule("percentile", percent=9)])
@pytest.mark.parametrize("n_parts", [0, 3])
def test_an_empty_pool_is_no_error(rule, n_parts):
    cut, parts = cut_of([], rule, n_parts=n_parts)
    assert (cut.n_seen, cut.n_kept, cut.shortfall) == (0, 0, rule.budget or 0)
    assert chosen(cut, parts) == []
    assert not cut.kept(part_of([document("a", eligible=False)])).any()


def test_inputs_stay_as_they_are_and_a_cut_pickles():
    part = part_of([document(f"{i}", score=-0.0, group="ab"[i % 2]) for i in range(10)])
    arrays = [part.row, part.doc_key, part.score, part.eligible, part.weight]
    for array in arrays:
        array.flags.writeable = False
    cut = make_cut(lambda: [part], CutRule("gumbel", per=True, budget=5), KEY)
    again = pickle.loads(pickle.dumps(cut))
    assert again == cut
    assert np.array_equal(again.kept(part), cut.kept(part))
    assert np.array_equal(again.keys(part), cut.keys(part))


def test_weights_that_cannot_be_counted_are_refused():
    with pytest.raises(SelectionError, match=r"shard-0 has a weight below 0"):
        cut_of([document("a", weight=-1)], CutRule())
    huge = [document(f"{i}", weight=2**62, group="ab"[i % 2]) for i in range(2)]
    with pytest.raises(SelectionError, match="whose sum is above"):
        cut_of(huge, CutRule())
    with pytest.raises(SelectionError, match="sum to more than"):
        cut_of(huge, CutRule(per=True))
    no_groups = Part(**{**vars(part_of(huge[:1])), "group": None})
    with pytest.raises(SelectionError, match="shard has no groups"):
        make_cut(lambda: [no_groups], CutRule(per=True))


def test_the_largest_sums_are_exact():
    docs = [document("a", 2, 2**62), document("b", 1, 2**62 - 1), document("c", 0, 0)]
    cut, parts = cut_of(docs, CutRule(budget=2**63 - 2))
    assert (chosen(cut, parts), cut.weight_kept) == (["a"], 2**62)
    cut, parts = cut_of(docs, CutRule(budget=2**63 + 1))
    assert (chosen(cut, parts), cut.shortfall) == (["a", "b", "c"], 2)
