"""The tokens that a score of losses comes from: what each of them adds to the sum.

A score is a mean a token, so the sum is the score times the tokens predicted. The models are asked again, for the
documents in question alone; their numbers depend on the document alone, and the lake keeps a document's sum in float32,
so the sums agree to seven digits of the larger loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..features.base import Feature
from .reasons import Mark, Parts, Reason, largest_marks, not_scored

UNLIKE = "the models predict different tokens, so their losses have no difference by token"
BEFORE = 30
"""Characters of the text that are shown before a token."""


@dataclass(frozen=True)
class Term:
    """The losses of one model, and the sign that they have in the score."""

    name: str
    feature: Feature
    sign: float


def token_reasons(
    batch: pa.RecordBatch, scores: pa.Table, terms: Sequence[Term], most: int
) -> list[Reason | None] | None:
    """Return the tokens of each document by what they add, the largest first; None where no feature has a model for it.

    A part has `text`, `weight` (nats), `start` and `end` (characters), `before` (the text before it), and the loss
    under each model by its name. Raises ConfigError where a model is not there any more.
    """
    models = [term.feature.load() for term in terms]
    if not all(hasattr(model, "losses") and hasattr(model, "places") for model in models):
        return None
    texts = batch.column("text").to_pylist()
    judged = scores.column("judged").to_pylist()
    asked = [row for row, score in enumerate(judged) if score is not None and not math.isnan(score)]
    documents = [model.tokens([texts[row] for row in asked]) for model in models]
    losses = [_by_document(model, mine) for model, mine in zip(models, documents, strict=True)]
    places = models[0].places([texts[row] for row in asked])
    found: list[Reason | None] = [not_scored("tokens", scores, row) for row in range(len(texts))]
    for number, row in enumerate(asked):
        nats = [of_model[number] for of_model in losses]
        same = {(len(one), mine[number].tobytes()) for one, mine in zip(nats, documents, strict=True)}
        found[row] = (
            _reason(texts[row], places[number], nats, terms, most) if len(same) == 1 else Reason("tokens", UNLIKE)
        )
    return found


def _by_document(model: Any, documents: Sequence[Any]) -> list[list[float]]:
    nats, counts = model.losses(documents)
    every, found, at = nats.tolist(), [], 0
    for count in counts.tolist():
        found.append(every[at : at + count])
        at += count
    return found


def _reason(
    text: str, places: Sequence[tuple[int, int]], nats: Sequence[Sequence[float]], terms: Sequence[Term], most: int
) -> Reason:
    """Return the reason of one document; without a token of its own the tokenizer's first one is not predicted."""
    n = len(nats[0])
    places = places[len(places) - n :]
    weights = [math.fsum(term.sign * of[i] for term, of in zip(terms, nats, strict=True)) for i in range(n)]
    total = math.fsum(weights)
    order = sorted(range(n), key=lambda i: -abs(weights[i]))[:most]
    parts: Parts = [
        {
            "text": text[slice(*places[i])], "weight": weights[i], "start": places[i][0], "end": places[i][1],
            "before": text[max(0, places[i][0] - BEFORE) : places[i][0]],
            **{term.name: loss[i] for term, loss in zip(terms, nats, strict=True)},
        }
        for i in sorted(order, key=lambda i: -weights[i])
    ]  # fmt: skip
    signs = " ".join(f"{'-' if term.sign < 0 else '+'} {term.name}" for term in terms).removeprefix("+ ")
    about = f"{total / max(1, n):.4g} nats a token = {total:.4g} over {n:,} tokens predicted (loss: {signs})"
    marks: dict[tuple[int, int], float] = {}
    for place, weight in zip(places, weights, strict=True):
        marks[place] = marks.get(place, 0.0) + weight  # tokens may be bytes of one character
    found: list[Mark] = [(*place, weight) for place, weight in marks.items()]
    return Reason("tokens", about, parts, largest_marks(found), total, total - math.fsum(p["weight"] for p in parts))
