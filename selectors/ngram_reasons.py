"""The n-grams that moved a DSIR weight: what each of them adds to the score.

A score is a sum over the n-grams of a document, so it divides exactly. An n-gram's ratio is that of its bucket: where
several n-grams fall into one (2^18 buckets for millions of n-grams), the ratio belongs to all that is in it, and an odd
n-gram among the parts may owe its weight to a frequent one. A gram's weight is divided evenly between its words for the
marks, so these sum to the score too.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .reasons import Mark, Reason, divided, largest_marks

Float64s = npt.NDArray[np.float64]
_TOKEN = re.compile(r"\w+|[^\w\s]+")


@dataclass(frozen=True)
class Sums:
    """How a document's score is made of the log ratios of its n-grams, as `Dsir` says."""

    ngrams: int
    mean: bool
    """Of the ratios less their mean over the pool; else their sum."""
    prior: float
    """n-grams of average text that a document is taken to have beside its own."""
    window: int | None
    """n-grams of a window; None: the document is one."""
    best: bool
    """Whether the best window counts, or the mean of all."""
    scale: float
    """What a mean is multiplied by."""

    def weights(self, ratios: Float64s, centre: float) -> Float64s:
        """Return what each n-gram of a document adds to its score, in text order."""
        if not self.mean or not len(ratios):
            return ratios
        n, size = len(ratios), self.window or len(ratios)
        windows = max(1, (n + size // 2) // size) if self.window else 1
        edges = [*range(0, windows * size, size), n][: windows + 1]
        edges[-1] = n
        found = np.empty(n)
        for low, high in pairwise(edges):
            found[low:high] = (ratios[low:high] - centre) * (self.scale / max(1.0, high - low + self.prior))
        if not self.best:
            return found / windows
        top = max(pairwise(edges), key=lambda edge: float(found[edge[0] : edge[1]].sum()))
        alone = np.zeros(n)
        alone[top[0] : top[1]] = found[top[0] : top[1]]
        return alone


def ngram_reason(text: str, ids: npt.NDArray[Any], ratio: Float64s, centre: float, sums: Sums, most: int) -> Reason:
    """Return the n-grams of a document by their weight; `about` is left to the caller.

    A part has `text` (words as they were hashed, in lower case), `weight`, `count` and `log_ratio` of its bucket.
    """
    words, spans = words_of(text)
    weights = sums.weights(ratio[ids], centre).tolist()
    ratios = ratio[ids].tolist()
    of_word = [0.0] * len(words)
    grams: dict[str, dict[str, Any]] = {}
    at = 0
    for last in range(len(words)):
        for order in range(1, min(sums.ngrams, last + 1) + 1):
            first, weight = last - order + 1, weights[at]
            gram = " ".join(words[first : last + 1])
            part = grams.setdefault(gram, {"text": gram, "weight": 0.0, "count": 0, "log_ratio": ratios[at]})
            part["weight"] += weight
            part["count"] += 1
            for word in range(first, last + 1):
                of_word[word] += weight / order
            at += 1
    assert at == len(weights), "the words are those that were hashed"
    parts, total, rest = divided([*grams.values()], most)
    marks: list[Mark] = [(*span, weight) for span, weight in zip(spans, of_word, strict=True) if weight]
    return Reason("ngrams", "", parts, largest_marks(marks), total, rest)


def words_of(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the words of a text as n-grams are made of them, and where each stands in it."""
    lowered = text.lower()
    matches = [*_TOKEN.finditer(lowered)]
    words = [match[0] for match in matches]
    if len(lowered) == len(text):
        return words, [match.span() for match in matches]
    places = [place for place, letter in enumerate(text) for _ in letter.lower()]  # U+0130 lowers to two
    return words, [(places[match.start()], places[match.end() - 1] + 1) for match in matches]
