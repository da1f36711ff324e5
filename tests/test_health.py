"""The numbers of a selection that its users should look at: on how many documents the weights lie, and what is NaN."""

import math

import numpy as np
import pyarrow as pa
import pytest
from tamis.pipelines.health import effective_size, score_counts
from tamis.selectors.budget import CutRule, Part, make_cut

PIECES = [
    [[0.0, 0.0, 0.0]],
    [[1.0, 2.0], [3.0, -1.0, 0.5]],
    [[-700.0, -710.0], [-705.0]],
    [[-math.inf, 0.0], [1.0, None]],
    [[], [5.0], [math.nan, 4.0]],
    [[800.0, 799.0], [-800.0]],
]


def parts_of(pieces, groups=None):
    """Return what streams scores (None: not eligible) as the parts of a cut."""

    def part(number, scores):
        n = len(scores)
        return Part(
            f"shard-{number}", np.arange(n), np.arange(n, dtype=np.uint64) + np.uint64(1000 * number),
            np.array([math.nan if s is None else s for s in scores], np.float64),
            np.array([s is not None for s in scores], np.bool_), np.ones(n, np.int64),
            None if groups is None else pa.array(groups[number]), lambda rows: [f"d-{number}-{row}" for row in rows],
        )  # fmt: skip

    return lambda: (part(number, scores) for number, scores in enumerate(pieces))


def size_of(pieces, rule, log_weights=False, groups=None):
    parts = parts_of(pieces, groups)
    return effective_size(parts, make_cut(parts, rule, 7), log_weights)


def kish(scores, temperature=1.0):
    """(sum w)^2 / sum w^2, written down."""
    found = np.array([s for s in scores if s is not None and math.isfinite(s)])
    weights = np.exp((found - found.max()) / temperature)
    return weights.sum() ** 2 / (weights**2).sum()


def flat(pieces):
    return [score for piece in pieces for score in piece]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 30.0])
@pytest.mark.parametrize("pieces", PIECES)
def test_a_gumbel_cut_draws_with_weights_at_its_temperature(pieces, temperature):
    rule = CutRule("gumbel", temperature=temperature, budget=1)
    assert size_of(pieces, rule) == pytest.approx(kish(flat(pieces), temperature), rel=1e-12)


@pytest.mark.parametrize("pieces", PIECES)
def test_other_cuts_have_the_weights_that_the_selector_says_it_has(pieces):
    rule = CutRule("top", temperature=0.25, budget=1)
    assert size_of(pieces, rule) is None
    assert size_of(pieces, rule, log_weights=True) == pytest.approx(kish(flat(pieces)), rel=1e-12)


@pytest.mark.parametrize("scores", [[], [[]], [[None]], [[-math.inf, -math.inf]], [[math.nan]]])
def test_nothing_has_an_effective_size_of_nothing(scores):
    assert size_of(scores, CutRule("gumbel", budget=1)) == 0.0


def test_a_tiny_temperature_leaves_the_best_alone():
    assert size_of([[1.0, 2.0], [-1e300, 3.0]], CutRule("gumbel", temperature=1e-300, budget=1)) == 1.0


def test_documents_below_the_lowest_score_are_not_drawn():
    rule = CutRule("gumbel", min_score=0.0, budget=1)
    assert size_of([[-0.5, 0.0], [0.0, 0.0]], rule) == pytest.approx(3.0)


def test_groups_are_drawn_each_by_itself():
    groups = [["a", "a", "b"], ["b", "c"]]
    pieces = [[0.0, 0.0, 50.0], [50.0, -50.0]]
    assert size_of(pieces, CutRule("gumbel", budget=3)) == pytest.approx(2.0), "of all at once, that of the best two"
    assert size_of(pieces, CutRule("gumbel", budget=3, per=True), groups=groups) == pytest.approx(5.0)


def test_scores_are_counted_and_those_that_are_nan():
    tables = [pa.table({"score": pa.array(s, pa.float64())}) for s in ([1.0, None, math.nan], [], [None], [math.nan])]
    assert score_counts(iter(tables), "score") == {"documents": 3, "nan": 2}
    assert score_counts(iter(tables[1:3]), "score") == {"documents": 0, "nan": 0}
