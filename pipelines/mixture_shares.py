"""How much of the budget each part of a mixture gets, or each source of a part."""

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ..selectors.mixture_weights import Asked, by_temperature, by_unimax, by_weights, capacity
from .measuring import tokens_of
from .mixture_entries import Mixture, PartEntry
from .mixture_parts import Owned, Place, Pool, Share
from .work import Work


@dataclass
class Supply:
    """What the parts of a mixture have: documents and tokens of each of their sources, and what they lost."""

    documents: Counter[Share] = field(default_factory=Counter)
    tokens: Counter[Share] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)
    """Documents of each part that belong to an earlier one, or repeat a text."""
    lost_tokens: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Supply") -> None:
        """Add what other shards have."""
        self.documents.update(other.documents)
        self.tokens.update(other.tokens)
        self.lost.update(other.lost)
        self.lost_tokens.update(other.lost_tokens)

    def available(self, entry: Mixture) -> dict[Share, int]:
        """Return the tokens of each share, in the order of the parts and of the sources' names.

        A part that has nothing is there too, so that what it is missing is seen.
        """
        found = merge(entry, self.tokens)
        there = {share.part for share in found}
        found.update({Share(part): 0 for part in range(len(entry.parts)) if part not in there})
        return {share: found[share] for share in sorted(found, key=lambda s: (s.part, s.source or ""))}


def supply(work: Work, name: str, pool: Pool) -> Supply:
    """Count the documents and tokens of all parts."""

    def counted(place: Place) -> Supply:
        found, owned = Supply(), pool.owned(place)
        n_tokens = tokens_of(work, place.shard, owned.row)
        found.documents.update(sums(owned, np.ones(owned.row.size, np.int64)))
        found.tokens.update(sums(owned, n_tokens))
        for number, mask in pool.claims(place):
            claimed, mine = np.flatnonzero(mask).astype(np.int64), owned.part == number
            found.lost[number] = claimed.size - int(mine.sum())
            found.lost_tokens[number] = int(tokens_of(work, place.shard, claimed).sum() - n_tokens[mine].sum())
        return found

    total = Supply()
    for found in work.map(f"count {name}", counted, pool.places, lambda place: place.shard.rows):
        total.add(found)
    return total


def sums(owned: Owned, values: npt.NDArray[Any]) -> dict[Share, int]:
    """Add up a number of each document by the sources of the parts."""
    shares, which = owned.shares("source")
    total = np.zeros(len(shares), np.int64)
    np.add.at(total, which, values.astype(np.int64))
    return dict(zip(shares, total.tolist(), strict=True))


def merge(entry: Mixture, by_source: Counter[Share]) -> Counter[Share]:
    """Add up the sources of a part, unless each has a share of its own."""
    if entry.per == "source":
        return Counter(by_source)
    found: Counter[Share] = Counter()
    for share, n in by_source.items():
        found[Share(share.part)] += n
    return found


def asked_of(entry: Mixture, available: dict[Share, int]) -> dict[Share, tuple[int, int]]:
    """Return the tokens that each share should have by its weight, and those that it can have within its cap."""
    names = {str(i): share for i, share in enumerate(available)}
    tokens = {name: available[share] for name, share in names.items()}
    capacities = {name: capacity(tokens[name], epochs_of(entry, entry.parts[names[name].part])) for name in names}
    asked = _asked(entry, tokens, capacities, given_weights(entry.parts, available))
    return {share: (asked.wanted[name], asked.asked[name]) for name, share in names.items()}


def _asked(entry: Mixture, tokens: dict[str, int], capacities: dict[str, int], given: list[Fraction]) -> Asked:
    budget, rule = entry.budget.tokens, entry.weights
    if rule.temperature is not None:
        return by_temperature(budget, tokens, capacities, rule.temperature, rule.limit)
    if rule.unimax is not None:
        return by_unimax(budget, capacities)
    return by_weights(budget, dict(zip(tokens, given, strict=True)), capacities, entry.redistribute)


def epochs_of(entry: Mixture, part: PartEntry) -> float:
    """Return how often a document of a part may stand in the mixture: UniMax has one cap, a part may have a lower."""
    if entry.weights.unimax is not None:
        return min(entry.weights.unimax, part.max_epochs or entry.weights.unimax)
    return part.max_epochs or 1.0


def given_weights(parts: list[PartEntry], available: dict[Share, int]) -> list[Fraction]:
    """Return the weight of each share: of its part, which its sources divide by their tokens; without any, tokens."""
    of_part: Counter[int] = Counter()
    for share, n_tokens in available.items():
        of_part[share.part] += n_tokens
    return [
        Fraction(n_tokens) if (weight := parts[share.part].weight) is None
        else Fraction(str(weight)) * (Fraction(n_tokens, of_part[share.part]) if of_part[share.part] else 1)
        for share, n_tokens in available.items()
    ]  # fmt: skip
