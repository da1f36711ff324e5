"""What every selector keeps to, whatever it chooses by; a new one is examined here without a line of its own.

A selector that cannot be made without parameters, or whose defaults are too costly for a few sentences, gets its own in
`MADE`. Those that select are driven from summaries to the cut, those that deduplicate from groups to verdicts.
"""

import copy
import json
import math
import pickle
from dataclasses import MISSING, fields, is_dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from letters import Letters, MadeUpLosses
from tamis.features.base import Feature
from tamis.pipelines.refit_entry import check_refit
from tamis.pipelines.sampling import merge_samples
from tamis.selectors.base import Around, Selector, Target
from tamis.selectors.budget import CutRule, Part
from tamis.selectors.clustering import Clustering, vector_column
from tamis.selectors.keyed import stream_key, uniform
from tamis.selectors.registry import REGISTRY
from tamis.selectors.vectors import unit_rows
from tamis.storage.documents import doc_key, text_hashes
from tamis.storage.errors import ConfigError
from tamis.storage.lake import Lake
from tamis.storage.schema import DOCUMENT
from tamis.storage.state import load_state, publish_state


def clustered(**more):
    return {"vectors": Letters(), "clusters": Clustering(count=3), **more}


MADE = {
    "color_filter": {"prior": MadeUpLosses(), "conditional": MadeUpLosses(an_e=0.3)},
    "density_pruning": clustered(),
    "difference_sampling": {"small": MadeUpLosses(), "large": MadeUpLosses(an_e=0.3)},
    "kmeans": clustered(),
    "perplexity": {"losses": MadeUpLosses()},
    "semdedup": clustered(),
    "ssl_prototypes": clustered(),
    "target_similarity": {"vectors": Letters(), "neighbours": 2},
}
MORE = [
    ("color_filter", {"prior": MadeUpLosses(), "conditional": MadeUpLosses(an_e=0.3), "min_tokens": 3}),
    ("perplexity", {"losses": MadeUpLosses(), "keep": "high", "sample": 5}),
    ("density_pruning", clustered(first="random", temperature=2.0)),
    ("kmeans", clustered(sampler="centroid", shares="equal")),
    ("kmeans", clustered(sampler="kmq", quality="n_bytes")),
    ("rs2", {"rounds": 4}),
    ("rs2", {"rounds": 3, "mode": "with"}),
    ("rs2", {"rounds": 4, "mode": "official"}),
    ("semdedup", clustered(first="random", epsilon=0.5)),
    ("target_similarity", {"vectors": Letters(), "centroids": 1, "targets": "joint"}),
    ("target_similarity", {"vectors": Letters(), "score_by": "cosine"}),
]
"""Of the same selectors, what the defaults do not reach; `quality` is given the number of bytes here."""

CHOOSERS = [name for name in REGISTRY.names() if not REGISTRY.find(name).groups]
DEDUPERS = [name for name in REGISTRY.names() if REGISTRY.find(name).groups]
REFINED = [name for name in CHOOSERS if REGISTRY.find(name).first_shares is not Selector.first_shares]
of_choosers = pytest.mark.parametrize("kind", CHOOSERS, indirect=True)
CLUSTERED = [name for name in REGISTRY.names() if REGISTRY.find(name).clustering is not Selector.clustering]
of_clustered = pytest.mark.parametrize("kind", CLUSTERED, indirect=True)
of_refined = pytest.mark.parametrize("kind", REFINED, indirect=True)
of_dedupers = pytest.mark.parametrize("kind", DEDUPERS, indirect=True)

POOL = [
    "The cat sat on the mat.",
    "A proof of the theorem follows from the lemma.",
    "",
    "The cat sat on the mat.",
    "def f(x): return x + 1",
    "Stocks fell on Monday; bonds rose.",
    "The cat sat on the mat and the dog sat on the cat, while the mat sat on nobody.",
    " \n",
    "Let x be a real number. Then x + 1 is a real number.",
    "def f(x): return x + 1",
    "Der Hund schläft. 猫は寝ている。",
    "the cat sat on the mat.",
    "word " * 80,
    "The cat sat on the mat.",
]
TARGETS = {
    "proofs": ["The theorem follows.", "Let x be a number. The lemma follows from the proof of the theorem."],
    "code": ["def g(x): return x", "return x + 1"],
}
RULES = [
    CutRule(by="top", budget=5),
    CutRule(by="gumbel", budget=5, temperature=2.0),
    CutRule(by="percentile", percent=40),
    CutRule(by="threshold", min_score=-math.inf),
]
SPLITS = [[14], [7, 7], [3, 1, 10], [1] * 14, [0, 14, 0]]


def draw(purpose):
    return stream_key(17, "step", purpose)


def batch_of(selector, texts, prefix="doc"):
    """What the driver reads for a selector: row, key, its columns of the shard, and its features."""
    ids = [f"{prefix}-{i}" for i in range(len(texts))]
    column = pa.array(texts, pa.large_string())
    documents = pa.RecordBatch.from_pydict(
        {
            "doc_id": ids,
            "doc_key": [doc_key(i) for i in ids],
            "text": column,
            "source": ["web" if i % 2 else None for i in range(len(ids))],
            "meta": pa.nulls(len(ids), pa.string()),
            "file": ["crawl.jsonl"] * len(ids),
            "line": list(range(1, len(ids) + 1)),
            "n_bytes": [len(text.encode()) for text in texts],
            "text_hash": text_hashes(column),
            "repaired": [False] * len(ids),
        },
        schema=DOCUMENT,
    )
    arrays = {"row": pa.array(range(len(ids)), pa.int64()), "doc_key": documents.column("doc_key")}
    arrays |= {name: documents.column(name) for name in ("doc_id", *selector.reads)}
    for alias, feature in selector.needs.items():
        found = feature.compute(documents.select(list(feature.reads)), feature.load())
        arrays |= {f"{alias}.{name}": found.column(name) for name in found.schema.names}
    if "quality" in selector.expressions:
        arrays["quality"] = documents.column("n_bytes").cast(pa.float64())
    return pa.RecordBatch.from_pydict(arrays)


def cut_into(batch, sizes):
    ends = np.cumsum(sizes).tolist()
    return [batch.slice(end - size, size) for end, size in zip(ends, sizes, strict=True)]


def shuffled(batch):
    order = np.random.default_rng(5).permutation(batch.num_rows)
    return batch.take(pa.array(order))


def targets_of(selector):
    if not selector.needs_target:
        return []

    def target(name, texts):
        batch = batch_of(selector, texts, name)
        return Target(name, None, lambda: iter(cut_into(batch, [1] * batch.num_rows)))

    return [target(name, texts) for name, texts in TARGETS.items()]


def sample_of(selector, batches):
    """The random sample of the pool that the driver reads for some selectors."""
    table = pa.Table.from_batches(batches).combine_chunks() if batches else None
    if not selector.sample_size or not table or not table.num_rows:
        return None
    order = np.argsort(uniform(table.column("doc_key").to_numpy(), draw("sample")))[: selector.sample_size]
    return table.take(order).combine_chunks().to_batches()[0]


def fitted(selector, batches):
    summary = sample_of(selector, batches)
    if selector.summary_type is not None:
        summaries = [selector.summarise(batch) for batch in batches]
        assert all(type(one) is selector.summary_type for one in summaries)
        summary = selector.merge(summaries)
    state = selector.fit(summary, targets_of(selector), draw)
    assert type(state) is selector.state_type
    return state


def scored(selector, batches, state):
    """Scores by id, each checked to be what the contract says."""
    found = {}
    for batch in batches:
        table = selector.score(batch, state)
        assert isinstance(table, pa.Table) and table.num_rows == batch.num_rows
        if not selector.groups:
            _check_scores(table)
        found |= dict(zip(batch.column("doc_id").to_pylist(), map(repr, table.to_pylist()), strict=True))
    return found


def _check_scores(table):
    names = [name for name in table.column_names if name == "score" or name.startswith("score_")]
    assert names
    for name in names:
        assert table.schema.field(name).type == pa.float64()
        if table.column(name).null_count:
            assert table.filter(table.column(name).is_null()).column("reason").null_count == 0


def parts_of(selector, batches, state):
    """One part a batch, for any score column."""

    def part(number, batch, column):
        table = selector.score(batch, state)
        score, ids = table.column(column).combine_chunks(), batch.column("doc_id").to_pylist()
        return Part(
            shard=f"s{number}",
            row=batch.column("row").to_numpy(),
            doc_key=batch.column("doc_key").to_numpy(),
            score=score.fill_null(math.nan).to_numpy(zero_copy_only=False),
            eligible=score.is_valid().to_numpy(zero_copy_only=False),
            weight=np.ones(len(ids), np.int64),
            group=table.column(selector.per).combine_chunks() if selector.per else None,
            doc_ids=lambda rows: [ids[row] for row in rows.tolist()],
        )

    return lambda column: lambda: (part(number, batch, column) for number, batch in enumerate(batches))


def selected(selector, batches, state, rule):
    """The ids that the cuts of a selector keep, as the driver applies them: an earlier cut goes first."""
    parts = parts_of(selector, batches, state)
    choice = selector.select(parts, state, replace(rule, per=selector.per is not None), draw)
    taken = [np.zeros(batch.num_rows, bool) for batch in batches]
    for column, cut in choice.cuts.items():
        for number, part in enumerate(parts(column)()):
            taken[number] = taken[number] | cut.kept(replace(part, eligible=part.eligible & ~taken[number]))
    kept = (batch.filter(pa.array(mask)).column("doc_id") for batch, mask in zip(batches, taken, strict=True))
    return {doc_id for ids in kept for doc_id in ids.to_pylist()}


def deduplicated(selector, batches, state, one_block=True):
    """Keep and ref by id, with all groups in one block or each in its own."""
    tables = []
    for batch in batches:
        found, table = selector.score(batch, state), pa.Table.from_batches([batch])
        assert found.column("group").null_count == 0 and found.schema.field("group").type == pa.uint64()
        for column in found.column_names:
            table = table.append_column(column, found.column(column))
        tables.append(table)
    table = pa.concat_tables(tables)
    groups = [None] if one_block else pc.unique(table.column("group")).to_pylist()
    found = {}
    for group in groups:
        mine = pc.equal(table.column("group"), pa.scalar(group, table.column("group").type))
        block = table if group is None else table.filter(mine)
        verdict = selector.within(block, state)
        assert verdict.column_names == ["keep", "ref"] and verdict.num_rows == block.num_rows
        answers = zip(verdict.column("keep").to_pylist(), verdict.column("ref").to_pylist(), strict=True)
        found |= dict(zip(block.column("doc_id").to_pylist(), answers, strict=True))
    return found


def decisions(selector, batches, state):
    """All that a selector decides about documents, by id."""
    if selector.groups:
        return deduplicated(selector, batches, state)
    return [scored(selector, batches, state), *(selected(selector, batches, state, rule) for rule in RULES)]


@pytest.fixture(scope="module", params=REGISTRY.names())
def kind(request):
    return REGISTRY.find(request.param)


@pytest.fixture(scope="module")
def selector(kind):
    return kind(**MADE.get(kind.name, {}))


@pytest.mark.parametrize(("name", "parameters"), MORE, ids=lambda value: value if isinstance(value, str) else "")
def test_other_parameters_keep_to_it_too(name, parameters, tmp_path):
    selector = REGISTRY.find(name)(**parameters)
    pool = batch_of(selector, POOL)
    state = fitted(selector, [pool])
    test_the_order_of_the_rows_changes_nothing(selector, pool, state)
    test_state_and_summary_survive_the_lake(selector, pool, state, tmp_path)
    for sizes in SPLITS:
        test_the_split_into_batches_changes_nothing(selector, pool, state, sizes)
    test_reasons_are_one_a_document_and_sum_to_its_score(selector, pool, state)
    if selector.groups:
        test_a_document_stays_or_names_one_that_does(selector, pool, state)
    else:
        test_every_document_has_a_score_or_a_reason(selector, pool, state)
        test_no_documents_have_no_scores(selector, pool, state)


@pytest.fixture(scope="module")
def pool(selector):
    return batch_of(selector, POOL)


@pytest.fixture(scope="module")
def state(selector, pool):
    return fitted(selector, [pool])


def test_it_is_a_frozen_dataclass(kind):
    assert issubclass(kind, Selector) and is_dataclass(kind) and is_dataclass(kind.state_type)
    assert kind.__dataclass_params__.frozen and kind.state_type.__dataclass_params__.frozen
    assert kind.summary_type is None or kind.summary_type.__dataclass_params__.frozen


def test_name_version_and_what_it_reads_are_declared(kind, selector):
    assert REGISTRY.find(kind.name) is kind
    assert isinstance(kind.version, int) and kind.version >= 1
    assert set(kind.reads) <= set(DOCUMENT.names)
    assert all(isinstance(feature, Feature) for feature in selector.needs.values())


def test_the_docstring_says_what_it_is(kind):
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")
    assert kind.__doc__.strip().split("\n")[0].rstrip().endswith(".")


def test_a_parameter_has_a_default_or_is_in_the_docstring(kind):
    for field in fields(kind):
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        assert has_default or f"`{field.name}`" in kind.__doc__


def test_it_can_be_copied_sent_and_used_as_a_key(selector):
    assert copy.deepcopy(selector) == selector == pickle.loads(pickle.dumps(selector))
    assert hash(copy.deepcopy(selector)) == hash(selector)


@of_choosers
def test_every_document_has_a_score_or_a_reason(selector, pool, state):
    assert len(scored(selector, [pool], state)) == len(POOL)


@of_choosers
def test_the_budget_is_met(selector, pool, state):
    assert len(selected(selector, [pool], state, RULES[0])) == 5
    everything = selected(selector, [pool], state, CutRule(budget=10**9))
    assert everything >= {f"doc-{i}" for i, text in enumerate(POOL) if text.strip()}


@of_dedupers
def test_a_document_stays_or_names_one_that_does(selector, pool, state):
    found = deduplicated(selector, [pool], state)
    assert set(found) == {f"doc-{i}" for i in range(len(POOL))}
    for keep, ref in found.values():
        assert ref is None if keep else found[ref][0]
    assert not all(keep for keep, _ in found.values())


@of_clustered
def test_a_document_is_in_the_nearest_cluster_or_has_no_distance(selector, pool, state):
    feature, clusters = selector.clustering(state)
    column = vector_column(feature)
    lists = pa.array([None, *pool.column(column).to_pylist()[1:]], pool.column(column).type)
    batch = pool.set_column(pool.schema.get_field_index(column), column, lists)
    found = selector.score(batch, state)
    assert found.column("distance").is_valid().to_pylist() == [False] + [True] * (len(POOL) - 1)
    x, _ = unit_rows(lists)
    every = [1 - x @ c if clusters.spherical else ((x - c) ** 2).sum(axis=1) for c in clusters.centroids]
    cluster = found.column("group" if selector.groups else "cluster").to_numpy()[1:].astype(int)
    assert found.column("distance").to_numpy()[1:] == pytest.approx(np.min(every, axis=0)[1:], abs=1e-6)
    assert np.array(every)[cluster, np.arange(1, len(POOL))] == pytest.approx(np.min(every, axis=0)[1:], abs=1e-6)


def test_the_order_of_the_rows_changes_nothing(selector, pool, state):
    other = shuffled(pool)
    assert decisions(selector, [other], state) == decisions(selector, [pool], state)
    assert decisions(selector, [other], fitted(selector, [other])) == decisions(selector, [pool], state)


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_the_split_into_batches_changes_nothing(selector, pool, state, sizes):
    batches = cut_into(pool, sizes)
    assert decisions(selector, batches, state) == decisions(selector, [pool], state)
    assert decisions(selector, batches, fitted(selector, batches)) == decisions(selector, [pool], state)
    assert decisions(selector, batches[::-1], fitted(selector, batches[::-1])) == decisions(selector, [pool], state)


def test_the_same_again(selector, pool, state):
    assert decisions(selector, [pool], fitted(selector, [pool])) == decisions(selector, [pool], state)
    assert decisions(copy.deepcopy(selector), [pool], state) == decisions(selector, [pool], state)


def test_summaries_merge_in_any_nesting(selector, pool, state):
    if selector.sample_size:
        return  # it has none
    one, two, three = (selector.summarise(batch) for batch in cut_into(pool, [4, 4, 6]))
    nestings = [[selector.merge([one, two]), three], [one, selector.merge([two, three])], [three, one, two]]
    for summaries in nestings:
        found = selector.fit(selector.merge(summaries), targets_of(selector), draw)
        assert decisions(selector, [pool], found) == decisions(selector, [pool], state)


def test_the_inputs_are_left_as_they_were(selector, pool):
    batch = batch_of(selector, POOL)
    decisions(selector, [batch], fitted(selector, [batch]))
    assert batch.equals(pool)


@of_choosers
def test_no_documents_have_no_scores(selector, pool, state):
    empty = pool.slice(0, 0)
    assert selector.score(empty, state).num_rows == 0
    assert selected(selector, [empty], state, RULES[0]) == selected(selector, [], state, RULES[0]) == set()


@of_dedupers
def test_no_documents_have_no_groups(selector, pool, state):
    assert deduplicated(selector, [pool.slice(0, 0)], state) == {}


def test_a_pool_without_documents_can_be_fitted(selector, pool):
    state = selector.fit(None, targets_of(selector), draw)
    assert type(state) is selector.state_type
    empty = fitted(selector, [pool.slice(0, 0)])
    assert len(decisions(selector, [pool], empty)) == len(decisions(selector, [pool], state))


def test_state_and_summary_survive_the_lake(selector, pool, state, tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    publish_state(lake, lake.root / "state.safetensors", state)
    loaded = load_state(lake.root / "state.safetensors", selector.state_type)
    assert decisions(selector, [pool], loaded) == decisions(selector, [pool], state)
    if selector.summary_type is not None:
        publish_state(lake, lake.root / "summary.safetensors", selector.summarise(pool))
        summary = load_state(lake.root / "summary.safetensors", selector.summary_type)
        again = selector.fit(selector.merge([summary]), targets_of(selector), draw)
        assert decisions(selector, [pool], again) == decisions(selector, [pool], state)


@given(data=st.data())
def test_an_old_summary_and_new_rows_are_as_good_as_all_rows(selector, pool, state, data):
    """What `refit: merge` relies on: bit for bit, for any split into old and new, and for rows that went away."""
    order = data.draw(st.permutations(range(len(POOL))))
    at, gone = sorted(data.draw(st.lists(st.integers(1, len(POOL) - 1), min_size=2, max_size=2)))
    pieces = [pool.take(pa.array(rows, pa.int64())) for rows in (order[:at], order[at:gone], order[gone:])]
    first, middle, last = pieces
    if selector.summary_type is not None:
        merge, summaries = selector.merge, [selector.summarise(piece) for piece in pieces]
        old = merge(summaries[:2])
        merged = merge([old, summaries[2]])
        less = selector.subtract(merged, summaries[1:2])
        if type(selector).subtract is not Selector.subtract:
            assert same(less, merge([summaries[0], summaries[2]])), "subtract is not exact"
        else:
            assert less is None
    elif selector.sample_size:
        samples = [sample_of(selector, batches) for batches in ([first, middle], [last])]
        old = pa.Table.from_batches([samples[0]])
        merged = merge_samples(old, samples[1], selector.sample_size, draw("sample"))
    else:
        merged = None
    if selector.merges:
        assert same(selector.fit(merged, targets_of(selector), draw), state)
    else:
        with pytest.raises(ConfigError, match="never exact"):
            check_refit(selector, "merge", "step 's'")


def test_a_selector_can_begin_at_an_earlier_state_or_refuses(selector, pool, state):
    if type(selector).fit_from is Selector.fit_from:
        with pytest.raises(ConfigError, match="use `fresh`"):
            check_refit(selector, "warm", "step 's'")
        return
    check_refit(selector, "warm", "step 's'")
    warm = selector.fit_from(state, sample_of(selector, [pool]), targets_of(selector), draw)
    assert type(warm) is selector.state_type
    assert len(decisions(selector, [pool], warm)) == len(decisions(selector, [pool], state))


def same(one, other):
    """Say whether two summaries or states are the same, bit for bit."""
    if type(one) is not type(other):
        return False
    if is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other


@of_dedupers
def test_a_group_is_decided_by_itself(selector, pool, state):
    assert deduplicated(selector, [pool], state, one_block=False) == deduplicated(selector, [pool], state)


@of_choosers
def test_who_chooses_does_not_decide_within_groups(selector, pool, state):
    with pytest.raises(NotImplementedError):
        selector.within(pa.Table.from_batches([pool]), state)


@of_choosers
def test_a_budget_is_never_exceeded(selector, pool, state):
    n_eligible = len(selected(selector, [pool], state, CutRule(budget=10**9)))
    for budget in range(len(POOL) + 1):
        assert len(selected(selector, [pool], state, CutRule(budget=budget))) == min(budget, n_eligible)


@of_refined
def test_rounds_take_their_clusters_documents_in_one_order(selector, pool, state):
    """What `first_shares` promises: one cut, by the shares of the rule, that goes on where a smaller one ended."""
    choice = selector.select(parts_of(selector, [pool], state), state, CutRule(budget=1, per=True), draw)
    assert list(choice.cuts) == ["score"]
    cluster_of = selector.score(pool, state).column("cluster").to_pylist()
    place, found = dict(zip(pool.column("doc_id").to_pylist(), cluster_of, strict=True)), set()
    for cluster in sorted(set(place.values())):
        before = set()
        for budget in range(len(POOL) + 1):
            taken = selected(selector, [pool], state, CutRule(budget=budget, per=True, shares={str(cluster): 1.0}))
            assert before <= taken and len(taken) <= budget and {place[doc_id] for doc_id in taken} <= {cluster}
            before = taken
        found |= before
    assert found == selected(selector, [pool], state, CutRule(budget=10**9))


@of_choosers
def test_health_is_numbers_that_do_not_depend_on_batches(selector, pool, state):
    table = selector.score(pool, state)
    found = selector.health(state, lambda: iter([table]), lambda: iter([pool]))
    assert all(isinstance(name, str) and type(number) is float for name, number in found.items())
    pieces = [table.slice(0, 5), table.slice(5, 0), table.slice(5)]
    split = selector.health(state, lambda: iter(pieces), lambda: iter(cut_into(pool, [6, 8])))
    assert split == pytest.approx(found, rel=1e-12, nan_ok=True)


def reasons_of(selector, pool, state, rows):
    """What a selector says of some rows, all of which were kept, as the driver asks it."""
    texts = pa.array(POOL, pa.large_string())
    batch = pa.Table.from_batches([pool]).append_column("shard", pa.repeat("s", len(POOL)))
    batch = batch if "text" in batch.column_names else batch.append_column("text", texts)
    (batch,) = batch.combine_chunks().to_batches()
    scores = selector.score(pool, state)
    judged = next((n for n in scores.column_names if n.startswith("score")), None)
    given = pa.nulls(len(POOL), pa.float64()) if judged is None else scores.column(judged)
    scores = scores.append_column("kept", pa.array([True] * len(POOL))).append_column("judged", given)

    def stream(where):
        mask = pa.array(where(scores))
        yield "s", batch.filter(mask), scores.filter(mask)

    def with_text(target):
        batches = [
            b if "text" in b.schema.names else b.append_column("text", b.column("doc_id")) for b in target.batches()
        ]
        return replace(target, batches=lambda: iter(batches))

    around = Around(10**6, lambda: [with_text(target) for target in targets_of(selector)], stream)
    places = pa.array(rows)
    found = selector.reasons(batch.take(places), state, scores.take(places), around)
    return found, given.take(places).to_pylist()


def test_reasons_are_one_a_document_and_sum_to_its_score(selector, pool, state):
    found, judged = reasons_of(selector, pool, state, range(len(POOL)))
    if found is None:
        return
    assert len(found) == len(POOL)
    for text, reason, score in zip(POOL, found, judged, strict=True):
        json.dumps(reason.__dict__)
        assert reason.kind and reason.about and "\n" not in reason.about
        assert all(0 <= start < end <= len(text) for start, end, _ in reason.marks)
        assert all("text" in part or "doc_id" in part for part in reason.parts)
        if reason.total is not None and reason.kind != "tokens":  # those sum to the score times the tokens
            assert reason.total == pytest.approx(score, rel=1e-9, abs=1e-9)
        if reason.rest is not None:
            weights = sum(part["weight"] for part in reason.parts)
            assert weights + reason.rest == pytest.approx(reason.total, rel=1e-9, abs=1e-9)


def test_reasons_do_not_depend_on_who_else_is_asked_about(selector, pool, state):
    together, _ = reasons_of(selector, pool, state, range(len(POOL)))
    for row in range(len(POOL)) if together else ():
        ((alone,), _) = reasons_of(selector, pool, state, [row])
        assert (alone.kind, alone.about, alone.marks) == (together[row].kind, together[row].about, together[row].marks)
        assert [part.get("doc_id") for part in alone.parts] == [part.get("doc_id") for part in together[row].parts]
