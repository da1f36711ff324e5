"""How near each choice is to each target, in n-grams: KL reduction, and how much of the target's n-grams it has."""

from collections.abc import Iterator, Sequence
from typing import Any

from .comparison_measures import Kind, measure_row
from .comparison_texts import CORPUS, Counter, Groups, TargetTexts
from .kl_reduction import NgramCounts, kl_reduction
from .target_coverage import TargetGrams

_KL_HOW = (
    "KL(target || corpus) - KL(target || choice) in nats, over words and pairs of words hashed into 10,000 buckets, "
    "with 1e-10 added to both (Xie et al. 2023, section 6, and the authors' answers). The corpus is up to 100,000 "
    "documents of it. A smaller choice leaves more buckets empty and looks farther away whatever it holds, so even "
    "random documents have less than 0: only compare with them. It is DSIR's own yardstick, so DSIR does well by it."
)
UNSEEN = Kind(
    "kl_reduction_unseen", "KL reduction, unseen part",
    "how much nearer the choice is than the corpus to the part of the target that no selector saw, in nats",
    _KL_HOW, "higher", glance=True,
)  # fmt: skip
SEEN = Kind(
    "kl_reduction_seen", "KL reduction, seen part", "the same for the part of the target that selectors saw, in nats",
    _KL_HOW, "higher",
)  # fmt: skip


_COVERED_HOW = (
    "Each as often as the target has it. Words are compared without case and accents. A larger choice has more: "
    "compare choices of one size only."
)
PAIRS = Kind(
    "pairs_covered", "pairs of words covered", "share of the target's pairs of words that the choice has anywhere",
    _COVERED_HOW, "higher", "percent", glance=True,
)  # fmt: skip
TRIPLES = Kind(
    "triples_covered", "triples of words covered", "share of the target's runs of three words that the choice has "
    "anywhere", _COVERED_HOW, "higher", "percent",
)  # fmt: skip


class TargetMeasures:
    """Count the n-grams of the groups and of the targets, and find the targets' in the groups."""

    def __init__(self, groups: Groups, targets: Sequence[TargetTexts]) -> None:
        self._groups, self._targets = groups, targets
        self._counts = NgramCounts(len(groups.names))
        self._hard = [(target, *next(target.parts())) for target in targets if any(True for _ in target.parts())]
        """Of each target the part that is the harder one to cover."""
        self._grams = TargetGrams([text for _, _, text in self._hard], len(groups.names) - 1)

    def counters(self) -> list[Counter]:
        """Return what looks at the texts."""
        return [
            lambda batch, member: self._counts.add(batch.column("text"), member),
            lambda batch, member: self._grams.add(batch.column("text"), member[:-1]),
        ]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the measures, target by target."""
        counted = dict(zip(self._groups.names, self._counts.counts, strict=True))
        for target in self._targets:
            for part, text in target.parts():
                wanted = NgramCounts()
                wanted.add(text)

                def reduction(name: str, wanted: Any = wanted.counts[0]) -> float:
                    return kl_reduction(wanted, counted[CORPUS], counted[name])

                kind, note = (UNSEEN if part == "unseen" else SEEN), f"{len(text):,} documents"
                yield measure_row(kind, self._groups, reduction, target.name, note)
        place = {name: i for i, name in enumerate(self._groups.names)}
        for number, (target, part, text) in enumerate(self._hard):
            note = f"{len(text):,} {part} documents"
            for order, kind in enumerate((PAIRS, TRIPLES), start=1):

                def covered(name: str, number: int = number, order: int = order) -> float:
                    return self._grams.coverage(number, place[name]).weighted[order]

                yield measure_row(kind, self._groups, covered, target.name, note)


def shown_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the measures, of which the first table has those of the targets that no part is unseen of, too."""
    unseen = {row["target"] for row in rows if row["key"] == UNSEEN.key}
    return [row | {"glance": row["glance"] or (row["key"] == SEEN.key and row["target"] not in unseen)} for row in rows]
