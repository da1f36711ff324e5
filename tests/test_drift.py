"""How far scores moved: both measures against their definitions, for any scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tamis.pipelines import drift as module
from tamis.pipelines.drift import Scores, drift, drift_alarms

SCORE = st.floats(allow_nan=True, allow_infinity=True) | st.integers(0, 3).map(float)


def stream(scores, fresh=None, pieces=3):
    """The scores in some shards."""
    scores = np.asarray(scores, np.float64)
    fresh = np.zeros(len(scores), bool) if fresh is None else np.asarray(fresh, bool)
    keys = np.arange(len(scores), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    parts = [Scores(keys[i::pieces], scores[i::pieces], fresh[i::pieces]) for i in range(pieces)]
    return lambda: iter(parts)


def ks(one, other):
    one, other = (np.asarray(s)[~np.isnan(s)] for s in (one, other))
    return max(abs((one <= x).mean() - (other <= x).mean()) for x in np.concatenate([one, other]))


def psi(then, one, other):
    then, one, other = (np.sort(np.asarray(s)[~np.isnan(s)]) for s in (then, one, other))
    deciles = [then[i * len(then) // 10] for i in range(1, 10)]
    edges = np.unique([*deciles, *(np.nextafter(d, np.inf) for i, d in enumerate(deciles) if d in deciles[:i])])
    total = 0.0
    for low, high in zip([None, *edges], [*edges, None], strict=True):
        p, q = (((x >= low if low is not None else True) & (x < high if high is not None else True)) * np.ones(len(x))
                for x in (one, other))  # fmt: skip
        p, q = ((x.sum() + 0.5) / (len(x) + 0.5 * (len(edges) + 1)) for x in (p, q))
        total += (q - p) * np.log(q / p)
    return total


@given(st.lists(SCORE, max_size=60), st.lists(st.tuples(SCORE, st.booleans()), max_size=60))
def test_both_measures_are_those_of_the_definitions(then, now):
    scores, fresh = [score for score, _ in now], [new for _, new in now]
    found = drift(stream(then), stream(scores, fresh))
    old, new = ([score for score, is_new in now if is_new == wanted] for wanted in (False, True))
    for which, one, other in (("all", then, scores), ("new", old, new)):
        if all(any(not np.isnan(score) for score in side) for side in (one, other)) and not np.isnan(then).all():
            assert found[which]["ks"] == pytest.approx(ks(one, other), abs=1e-12)
            assert found[which]["psi"] == pytest.approx(psi(then, one, other), abs=1e-12)
        elif any(all(np.isnan(score) for score in side) for side in (one, other)):
            assert found[which] == {"psi": None, "ks": None}
    assert found["scored"] == {"then": len(then), "now": len(now), "new": len(new)}
    for when, side in (("then", then), ("now", scores), ("new", new)):
        assert found["nan"][when] == (np.isnan(side).mean() if side else 0.0)


def test_scores_that_are_all_the_same_are_seen_to_become_others():
    for then, now in ((0.5, 0.7), (0.5, 0.3), (np.inf, 1.0), (1.0, np.inf)):
        found = drift(stream([then] * 300), stream([now] * 300))
        assert found["all"]["psi"] > 5 and found["all"]["ks"] == 1
    assert drift(stream([0.5] * 300), stream([0.5] * 400))["all"]["psi"] < 1e-3
    then, now = np.r_[np.zeros(100), np.ones(500)], np.r_[np.zeros(100), np.full(500, 1.2)]
    assert drift(stream(then), stream(now))["all"]["psi"] > 0.2


def test_many_scores_are_sampled_and_the_distance_is_off_by_little():
    generator = np.random.default_rng(3)
    then, now = generator.standard_normal(200_000), generator.standard_normal(150_000) * 1.1 + 0.2
    found = drift(stream(then), stream(now))
    points = np.concatenate([then, now])
    exact = np.abs(
        np.searchsorted(np.sort(then), points, "right") / len(then)
        - np.searchsorted(np.sort(now), points, "right") / len(now)
    ).max()
    assert exact - 1 / 1_000 <= found["all"]["ks"] <= exact + 1e-12
    shares = np.diff(np.searchsorted(np.sort(then), [-np.inf, *found["all"].get("deciles", found["deciles"]), np.inf]))
    assert np.allclose(shares / len(then), 0.1, atol=0.005)
    assert len(module._edges(stream(then), stream(now))[0]) <= module.EDGES


def test_alarms_need_enough_scores_of_one_kind():
    row = {"step": "s", "comparable": True, "all": {"psi": 0.1, "ks": 0.1}, "new": {"psi": 0.5, "ks": 0.4},
           "scored": {"then": 1_000, "now": 1_300, "new": 300}}  # fmt: skip
    (alarm,) = drift_alarms("r2", "r1", [row], 0.2)
    assert (alarm.name, alarm.value, alarm.threshold) == ("score_drift", 0.5, 0.2)
    assert "new documents (300)" in alarm.message
    both = row | {"all": {"psi": 0.3, "ks": 0.1}}
    assert ["run r1" in a.message for a in drift_alarms("r2", "r1", [both], 0.2)] == [True]
    few = row | {"scored": {"then": 1_000, "now": 1_100, "new": 100}}
    none = row | {"new": {"psi": None, "ks": None}}
    for quiet, limit in ((few, 0.2), (row | {"comparable": False}, 0.2), (row, None), (row, 0.6), (none, 0.2)):
        assert list(drift_alarms("r2", "r1", [quiet], limit)) == []
