"""What the reader of a comparison has to know: of its numbers, and of choices that are not alike."""

from .comparison_choices import DRAWS, Choices
from .comparison_runs import RANDOM
from .comparison_scores import Scores

ALIKE = 0.999
"""From such a rank correlation on it is said what may be behind it."""
MUCH_LARGER = 2
"""So many times as large as the smallest choice another has to be, for that to be worth a note."""


def notes(choices: Choices, scores: Scores) -> list[str]:
    """Return what is particular to these choices."""
    said = [
        f"{pair['a']} and {pair['b']} rank the documents alike (Spearman {pair['spearman']:.3f}): if both draw by lot, "
        "they use the same random numbers, because their steps have one name"
        for pair in scores.correlations()
        if pair["spearman"] > ALIKE
    ]
    sizes = {name: documents.tokens for name, documents in choices.whole.items()}
    least = min(sizes, key=lambda name: sizes[name])
    if max(sizes.values()) > MUCH_LARGER * sizes[least]:
        said.append(
            f"{least} is the smallest choice by far: all are compared by {choices.tokens:,} tokens for its sake"
        )
    if choices.thinned:
        said.append(
            f"{', '.join(choices.thinned)}: made in groups or without an order, so it was thinned at random to as many "
            "tokens as the others"
        )
    if not choices.open_to_all:
        said.append(
            "the documents that all runs could choose are too few, so those drawn at random are of what any of them "
            "could choose"
        )
    return said


def explained(choices: Choices, measured: Choices, share: float) -> list[tuple[str, str]]:
    """Return how the sets that are compared were made."""
    equal = (
        "Of each choice its documents in the order of the cut, as far as the smallest choice goes: "
        f"{choices.tokens:,} tokens to within a document. One that was made in groups, or has no order, is thinned at "
        "random. Sizes and compositions are of whole choices."
    )
    if share < 1:
        equal += (
            f" Of the texts {share:.2%} of the bytes were read, a keyed part of the row groups, and the measures are "
            f"of what the choices have there: {measured.tokens:,} tokens of each."
        )
    whose = "all runs" if choices.open_to_all else "any of the runs"
    lot = (
        f"{DRAWS} draws of as many tokens from the {choices.drawn_from:,} documents that {whose} could choose: those "
        "that entered the last step with a selector, or where there is none the whole corpus. The range is a "
        "prediction interval by Student's t: 95% of other draws lie in it, so a choice inside is no better by that "
        "measure than chance."
    )
    return [("Equal tokens", equal), (f"Documents {RANDOM}", lot)]
