"""DSIR: against the official code's numbers, against plain Python, and exact for any split of the rows."""

import json
import math
import re
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import reference_data
from tamis.selectors.base import Target
from tamis.selectors.budget import CutRule, Part
from tamis.selectors.dsir import Dsir
from tamis.storage.errors import ConfigError, SelectionError

CASES = [
    "default_n2_b10000",
    "laplace1_n2_b10000",
    "minlen0_n2_b10000",
    "n1_b1024",
    "n3_b50000",
    "separate_targets",
    "separate_targets_prop_0.25_0.75",
    "two_files_numproc4",
]
PLAIN = {
    "hash": "sha256",
    "mix": 0.0,
    "prior_words": 0.0,
    "normalise": "none",
    "unit": "document",
    "smoothing": 0.0,
    "min_words": 0,
    "ngrams": 2,
}
SMALL = {**PLAIN, "buckets": 50, "targets": "separate"}
TEXTS = ["the cat sat on the mat", "", "a dog", "  \n", "the cat, the cat and the cat", "naïve café — ça va ?"]
TARGET = ["the cat sat", "the mat"]
WORDS = st.lists(
    st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "."]), max_size=12).map(" ".join), max_size=9
)


@cache
def _ids(ngrams_feature, texts):
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    return ngrams_feature.compute(batch, ngrams_feature.load()).column("ids")


def batch_of(selector, texts):
    """What the driver gives a selector: the n-grams of these documents."""
    (feature,) = selector.needs.values()
    return pa.record_batch({"ngrams.ids": _ids(feature, tuple(texts))})


def target_of(selector, name, texts, weight=None, split=None):
    pieces = [texts] if split is None else [texts[:split], texts[split:]]
    return Target(name, weight, lambda: (batch_of(selector, piece) for piece in pieces))


def fitted(selector, pool, targets):
    """Fit on a pool of texts; `targets` are texts by name."""
    found = [target_of(selector, name, texts) for name, texts in targets.items()]
    return selector.fit(selector.summarise(batch_of(selector, pool)), found, lambda purpose: 7)


def scores_of(selector, texts, state, column="score"):
    return selector.score(batch_of(selector, texts), state).column(column).to_pylist()


def chosen(selector, state, ids, table, rule):
    """Which ids the selector chooses, by score column: what the driver does, with all rows in one part."""

    def part(column):
        score = table.column(column).combine_chunks()
        return Part(
            shard="s",
            row=np.arange(len(ids)),
            doc_key=np.array([xxhash.xxh3_64_intdigest(i.encode()) for i in ids], np.uint64),
            score=score.fill_null(math.nan).to_numpy(),
            eligible=score.is_valid().to_numpy(zero_copy_only=False),
            weight=np.ones(len(ids), np.int64),
            group=None,
            doc_ids=lambda rows: [ids[row] for row in rows.tolist()],
        )

    choice = selector.select(lambda column: lambda: iter([part(column)]), state, rule, lambda purpose: 7)
    taken, by_column = np.zeros(len(ids), bool), {}
    for column, cut in choice.cuts.items():
        left = part(column)
        mask = cut.kept(Part(**{**vars(left), "eligible": left.eligible & ~taken}))
        by_column[column], taken = {ids[row] for row in np.flatnonzero(mask).tolist()}, taken | mask
    return by_column


class Golden:
    """One configuration of the official code: its inputs, what it wrote, and our selector fitted on the same."""

    def __init__(self, name):
        folder = reference_data("goldens/dsir") / name
        said = json.loads((folder / "selection.json").read_text())
        self.params, self.selected = said["params"], said["selected_in_output_order"]
        self.n_long_enough, self.proportions = said["n_pass_length_filter"], said["target_proportions"]
        self.distributions = pq.read_table(folder / "distributions.parquet")
        self.weights = pq.read_table(folder / "log_weights.parquet")
        raw, target = _documents("raw"), list(_documents("target").values())
        self.ids, self.texts = list(raw), list(raw.values())
        self.selector = Dsir(
            ngrams=self.params.get("ngrams", 2),
            buckets=self.params.get("num_buckets", 10_000),
            hash="sha256",
            mix=0.0,
            smoothing=self.params.get("target_laplace_smoothing", 0.0),
            min_words=self.params.get("min_example_length", 100),
            normalise="none",
            unit="document",
            targets="separate",
        )
        self.targets = {"target": target}
        if len(said["target_paths"]) == 2:
            self.targets = {"first20": target[:20], "rest": target[20:]}
        self.state = self._fit(len(said["raw_paths"]))
        self.table = self.selector.score(batch_of(self.selector, self.texts), self.state)

    def _fit(self, n_files):
        step = -(-len(self.texts) // n_files)
        files = [self.texts[i : i + step] for i in range(0, len(self.texts), step)]
        summary = self.selector.merge([self.selector.summarise(batch_of(self.selector, texts)) for texts in files])
        shares = self.params.get("target_proportions", [None] * len(self.targets))
        targets = [
            target_of(self.selector, *pair, share) for pair, share in zip(self.targets.items(), shares, strict=True)
        ]
        return self.selector.fit(summary, targets, lambda purpose: 7)

    @property
    def columns(self):
        return [name for name in self.table.column_names if name != "reason"]

    def officially_ordered(self, column):
        """Our log weights in the order of the official file; NaN where a document is too short."""
        ours = dict(zip(self.ids, self.table.column(column).to_pylist(), strict=True))
        found = [ours[doc_id] for doc_id in self.weights.column("id").to_pylist()]
        return np.array([math.nan if w is None else w for w in found])


def _documents(name):
    lines = (reference_data("goldens/inputs") / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    records = [json.loads(line) for line in lines if line.strip()]
    return {record["id"]: record["text"] for record in records}


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    return Golden(request.param)


def test_distributions_are_the_official_ones(golden):
    for i, texts in enumerate(golden.targets.values()):
        (feature,) = golden.selector.needs.values()
        counts = np.bincount(_ids(feature, tuple(texts)).flatten().to_numpy(), minlength=golden.selector.buckets)
        assert golden.state.target_counts[i].tolist() == counts.tolist()
        smoothed = counts + golden.selector.smoothing
        target_prob = golden.distributions.column(f"target_prob_{i}").to_numpy()
        assert (smoothed / smoothed.sum()).tolist() == target_prob.tolist()
        log_diff = golden.distributions.column(f"log_diff_{i}").to_numpy()
        np.testing.assert_allclose(golden.state.ratio[i], log_diff, rtol=1e-12, atol=1e-12)
    pool = golden.selector.summarise(batch_of(golden.selector, golden.texts)).counts
    assert (pool / pool.sum()).tolist() == golden.distributions.column("raw_prob").to_numpy().tolist()


def test_log_weights_are_the_official_ones(golden):
    whole = Dsir(**{**vars(golden.selector), "min_words": 0})
    table = whole.score(batch_of(whole, golden.texts), golden.state)
    for i, column in enumerate(golden.columns):
        name = "log_weight" if len(golden.columns) == 1 else f"log_weight_{i}"
        official = dict(zip(golden.weights["id"].to_pylist(), golden.weights[name].to_pylist(), strict=True))
        ours = dict(zip(golden.ids, table.column(column).to_pylist(), strict=True))
        assert official.keys() == ours.keys()
        np.testing.assert_allclose([ours[i] for i in official], list(official.values()), rtol=1e-9, atol=1e-9)


def test_as_many_documents_are_long_enough(golden):
    assert golden.table.column("reason").null_count == golden.n_long_enough
    assert golden.table.column(golden.columns[0]).null_count == len(golden.ids) - golden.n_long_enough
    official = dict(zip(golden.weights["id"].to_pylist(), golden.weights["length"].to_pylist(), strict=True))
    short = [official[i] < golden.selector.min_words for i in golden.ids]
    assert golden.table.column(golden.columns[0]).is_null().to_pylist() == short


def test_top_k_is_the_official_choice(golden):
    rule = CutRule(by="top", budget=golden.params["num_to_sample"])
    by_column = chosen(golden.selector, golden.state, golden.ids, golden.table, rule)
    assert set().union(*by_column.values()) == set(golden.selected["top_k"])
    assert list(by_column) == golden.columns


def test_targets_share_the_budget_as_officially(golden):
    shares = golden.proportions or [1.0]
    assert golden.state.proportions == pytest.approx(shares, rel=1e-12)
    budget = golden.params["num_to_sample"]
    by_column = chosen(golden.selector, golden.state, golden.ids, golden.table, CutRule(budget=budget))
    sizes = [int(budget * share) for share in shares[:-1]]
    assert [len(ids) for ids in by_column.values()] == [*sizes, budget - sum(sizes)]


def test_gumbel_noise_on_our_weights_gives_the_official_samples(golden):
    """The official noise is NumPy's, ours is keyed by document: so the noise is added here, in the official order."""
    names = [name for name in golden.selected if name.startswith("gumbel_npseed")]
    weights = np.stack([golden.officially_ordered(column) for column in golden.columns], axis=1)
    long_enough = ~np.isnan(weights[:, 0])
    weights = weights[long_enough]
    official_ids = golden.weights.column("id").to_numpy(zero_copy_only=False)[long_enough].tolist()
    k = golden.params["num_to_sample"]
    shares = golden.proportions or [1.0]
    sizes = [int(k * share) for share in shares[:-1]]
    for name in names:
        noise = np.random.RandomState(int(name.removeprefix("gumbel_npseed"))).gumbel(size=weights.shape)
        noisy, found = weights + noise, set()
        for column, size in enumerate([*sizes, k - sum(sizes)]):
            order = np.argsort(-noisy[:, column], kind="stable")  # NaN last: too short
            left = [official_ids[row] for row in order if official_ids[row] not in found]
            found.update(left[:size])
        assert found == set(golden.selected[name])
    assert names


def plain_ids(text, ngrams, buckets):
    """The buckets of a document's n-grams, by word: hash="sha256" written as the paper has it."""
    from hashlib import sha256

    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    grams = [
        [" ".join(words[end - m : end]) for m in range(1, ngrams + 1) if m <= end] for end in range(1, len(words) + 1)
    ]
    return [[int(sha256(gram.encode()).hexdigest(), 16) % buckets for gram in word] for word in grams]


def plain_ratio(pool, target, selector):
    def counts(texts):
        found = np.zeros(selector.buckets)
        for text in texts:
            for word in plain_ids(text, selector.ngrams, selector.buckets):
                for bucket in word:
                    found[bucket] += 1
        return found

    raw, wanted = counts(pool), counts(target) + selector.smoothing
    p_pool, p_target = raw / raw.sum(), wanted / wanted.sum()
    p_target = (1 - selector.mix) * p_target + selector.mix * p_pool
    ratio = np.log(p_target + 1e-8) - np.log(p_pool + 1e-8)
    return ratio, float(ratio @ p_pool)


def plain_mean(ratios, centre, selector):
    """Of a run of n-grams, as if `prior_words` more of average text had been seen, for 128 words."""
    n = len(ratios)
    return (sum(ratios) - n * centre) / max(1, n + selector.prior_words * selector.ngrams) * 128 * selector.ngrams


def assert_close(ours, plain):
    assert [score is None for score in ours] == [score is None for score in plain]
    assert [s for s in ours if s is not None] == pytest.approx([s for s in plain if s is not None], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("ngrams", [1, 2, 3])
@pytest.mark.parametrize(("smoothing", "mix"), [(0.0, 0.0), (1.0, 0.0), (0.0, 0.8), (0.5, 0.1)])
def test_the_sum_over_a_document(ngrams, smoothing, mix):
    selector = Dsir(**{**SMALL, "ngrams": ngrams, "smoothing": smoothing, "mix": mix})
    ratio, _ = plain_ratio(TEXTS, TARGET, selector)
    plain = [sum(ratio[i] for word in plain_ids(text, ngrams, 50) for i in word) for text in TEXTS]
    assert_close(scores_of(selector, TEXTS, fitted(selector, TEXTS, {"t": TARGET})), plain)


@pytest.mark.parametrize("ngrams", [1, 2, 3])
@pytest.mark.parametrize(("mix", "prior_words"), [(0.0, 0.0), (0.8, 10.0), (0.8, 0.5)])
def test_per_token_is_the_mean_over_the_ngrams(ngrams, mix, prior_words):
    selector = Dsir(**{**SMALL, "ngrams": ngrams, "normalise": "per_token", "mix": mix, "prior_words": prior_words})
    ratio, centre = plain_ratio(TEXTS, TARGET, selector)
    bags = [[ratio[i] for word in plain_ids(text, ngrams, 50) for i in word] for text in TEXTS]
    plain = [plain_mean(bag, centre, selector) if bag else None for bag in bags]
    assert_close(scores_of(selector, TEXTS, fitted(selector, TEXTS, {"t": TARGET})), plain)


@given(
    WORDS,
    st.integers(1, 3),
    st.integers(1, 6),
    st.sampled_from(["mean", "max"]),
)
@settings(max_examples=60, deadline=None)
def test_windows_against_lists(pool, ngrams, window_words, window_score):
    """A window is a run of `window_words * ngrams` n-grams; what is left over is one if it fills half of it."""
    options = {"unit": "window", "window_words": window_words, "window_score": window_score, "prior_words": 1.5}
    selector = Dsir(**{**SMALL, "ngrams": ngrams, "normalise": "per_token", **options})
    pool = ["the cat sat on a mat", *pool]
    ratio, centre = plain_ratio(pool, TARGET, selector)
    size, plain = window_words * ngrams, []
    for text in pool:
        bag = [ratio[i] for word in plain_ids(text, ngrams, 50) for i in word]
        starts = list(range(0, len(bag), size))
        if len(starts) > 1 and 2 * (len(bag) - starts[-1]) < size:
            starts.pop()
        ends = [*starts[1:], len(bag)]
        means = [plain_mean(bag[a:b], centre, selector) for a, b in zip(starts, ends, strict=True)] if bag else []
        best = max if window_score == "max" else lambda found: sum(found) / len(found)
        plain.append(best(means) if means else None)
    assert_close(scores_of(selector, pool, fitted(selector, pool, {"t": TARGET})), plain)


def test_one_window_is_the_mean_of_the_document():
    whole = Dsir(**{**SMALL, "normalise": "per_token"})
    window = Dsir(**{**SMALL, "normalise": "per_token", "unit": "window", "window_words": 100})
    state = fitted(whole, TEXTS, {"t": TARGET})
    assert_close(scores_of(window, TEXTS, state), scores_of(whole, TEXTS, state))


@given(WORDS, st.lists(st.integers(0, 9), max_size=4), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_summaries_of_any_split_merge_to_the_same_counts(pool, cuts, ngrams):
    selector = Dsir(**{**SMALL, "ngrams": ngrams, "hash": "fast"})
    borders = [0, *sorted(min(c, len(pool)) for c in cuts), len(pool)]
    pieces = [pool[a:b] for a, b in pairwise(borders)]
    summaries = [selector.summarise(batch_of(selector, piece)) for piece in pieces]
    whole = selector.summarise(batch_of(selector, pool)).counts.tolist()
    assert selector.merge(summaries).counts.tolist() == whole
    assert selector.merge(summaries[::-1]).counts.tolist() == whole
    nested = selector.merge([selector.merge(summaries[:1]), *summaries[1:]])
    assert nested.counts.tolist() == whole


MANNERS = [("document", "none"), ("document", "per_token"), ("window", "per_token")]


@given(WORDS, st.integers(0, 9), st.sampled_from(MANNERS), st.sampled_from([0.0, 10.0]))
@settings(max_examples=60, deadline=None)
def test_a_score_does_not_depend_on_its_batch(pool, cut, manner, prior_words):
    options = {"unit": manner[0], "normalise": manner[1], "window_words": 2, "prior_words": prior_words}
    selector = Dsir(**{**SMALL, "hash": "fast", **options})
    state = fitted(selector, ["the cat sat on a mat .", *pool], {"t": TARGET})
    whole = scores_of(selector, pool, state)
    assert scores_of(selector, pool[:cut], state) + scores_of(selector, pool[cut:], state) == whole
    sliced = selector.score(batch_of(selector, pool).slice(cut), state).column("score").to_pylist()
    assert sliced == whole[cut:]
    assert [scores_of(selector, [text], state)[0] for text in pool] == whole


def test_joint_targets_are_one_target_of_all_documents():
    joint = Dsir(**{**SMALL, "targets": "joint"})
    parts = fitted(joint, TEXTS, {"a": TARGET, "b": ["on the mat"]})
    whole = fitted(joint, TEXTS, {"ab": [*TARGET, "on the mat"]})
    assert parts.names == ("a+b",)
    assert parts.proportions == (1.0,)
    assert parts.ratio.tolist() == whole.ratio.tolist()
    assert parts.target_counts.tolist() == whole.target_counts.tolist()
    assert scores_of(joint, TEXTS, parts) == scores_of(joint, TEXTS, whole)


def test_joint_targets_may_hold_one_without_documents():
    joint = Dsir(**{**SMALL, "targets": "joint"})
    empty = Target("none", None, lambda: iter(()))
    summary = joint.summarise(batch_of(joint, TEXTS))
    state = joint.fit(summary, [empty, target_of(joint, "a", TARGET)], lambda purpose: 7)
    assert state.ratio.tolist() == fitted(joint, TEXTS, {"a": TARGET}).ratio.tolist()


def test_a_target_may_come_in_batches():
    selector = Dsir(**SMALL)
    summary = selector.summarise(batch_of(selector, TEXTS))
    split = selector.fit(summary, [target_of(selector, "t", TARGET, split=1)], lambda purpose: 7)
    assert split.ratio.tolist() == fitted(selector, TEXTS, {"t": TARGET}).ratio.tolist()


@pytest.mark.parametrize("batches", [[], [[]], [["", " \n"]]])
def test_a_target_without_words_is_an_error(batches):
    selector = Dsir(**SMALL)
    target = Target("leer", None, lambda: (batch_of(selector, texts) for texts in batches))
    with pytest.raises(SelectionError, match="'leer' has no words"):
        selector.fit(selector.summarise(batch_of(selector, TEXTS)), [target], lambda purpose: 7)


@pytest.mark.parametrize("weights", [[0.5, None], [0.0, 0.0], [-1.0, 2.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_proportions_that_make_no_sense_are_errors(weights):
    selector = Dsir(**SMALL)
    targets = [target_of(selector, name, TARGET, weight) for name, weight in zip("ab", weights, strict=True)]
    with pytest.raises(SelectionError, match="proportion"):
        selector.fit(selector.summarise(batch_of(selector, TEXTS)), targets, lambda purpose: 7)


def test_a_document_goes_to_the_first_target_that_takes_it():
    selector = Dsir(**SMALL)
    state = fitted(selector, TEXTS, {"a": TARGET, "b": TARGET})
    ids = [f"d{i}" for i in range(len(TEXTS))]
    table = selector.score(batch_of(selector, TEXTS), state)
    found = chosen(selector, state, ids, table, CutRule(budget=3))
    assert list(found) == ["score_a", "score_b"]
    assert [len(group) for group in found.values()] == [1, 2]
    alone = fitted(selector, TEXTS, {"a": TARGET})
    best = chosen(selector, alone, ids, selector.score(batch_of(selector, TEXTS), alone), CutRule(budget=3))
    assert set().union(*found.values()) == best["score"]


def test_a_pool_without_documents_can_be_fitted():
    selector = Dsir(**SMALL)
    state = selector.fit(None, [target_of(selector, "t", TARGET)], lambda purpose: 7)
    assert np.isfinite(state.ratio).all()
    assert scores_of(selector, [], state) == []


def reasons_of(selector, texts, state):
    return selector.score(batch_of(selector, texts), state).column("reason").to_pylist()


def test_min_words_says_why():
    selector = Dsir(**{**SMALL, "min_words": 3})
    state = fitted(selector, TEXTS, {"t": TARGET})
    too_short = "fewer than 3 words"
    assert reasons_of(selector, ["a b c", "a b", "a, b", "", "a"], state) == [
        None,
        too_short,
        None,
        too_short,
        too_short,
    ]
    assert [s is None for s in scores_of(selector, ["a b c", "a b", ""], state)] == [False, True, True]


@pytest.mark.parametrize("unit", ["document", "window"])
def test_a_blank_document_has_no_mean(unit):
    selector = Dsir(**{**SMALL, "normalise": "per_token", "unit": unit})
    state = fitted(selector, TEXTS, {"t": TARGET})
    assert reasons_of(selector, ["", " \n\t", "a"], state) == ["no words", "no words", None]


def test_a_blank_document_sums_to_nothing_as_officially():
    selector = Dsir(**SMALL)
    state = fitted(selector, TEXTS, {"t": TARGET})
    assert scores_of(selector, ["", " \n\t"], state) == [0.0, 0.0]


def covered(picked):
    selector = Dsir(**SMALL)
    state = fitted(selector, TEXTS, {"t": TARGET})
    return selector.health(state, lambda: iter([]), lambda: iter([batch_of(selector, picked)]))["target_ngrams_covered"]


def test_coverage_counts_the_target_s_ngrams_that_are_chosen():
    assert (covered(TEXTS), covered([""])) == (1.0, 0.0)
    wanted = [i for text in TARGET for word in plain_ids(text, 2, 50) for i in word]
    there = {i for word in plain_ids("the mat", 2, 50) for i in word}
    expected = sum(i in there for i in wanted) / len(wanted)
    assert 0 < expected < 1
    assert covered(["the mat"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "options",
    [{"mix": 1.0}, {"mix": -0.1}, {"mix": math.nan}, {"smoothing": -1.0}, {"smoothing": math.inf},
     {"prior_words": -1.0}, {"window_words": 0}, {"unit": "window", "normalise": "none"}],
)  # fmt: skip
def test_parameters_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match=rf"dsir: {next(iter(options))} is .*, expected "):
        Dsir(**options)
