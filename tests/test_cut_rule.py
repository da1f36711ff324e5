"""A cut that makes no sense is refused before any work, with the value and what was expected."""

import math

import pytest
from tamis.selectors.cut_rule import CutRule
from tamis.storage.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"by": "best"}, "expected one of top, gumbel, threshold, percentile"),
        ({"temperature": 0}, "temperature is 0, expected a number above 0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"budget": -1}, "budget is -1, expected 0 or more"),
        ({"min_score": math.nan}, "min_score is NaN"),
        ({"by": "threshold"}, "no min_score"),
        ({"by": "percentile"}, "percent is None"),
        ({"percent": 10.0}, "percent belongs to by: percentile"),
        ({"by": "percentile", "percent": 101}, "from 0 to 100"),
        ({"budget": 1, "redistribute": True}, "add `per` and a budget"),
        ({"per": True, "shares": {"a": 1.0}}, "add `per` and a budget"),
        ({"per": True, "budget": 9, "shares": {"a": 0.7, "b": 0.7}}, "sum to 1.4, expected at most 1"),
        ({"per": True, "budget": 9, "shares": {"a": -0.5}}, "the share of 'a' is -0.5"),
    ],
)
def test_a_wrong_rule_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        CutRule(**values)
