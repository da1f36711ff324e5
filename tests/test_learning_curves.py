"""The arithmetic of learning curves: the points, how many tokens a loss needs, what is said of it, and intervals."""

import io
import sys
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

sys.path.append(str(Path(__file__).parent / "benchmarks"))
from learning_curves import draw_curves, mean_curve, ratio_curve, ratios_said
from learning_curves import times_fewer as times_fewer_after
from tamis.pipelines.intervals import estimate, estimate_ratio, interval
from tamis.pipelines.learning_curves import log_spaced, times_fewer, tokens_to

FALLING = [(0, 6.0), (100, 5.0), (200, 4.0), (400, 3.0), (800, 2.0)]


def test_points_are_equally_far_apart_in_doublings():
    assert log_spaced(4, 100, 1) == [4, 8, 16, 32, 64, 100]
    assert log_spaced(1, 16, 3) == [1, 2, 3, 4, 5, 6, 8, 10, 13, 16]
    assert log_spaced(8, 8, 3) == [8] and log_spaced(8, 5, 3) == [5]


@pytest.mark.parametrize(
    ("loss", "tokens"),
    [
        (6.0, 0),
        (7.0, 0),
        (5.5, 50),  # from 0 on a line over the tokens
        (5.0, 100),
        (4.5, 100 * 2**0.5),  # then over their logarithm
        (2.25, 400 * 2**0.75),
        (2.0, 800),
        (1.9, None),
    ],
)
def test_a_loss_needs_the_tokens_of_its_place_on_the_line(loss, tokens):
    assert tokens_to(FALLING, loss) == pytest.approx(tokens)


def test_a_curve_that_rises_first_reaches_a_loss_where_it_comes_down_to_it():
    curve = [(0, 4.0), (10, 5.0), (20, 4.5), (40, 3.5), (80, 3.8), (160, 3.0)]
    assert tokens_to(curve, 3.9) == pytest.approx(20 * 2**0.6)
    assert tokens_to(curve, 3.5) == 40
    assert tokens_to(curve, 4.0) == 0


@given(st.floats(1.1, 50), st.floats(0.05, 2), st.integers(1, 10**6))
def test_a_choice_that_is_worth_more_tokens_is_said_to_be(worth, slope, first):
    """Curves that are lines over the logarithm: the better one is the other at `worth` times as many tokens."""
    baseline = [(first * 2**i, 10 - slope * log(first * 2**i)) for i in range(12)]
    better = [(tokens, 10 - slope * log(worth * tokens)) for tokens, _ in baseline]
    found = dict(ratio_curve(baseline, better))
    reached = [tokens for tokens, _ in better if tokens * worth <= baseline[-1][0] * 0.999]
    assert set(reached) <= found.keys()
    inside = [tokens for tokens in found if tokens * worth > baseline[0][0] * 1.001]
    assert [found[tokens] for tokens in inside] == pytest.approx([worth] * len(inside), rel=1e-6)
    assert times_fewer_after(baseline, first, baseline[-1][1] - 0.1) is None
    if worth < 1024:
        assert times_fewer(baseline, better) == pytest.approx(worth, rel=1e-6)
        assert times_fewer(better, baseline) == pytest.approx(1 / worth, rel=1e-6)


def test_where_both_begin_nothing_is_saved_yet():
    assert ratio_curve(FALLING, [(0, 6.0), (10, 6.1), (50, 5.0), (100, 1.0)]) == [(50, 2.0)]
    assert times_fewer_after(FALLING, 50, 6.5) == 0


def test_of_two_curves_the_lower_one_had_the_others_last_loss_with_fewer_tokens():
    slower = [(tokens, loss + 1) for tokens, loss in FALLING]
    assert times_fewer(slower, FALLING) == pytest.approx(2) and times_fewer(FALLING, slower) == pytest.approx(0.5)
    assert times_fewer(FALLING, FALLING) == pytest.approx(1)
    rising = [(0, 2.5), (100, 2.8), (800, 2.6)]
    assert times_fewer(rising, FALLING) == pytest.approx(800 / tokens_to(FALLING, 2.6))
    assert times_fewer(rising, [(0, 2.5), (800, 2.0)]) is None, "nothing was learned of it, and no ratio says how much"
    assert times_fewer([(0, 2.5), (800, 2.0)], rising) is None


@pytest.mark.parametrize(
    ("values", "half"),
    [
        ([1.0, 3.0], 12.706204736432095 * 2**0.5 / 2**0.5),  # t of one degree of freedom, by deviation / root of n
        ([1.0, 2.0, 3.0], 4.302652729911275 / 3**0.5),
        ([5.0, 5.0, 5.0, 5.0], 0.0),
        ([0.0, 0.0, 3.0, 3.0, 4.0], 2.7764451051977987 * 3.5**0.5 / 5**0.5),
    ],
)
def test_an_interval_is_students(values, half):
    mean = sum(values) / len(values)
    assert interval(values) == pytest.approx((mean - half, mean + half))
    assert estimate(values)["mean"] == pytest.approx(mean) and estimate(values)["seeds"] == values


def test_intervals_have_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(5)
    hits = [low < 7 < high for low, high in (interval(rng.normal(7, 2, 3).tolist()) for _ in range(4000))]
    assert 0.94 < np.mean(hits) < 0.96


def test_one_value_has_no_interval():
    assert interval([3.0]) is None and estimate([3.0]) == {"mean": 3.0, "interval": None, "seeds": [3.0]}


def test_ratios_are_averaged_as_factors():
    found = estimate_ratio([1.0, 2.0, 4.0])
    assert found["mean"] == pytest.approx(2)
    width = 2 ** (4.302652729911275 / 3**0.5)
    assert found["interval"] == pytest.approx([2 / width, 2 * width])
    assert estimate_ratio([2.0, None]) == {"mean": None, "interval": None, "seeds": [2.0, None]}


def test_curves_are_averaged_point_by_point():
    assert mean_curve([[(0, 1.0), (5, 2.0)], [(0, 3.0), (5, 5.0)]]) == [(0, 2.0), (5, 3.5)]
    with pytest.raises(ValueError):
        mean_curve([[(0, 1.0)], [(0, 3.0), (5, 5.0)]])


def test_a_ratio_that_was_not_reached_is_said_so():
    assert ratios_said([2.0, 3.0, 4.0], 20) == "3.0 (2.0 to 4.0)"
    assert ratios_said([None, None], 20) == "not reached: more than 20.0"
    assert ratios_said([12.0, None, 15.0], 20) == "not reached in 1 of 3: 12.0 to more than 20.0"


def test_the_picture_shows_every_curve_in_both_panels():
    faster = [(tokens // 2, loss - 0.1) for tokens, loss in FALLING]
    curves = {"random": [FALLING, [(t, x + 0.1) for t, x in FALLING]], "a": [faster, faster], "b": [FALLING, FALLING]}
    png = draw_curves(curves, "random", "two curves and $one more")
    image = (imread(io.BytesIO(png))[:, :, :3] * 255).round().astype(int)
    assert image.shape == (560, 1200, 3)
    for colour in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0)):
        for panel in (image[80:500, :600], image[80:500, 600:]):
            assert (abs(panel - colour).max(axis=2) < 12).sum() > 40
