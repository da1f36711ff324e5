"""A budget shared between groups: nothing is lost, and the order of the groups does not matter."""

from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tamis.selectors.quotas import apportion, exact_shares, redistribute


@settings(deadline=None, max_examples=100)
@given(total=st.integers(0, 10**15), shares=st.dictionaries(st.text(max_size=2), st.integers(0, 10**9), min_size=1))
@example(total=7, shares={"b": 1, "a": 1, "c": 1})
def test_no_part_of_a_budget_is_lost(total, shares):
    quota = apportion(total, shares)
    assert sum(quota.values()) == total
    whole = sum(shares.values())
    assert all(not whole or abs(quota[name] - Fraction(total * share, whole)) < 1 for name, share in shares.items())
    assert apportion(total, dict(reversed(shares.items()))) == quota


def test_remainders_go_by_fraction_and_then_by_name():
    assert apportion(7, {"c": 1, "b": 1, "a": 1}) == {"a": 3, "b": 2, "c": 2}
    assert apportion(10, {"c": 1, "b": 6, "a": 4}) == {"a": 4, "b": 5, "c": 1}
    assert apportion(10, {"a": 0, "b": 0}) == {"a": 5, "b": 5}


def test_unmet_quota_moves_until_nothing_moves():
    shares, quota = {"a": 1, "b": 1, "c": 2, "d": 0}, {"a": 100, "b": 100, "c": 200, "d": 0}
    moved = redistribute(quota, {"a": 10, "b": 115, "c": 1000, "d": 50}, shares)
    assert moved == {"a": 10, "b": 115, "c": 275, "d": 0}
    assert redistribute(quota, {"a": 10, "b": 20, "c": 30, "d": 50}, shares) == quota


def test_shares_are_the_decimals_that_were_written():
    assert exact_shares({"a": 0.7, "b": 0.3}) == {"a": Fraction(7, 10), "b": Fraction(3, 10)}
    assert sum(exact_shares(dict.fromkeys("abc", 1 / 3)).values()) == 1
    assert exact_shares({"a": 0.25}) == {"a": Fraction(1, 4)}
