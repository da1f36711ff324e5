"""What a cut is asked for: the order of the documents, and where it ends.

A rule is checked when it is made, so that a wrong number in `flows.yaml` is an error before any work.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from ..storage.errors import ConfigError
from .quotas import WHOLE_TOLERANCE

CutBy = Literal["top", "gumbel", "threshold", "percentile"]


@dataclass(frozen=True)
class CutRule:
    """How to cut; all limits that are given hold together. Raises ConfigError for values that make no sense."""

    by: CutBy = "top"
    temperature: float = 1.0
    """Above 0; the key of by: gumbel is score / temperature + a Gumbel number of the document."""
    min_score: float | None = None
    """Keep only documents with score >= min_score, never NaN: for any `by`, and what by: threshold needs."""
    percent: float | None = None
    """by: percentile keeps the best floor(n * percent / 100) of the n eligible documents, of each group if `per`."""
    budget: int | None = None
    """In the unit of the weights; None is unlimited, 0 keeps nothing."""
    shares: Mapping[str, float | Fraction] | None = None
    """The share of the budget of each group; a group that is not named gets nothing, and a sum below 1 leaves some of
    the budget unused. Default: in proportion to the weight of the group's eligible documents."""
    per: bool = False
    """Cut each group by its own share."""
    redistribute: bool = False
    """Give quota that a group has too few documents for to the other groups, by their shares."""
    remainders: bool = False
    """Give what the groups' first documents that do not fit leave over to the groups that miss the largest part of one:
    thousands of groups would else waste most of a budget. A group may then exceed its share by a part of a document."""

    def __post_init__(self) -> None:
        for problem in (*_wrong_numbers(self), *_wrong_combinations(self)):
            raise ConfigError(f"cut: {problem}.")


def _wrong_numbers(rule: CutRule) -> Iterator[str]:
    """Yield what is wrong with single values."""
    if rule.by not in get_args(CutBy):
        yield f"by is {rule.by!r}, expected one of {', '.join(get_args(CutBy))}"
    if not 0 < rule.temperature < math.inf:
        yield f"temperature is {rule.temperature}, expected a number above 0"
    if rule.min_score is not None and math.isnan(rule.min_score):
        yield "min_score is NaN, expected a number"
    if rule.percent is not None and not 0 <= rule.percent <= 100:
        yield f"percent is {rule.percent}, expected a number from 0 to 100"
    if rule.budget is not None and rule.budget < 0:
        yield f"budget is {rule.budget:,}, expected 0 or more; leave it out for no limit"
    for name, share in (rule.shares or {}).items():
        if not 0 <= share < math.inf:
            yield f"the share of {name!r} is {share}, expected a fraction of the budget from 0 to 1"


def _wrong_combinations(rule: CutRule) -> Iterator[str]:
    """Yield which options miss another one."""
    if rule.by == "threshold" and rule.min_score is None:
        yield "by: threshold has no min_score; add the lowest score that is kept"
    if (rule.by == "percentile") != (rule.percent is not None):
        yield f"by is {rule.by!r} and percent is {rule.percent}; percent belongs to by: percentile, which needs it"
    if (rule.shares is not None or rule.redistribute or rule.remainders) and (not rule.per or rule.budget is None):
        yield "shares and redistribute divide a budget between groups; add `per` and a budget, or leave them out"
    total = sum((rule.shares or {}).values())
    if total > 1 + WHOLE_TOLERANCE:
        yield f"the shares sum to {total:g}, expected at most 1; divide each of them by {total:g}"
