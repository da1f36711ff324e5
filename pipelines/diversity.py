"""How varied a choice is: in its words, in its vectors, and over clusters. Nothing is asked of a target here.

distinct-n (Li et al. 2016, https://arxiv.org/abs/1510.03055) falls with the length of the text, and the entropy of the
words rises with it: compare choices over equal numbers of words (`words`), each a random sample of its documents.
A million words take 15 ms to read, and all four numbers 50 ms.
"""

import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.folded_words import Words, distinct, folded_words
from ..selectors.nearest import mean_of_nearest
from ..selectors.nearest_kernels import Float32s, Int64s

WORDS = 1_000_000


class WordSample:
    """The first words of texts in the order given, as hashes; the last text is cut where they are enough."""

    def __init__(self, words: int = WORDS) -> None:
        self.words = words
        self.n_words = 0
        self._parts: list[Words] = []

    @property
    def full(self) -> bool:
        """Whether further texts would be left out."""
        return self.n_words >= self.words

    def add(self, text: pa.Array) -> None:
        """Append the words of texts, as far as there is room."""
        if not self.full:
            part = folded_words(text)
            part = _first_words(part, self.words - self.n_words)
            self._parts.append(part)
            self.n_words += len(part.hashes)

    def distinct(self, n: int, words: int = WORDS) -> float:
        """Return how many different runs of n words there are, divided by all runs: 0 to 1, NaN where there are none.

        Only the first `words` words count; a run stays in its document.
        """
        runs = self._first(words).runs(n).hashes
        return len(distinct(runs)[0]) / len(runs) if len(runs) else math.nan

    def entropy(self, words: int = WORDS) -> float:
        """Return the entropy of the first `words` words, in nats; NaN without words."""
        return entropy(distinct(self._first(words).hashes)[1])

    def _first(self, words: int) -> Words:
        hashes = np.concatenate([np.empty(0, np.uint64), *(part.hashes for part in self._parts)])
        lengths = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.ends) for part in self._parts)])
        return _first_words(Words(np.cumsum(lengths), hashes), words)


def _first_words(words: Words, n: int) -> Words:
    """Return the first n words; the documents after them have none."""
    return Words(np.minimum(words.ends, n), words.hashes[:n])


def entropy(counts: npt.NDArray[np.integer]) -> float:
    """Return the entropy of shares given as counts, in nats, whatever their order; NaN where all are 0."""
    found = np.sort(counts[counts > 0])
    if not len(found):
        return math.nan
    shares = found / found.sum()
    return max(0.0, float(-(shares * np.log(shares)).sum()))


def effective_clusters(counts: Int64s) -> float:
    """Return exp(entropy): how many clusters of one size would be as even as these; NaN without documents."""
    return math.exp(entropy(counts))


def clusters_hit(counts: Int64s) -> float:
    """Return the share of clusters that have at least one document."""
    return float(np.count_nonzero(counts) / len(counts)) if len(counts) else math.nan


def neighbour_distance(x: Float32s, *, threads: int = 1) -> float:
    """Return the mean cosine distance of a vector to the nearest other one, 0 to 2; NaN for fewer than two.

    `x` is (n, d), of length 1 (`unit_rows`). A vector is at the top of its own two nearest, so the mean of the two
    gives the other one. Quadratic: 5,000 of 384 numbers take 0.2 to 0.5 s; take as many of each choice.
    """
    if len(x) < 2:
        return math.nan
    own = np.square(x, dtype=np.float64).sum(axis=1)
    return max(0.0, math.fsum(1 - (2 * mean_of_nearest(x, x, 2, threads=threads) - own)) / len(x))
