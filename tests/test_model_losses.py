"""The selectors that go by losses: against the official selections, and without the quirks of the official code."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from letters import Letters, MadeUpLosses
from reference import reference_data
from tamis.selectors.budget import CutRule, Part, make_cut
from tamis.selectors.color_filter import ColorFilter
from tamis.selectors.difference_sampling import DifferenceSampling
from tamis.selectors.exact import Nothing
from tamis.selectors.perplexity import Perplexity
from tamis.storage.errors import ConfigError

ONE, OTHER = MadeUpLosses(), MadeUpLosses(an_e=0.3)


def golden(topic, name):
    folder = reference_data("goldens") / topic
    with np.load(folder / name) as inputs:
        return json.loads((folder / "selection.json").read_text()), dict(inputs)


def batch_of(counts=None, **losses):
    columns = {}
    for name, values in losses.items():
        columns[f"{name}.nll"] = pa.array(np.asarray(values, np.float32))
        columns[f"{name}.n_predicted"] = pa.array(np.ones(len(values), np.int64) if counts is None else counts)
    return pa.RecordBatch.from_pydict(columns)


def kept(table, rule):
    score, n = table.column("score").combine_chunks(), table.num_rows
    part = Part(
        shard="s", row=np.arange(n), doc_key=np.arange(n, dtype=np.uint64),
        score=score.fill_null(math.nan).to_numpy(zero_copy_only=False),
        eligible=score.is_valid().to_numpy(zero_copy_only=False), weight=np.ones(n, np.int64), group=None,
        doc_ids=lambda rows: [f"{row:05}" for row in rows.tolist()],
    )  # fmt: skip
    return np.flatnonzero(make_cut(lambda: iter([part]), rule).kept(part))


@pytest.mark.parametrize("layout", ["one_chunk_tau7", "one_chunk_tau16", "one_chunk_tau32", "one_chunk_tau64",
                                    "two_chunks_tau7", "two_chunks_tau16"])  # fmt: skip
def test_color_filter_chooses_what_the_official_code_chooses(layout):
    selection, inputs = golden("color_filter", "losses.npz")
    official, tau = selection["selected_global_indices"][layout], int(layout.partition("tau")[2])
    batch = batch_of(prior=inputs["prior"], conditional=inputs["cond"])
    scores = ColorFilter(prior=ONE, conditional=OTHER).score(batch, Nothing())
    rows = kept(scores, CutRule(budget=int(1 / tau * len(inputs["prior"]))))
    assert sorted(inputs["index"][rows].tolist()) == sorted(official)


def test_nothing_is_asked_for_and_nothing_is_taken():
    batch = batch_of(prior=[3, 2], conditional=[1, 1])
    assert kept(ColorFilter(prior=ONE, conditional=OTHER).score(batch, Nothing()), CutRule(budget=0)).tolist() == []


def test_a_loss_that_is_no_number_comes_last():
    batch = batch_of(prior=[math.nan, 2, 3, 3], conditional=[1, math.nan, 1, 2])
    scores = ColorFilter(prior=ONE, conditional=OTHER).score(batch, Nothing())
    assert kept(scores, CutRule(budget=2)).tolist() == [2, 3]


def test_the_baselines_are_the_losses_alone_and_sums_count_by_tokens():
    batch = batch_of([2, 4, 0], prior=[6, 8, 0], conditional=[2, 2, 0])
    for score_by, expected in {"difference": [2, 1.5], "prior": [-3, -2], "conditional": [-1, -0.5]}.items():
        scores = ColorFilter(prior=ONE, conditional=OTHER, score_by=score_by).score(batch, Nothing())
        assert scores.column("score").to_pylist()[:2] == expected and math.isnan(scores.column("score")[2].as_py())
    short = ColorFilter(prior=ONE, conditional=OTHER, min_tokens=3).score(batch, Nothing())
    assert short.column("reason").to_pylist() == ["too few tokens", None, "too few tokens"]


@pytest.mark.parametrize("share", ["0.5"])
def test_difference_sampling_keeps_what_the_official_code_keeps(share):
    selection, inputs = golden("miniplm", "scores.npz")
    batch = batch_of(small=inputs["small_loss"], large=inputs["large_loss"])
    scores = DifferenceSampling(small=ONE, large=OTHER).score(batch, Nothing())
    assert scores.column("score").to_numpy() == pytest.approx(inputs["diff"], abs=1e-5)
    rows = kept(scores, CutRule(by="percentile", percent=100 * float(share)))
    assert rows.tolist() == selection["kept"][share]


@pytest.mark.parametrize(("keep", "first"), [("low", [0, 1, 2]), ("high", [98, 99, 100]), ("middle", [49, 50, 51])])
def test_perplexity_keeps_the_low_the_middle_or_the_high(keep, first):
    batch = batch_of(losses=np.arange(101) ** 2)
    selector = Perplexity(losses=ONE, keep=keep)
    state = selector.fit(batch, [], lambda purpose: 7)
    assert kept(selector.score(batch, state), CutRule(budget=3)).tolist() == first


def test_buckets_are_cut_at_percentiles_of_the_sample():
    losses = np.random.default_rng(1).exponential(size=1000)
    losses[5] = math.nan
    selector = Perplexity(losses=ONE)
    state = selector.fit(batch_of(losses=losses), [], lambda purpose: 7)
    found = selector.score(batch_of(losses=losses), state).column("bucket").to_numpy(zero_copy_only=False)
    low, high = np.nanpercentile(losses, [30, 60])
    expected = np.where(losses < low, "head", np.where(losses < high, "middle", "tail"))
    assert found[5] is None and (found == expected).mean() > 0.995


def test_a_pool_without_losses_has_a_middle():
    selector = Perplexity(losses=ONE)
    state = selector.fit(None, [], lambda purpose: 7)
    assert selector.score(batch_of(losses=[1, math.nan]), state).column("bucket").to_pylist() == ["middle", None]


@pytest.mark.parametrize("made", [
    lambda: ColorFilter(prior=ONE, conditional=Letters()), lambda: DifferenceSampling(small=Letters(), large=ONE),
    lambda: Perplexity(losses=Letters()),
])  # fmt: skip
def test_a_feature_without_losses_is_refused(made):
    with pytest.raises(ConfigError, match="expected nll and n_predicted, as `losses` gives"):
        made()


@pytest.mark.parametrize("wrong", [{"head": 70.0}, {"tail": 101.0}, {"min_tokens": -1}, {"sample": 0}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        Perplexity(losses=ONE, **wrong)
