"""How a budget is shared between groups: exact integers, none lost, the same for any order of the groups.

A quota is the integer part of the group's share; what the roundings leave goes by largest fraction (Hamilton's method),
ties by name. Shares are taken as the decimals that were written, so that 0.7 + 0.3 is 1.
"""

from collections.abc import Mapping
from fractions import Fraction

Shares = Mapping[str, Fraction] | Mapping[str, int]

WHOLE_TOLERANCE = 1e-9


def exact_shares(shares: Mapping[str, float | Fraction]) -> dict[str, Fraction]:
    """Return shares as exact fractions; a sum within 1e-9 of 1 (three times 0.333...) becomes exactly 1."""
    exact = {str(name): Fraction(str(share)) for name, share in shares.items()}
    total = sum(exact.values(), Fraction(0))
    if abs(total - 1) > WHOLE_TOLERANCE:
        return exact
    return {name: share / total for name, share in exact.items()}


def apportion(total: int, shares: Shares) -> dict[str, int]:
    """Split `total` in proportion to the shares; equally where all of them are 0."""
    weights = {name: Fraction(share) for name, share in shares.items()}
    whole = sum(weights.values(), Fraction(0))
    if not whole:
        weights, whole = dict.fromkeys(weights, Fraction(1)), Fraction(len(weights))
    exact = {name: total * weight / whole for name, weight in weights.items()}
    quota = {name: int(part) for name, part in exact.items()}
    by_fraction = sorted(exact, key=lambda name: (quota[name] - exact[name], name))
    for name in by_fraction[: total - sum(quota.values())]:
        quota[name] += 1
    return quota


def redistribute(quota: Mapping[str, int], available: Mapping[str, int], shares: Shares) -> dict[str, int]:
    """Move what a group cannot fill to those that have more, in proportion to their shares, until nothing moves.

    A group without a share takes nothing. What nobody can take stays, so the sum of the quotas does not change.
    """
    moved = dict(quota)
    while True:
        unmet = sum(max(0, asked - available[name]) for name, asked in moved.items())
        takers = {name: Fraction(shares[name]) for name in moved if moved[name] < available[name] and shares[name]}
        if not unmet or not takers:
            return moved
        more = apportion(unmet, takers)
        moved = {name: min(asked, available[name]) + more.get(name, 0) for name, asked in moved.items()}


def one_more(left: int, missing: Mapping[str, int], following: Mapping[str, int]) -> set[str]:
    """Return the groups whose following document is paid for by what is left of all quotas.

    Largest part missing of that document first, ties by name; a group whose document does not fit is passed over. This
    is Hamilton's method where a seat is a document and documents weigh different amounts.
    """
    order = sorted(following, key=lambda name: (-Fraction(missing[name], max(1, following[name])), name))
    chosen: set[str] = set()
    for name in order:
        if following[name] <= left:
            left -= following[name]
            chosen.add(name)
    return chosen
