"""How many tokens a mixture asks of each of its sources: by given weights, by temperature or by UniMax, within caps.

The three differ in their weights alone: a budget is filled in proportion to these, and a source that its cap stops
leaves what it cannot take to the others. All is exact: fractions, rounded once, so that no token of the budget is lost
and none is too many. Temperature is that of multilingual models (`mixing_rate_num_examples` of google/seqio), UniMax is
Chung et al. 2023 (arXiv 2304.09151), with sizes in tokens where the paper counts characters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from .quotas import apportion

_EXACT = Context(prec=40)
"""Powers in decimals, because those of floats differ in the last bit between machines."""


@dataclass(frozen=True)
class Asked:
    """Tokens of each source: what the weights alone want, and what is asked for within the caps."""

    wanted: dict[str, int]
    asked: dict[str, int]


def capacity(available: int, max_epochs: float) -> int:
    """Return how many tokens a source of so many can give in so many passes."""
    return int(available * Fraction(str(max_epochs)))


def by_weights(
    budget: int, weights: Mapping[str, Fraction], capacities: Mapping[str, int], redistribute: bool = False
) -> Asked:
    """Divide a budget in proportion to weights; what a cap leaves goes to the others only where asked for."""
    wanted = apportion(budget, weights)
    if redistribute:
        return Asked(wanted, fill(budget, weights, capacities))
    return Asked(wanted, {name: min(tokens, capacities[name]) for name, tokens in wanted.items()})


def by_temperature(
    budget: int, available: Mapping[str, int], capacities: Mapping[str, int], temperature: float,
    limit: int | None = None,
) -> Asked:  # fmt: skip
    """Divide a budget in proportion to min(n, limit)^(1 / temperature) of sources of n tokens.

    At 1 these are the sizes, towards infinity all are equal. `limit` is seqio's `maximum`: no source counts as larger.
    """
    weights = {name: _power(min(n, limit or n), temperature) for name, n in available.items()}
    return by_weights(budget, weights, capacities, redistribute=True)


def by_unimax(budget: int, capacities: Mapping[str, int]) -> Asked:
    """Divide a budget as evenly as the caps let it be divided: UniMax, where a capacity is N x the source's tokens.

    The paper's loop, smallest source first with b = what is left / sources left and U = min(b, N c), is `fill` with
    equal weights. Where the budget is above all capacities together, all of them are asked for.
    """
    return by_weights(budget, dict.fromkeys(capacities, Fraction(1)), capacities, redistribute=True)


def fill(budget: int, weights: Mapping[str, Fraction], capacities: Mapping[str, int]) -> dict[str, int]:
    """Divide a budget in proportion to weights, none above its capacity; their sum is below it only if all are full."""
    asked = {name: 0 for name, weight in weights.items() if not weight}
    left, whole = budget, sum(weights.values(), Fraction(0))
    order = sorted(weights.keys() - asked.keys(), key=lambda name: (capacities[name] / weights[name], name))
    for name in order:
        if capacities[name] * whole > left * weights[name]:
            break  # it is not stopped by its cap, and so is none behind it
        asked[name] = capacities[name]
        left, whole = left - capacities[name], whole - weights[name]
    return asked | apportion(left, {name: weights[name] for name in order if name not in asked})


def _power(n: int, temperature: float) -> Fraction:
    if not n:
        return Fraction(0)
    return Fraction(_EXACT.power(Decimal(n), _EXACT.divide(Decimal(1), Decimal(str(temperature)))))
