"""DSIR: data selection with importance resampling over hashed n-grams.

Xie et al. 2023, https://arxiv.org/abs/2302.03169. Pool and target are bags of hashed n-grams, and a document's log
weight is log p_target - log p_pool of its own bag. The official code adds that up over all n-grams of a document and
leaves n-grams that a small target never shows at log 1e-8. So on documents of unequal length the weight follows length
more than content (rank correlation down to -0.97), its spread of thousands dwarfs the Gumbel noise of 1.3, and
"resampling" is nearly top-k.

The default differs in three ways, each of which is one parameter: `mix` smooths the target with the pool, so that an
n-gram the target never shows costs log(mix) at most; `normalise: per_token` takes the mean over the n-grams, 0 being
the pool's average text; `prior_words` scores every document as if it had so many more words of average text, so that
tiny ones need evidence. The score is the log weight of 128 words of such text, the paper's unit: Gumbel noise at
temperature 1 means there what it means in the paper. `hash: sha256, buckets: 10000, mix: 0, normalise: none` gives the
official numbers. `tests/benchmarks/selector_shares.py` compares them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from ..features.ngrams import NGrams
from ..storage.errors import ConfigError, SelectionError
from .base import Around, Batches, Choice, Draw, Selector, Target
from .budget import CutRule, Parts
from .dsir_kernels import count_buckets, log_ratios, shrunken_means, sum_ratios
from .ngram_reasons import Sums, ngram_reason
from .reasons import Reason, judged_by, not_scored
from .target_shares import cut_by_target, proportions, score_columns

EPSILON = 1e-8
"""Added to both probabilities, as the official code does: no n-gram counts infinitely."""
EXAMPLE_WORDS = 128
"""A normalised score is the log weight of so many words, the length of the paper's examples."""

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BucketCounts:
    """How often each bucket occurs: the summary of any set of documents."""

    counts: Int64s


@dataclass(frozen=True)
class DsirState:
    """What scoring needs, by target: its share of the budget, log ratios, their mean over the pool, and its counts."""

    names: tuple[str, ...]
    proportions: tuple[float, ...]
    ratio: npt.NDArray[np.float64]
    """log p_target - log p_pool, targets x buckets."""
    centre: tuple[float, ...]
    """Mean of `ratio` over the n-grams of the pool."""
    target_counts: Int64s


@dataclass(frozen=True)
class Dsir(Selector):
    """Choose documents whose n-grams are distributed like the target's.

    With `normalise: none` (the official sum over all n-grams) weights of documents of unequal length differ by
    thousands, so Gumbel sampling is nearly top-k, and short documents win where most weights are negative: use it on
    chunks of equal length. With `per_token`, `by: gumbel` at temperature 1 takes a document for 128 words of its kind.
    """

    name = "dsir"
    version = 1
    needs_target = True
    log_weights = True
    summary_type = BucketCounts
    summary_parameters = ()
    state_type = DsirState

    ngrams: int = 2
    """Runs of 1 to so many words are counted."""
    buckets: int = 1 << 18
    """Into so many buckets they are hashed; the official package has 10,000."""
    hash: Literal["fast", "sha256"] = "fast"
    """sha256: the official package's buckets, five times slower."""
    keep_ids: Literal["auto", "always", "never"] = "auto"
    """Whether the lake keeps the bucket of every n-gram, so that another target is scored sooner; see `NGrams`."""
    mix: float = 0.8
    """Share of the pool in the target's distribution (Jelinek-Mercer smoothing), 0 <= mix < 1."""
    smoothing: float = 0.0
    """Added to the count of every bucket of the target (Laplace): its effect depends on the number of buckets."""
    min_words: int = 0
    """Shorter documents may not be chosen; the official package's default is 100."""
    normalise: Literal["none", "per_token"] = "per_token"
    """per_token: the mean log ratio of the n-grams, for 128 words; none: the official sum over all of them."""
    prior_words: float = 10.0
    """per_token: words of the pool's average text that every document is taken to have beside its own."""
    unit: Literal["document", "window"] = "document"
    """What is scored: whole documents, or windows of them."""
    window_words: int = 128
    """Words of a window; a last one shorter than half of it joins the one before."""
    window_score: Literal["mean", "max"] = "mean"
    """unit: window scores runs of `window_words` words, and a document by their mean or their best; needs per_token."""
    targets: Literal["separate", "joint"] = "separate"
    """Several targets: one log ratio each, with their shares of the budget; or the counts of all, added up."""

    def __post_init__(self) -> None:
        for name, good, expected in (
            ("mix", 0 <= self.mix < 1, "a share from 0 to below 1"),
            ("smoothing", 0 <= self.smoothing < math.inf, "a number from 0"),
            ("min_words", self.min_words >= 0, "a number from 0"),
            ("prior_words", 0 <= self.prior_words < math.inf, "a number from 0"),
            ("window_words", self.window_words >= 1, "a number from 1"),
            ("unit", self.unit == "document" or self.normalise == "per_token", "document, or normalise: per_token"),
        ):
            if not good:
                raise ConfigError(f"dsir: {name} is {getattr(self, name)!r}, expected {expected}")

    @property
    def needs(self) -> Mapping[str, Feature]:
        """The hashed n-grams of each document, in text order."""
        return {"ngrams": NGrams(self.ngrams, self.buckets, self.hash, self.keep_ids)}

    def summarise(self, batch: pa.RecordBatch) -> BucketCounts:
        """Count the buckets of all n-grams in the batch."""
        return BucketCounts(self._count([batch]))

    def merge(self, summaries: Sequence[BucketCounts]) -> BucketCounts:
        """Add counts: integers, so exact in any order."""
        return BucketCounts(np.sum([s.counts for s in summaries], axis=0, dtype=np.int64))

    def subtract(self, summary: BucketCounts, gone: Sequence[BucketCounts]) -> BucketCounts:
        """Take counts away."""
        return BucketCounts(summary.counts - self.merge(gone).counts)

    def fit(self, summary: BucketCounts | None, targets: Sequence[Target], draw: Draw) -> DsirState:
        """Return the log ratios of each target (equations 2 to 4 of the official code's description)."""
        counted = [self._count(t.batches()) for t in targets]
        names, weights = [t.name for t in targets], [t.weight for t in targets]
        if self.targets == "joint":
            counted, names, weights = [np.sum(counted, axis=0)], ["+".join(names)], [None]
        for name, counts in zip(names, counted, strict=True):
            if not counts.sum():
                raise SelectionError(f"dsir: the target {name!r} has no words; give it documents with text")
        pool = summary.counts if summary else np.zeros(self.buckets, dtype=np.int64)
        p_pool = pool / max(1, pool.sum())
        ratio = np.stack([self._ratio(p_pool, counts) for counts in counted])
        centre = tuple((ratio * p_pool).sum(axis=1).tolist())
        return DsirState(
            tuple(names),
            proportions("dsir", weights, [float(c.sum()) for c in counted]),
            ratio,
            centre,
            np.stack(counted),
        )

    def _count(self, batches: Iterable[pa.RecordBatch]) -> Int64s:
        counts = np.zeros(self.buckets, dtype=np.int64)
        for batch in batches:
            count_buckets(_lists(batch)[1], counts)
        return counts

    def _ratio(self, p_pool: Float64s, target: Int64s) -> Float64s:
        smoothed = target + self.smoothing
        p_target = smoothed / smoothed.sum()
        if self.mix:
            p_target = (1 - self.mix) * p_target + self.mix * p_pool
        ratio = np.empty(self.buckets, dtype=np.float64)
        log_ratios(p_target, p_pool, EPSILON, ratio)
        return ratio

    def score(self, batch: pa.RecordBatch, state: DsirState) -> pa.Table:
        """Return `score`, or one `score_<target>` a target: the log weight, of the document or of 128 words like it.

        A document of fewer than `min_words` words may not be chosen, nor one without any where scores are normalised.
        """
        ends, ids = _lists(batch)
        n_ids = np.diff(ends)
        short = self._length(n_ids) < self.min_words
        blank = (n_ids == 0) & (self.normalise == "per_token")
        columns = {
            name: pa.array(self._scores(ends, ids, ratio, centre), mask=short | blank)
            for name, ratio, centre in zip(score_columns(state.names), state.ratio, state.centre, strict=True)
        }
        reason = np.where(short, f"fewer than {self.min_words} words", "no words")
        return pa.table(columns | {"reason": pa.array(reason, mask=~(short | blank))})

    def _length(self, n_ids: Int64s) -> Int64s:
        """Return the number of words by the official formula, which gives an empty document 1 where n >= 3."""
        length: Int64s = (n_ids + self.ngrams * (self.ngrams - 1) // 2) // self.ngrams
        return length

    def _scores(self, ends: Int64s, ids: Any, ratio: Float64s, centre: float) -> Float64s:
        out = np.empty(len(ends) - 1, dtype=np.float64)
        if self.normalise == "none":
            sum_ratios(ends, ids, ratio, out)
            return out
        window = self.window_words * self.ngrams if self.unit == "window" else len(ids) + 1
        prior = self.prior_words * self.ngrams
        shrunken_means(ends, ids, ratio, centre, prior, window, self.window_score == "max", out)
        return out * (EXAMPLE_WORDS * self.ngrams)

    def reasons(self, batch: pa.RecordBatch, state: DsirState, scores: pa.Table, around: Around) -> list[Reason | None]:
        """Say which n-grams a document's log weight comes from; the weights of all of them sum to its score."""
        columns = score_columns(state.names)
        (ends, ids), texts = _lists(batch), batch.column("text").to_pylist()
        found: list[Reason | None] = []
        for row, column in enumerate(judged_by(scores, columns)):
            if column is None:
                found.append(not_scored("ngrams", scores, row))
                continue
            target = columns.index(column)
            mine = ids[ends[row] : ends[row + 1]]
            reason = ngram_reason(
                texts[row], mine, state.ratio[target], state.centre[target], self._sums(), around.most
            )
            found.append(replace(reason, about=self._about(len(mine), reason.total or 0.0, state.names[target])))
        return found

    def _sums(self) -> Sums:
        window = self.window_words * self.ngrams if self.unit == "window" else None
        mean, prior = self.normalise == "per_token", self.prior_words * self.ngrams
        return Sums(self.ngrams, mean, prior, window, self.window_score == "max", float(EXAMPLE_WORDS * self.ngrams))

    def _about(self, n_ids: int, total: float, target: str) -> str:
        if self.normalise == "none":
            return f"log weight {total:.4g} nats for {target}: the sum of the log ratios of {n_ids:,} n-grams"
        whose = {"document": "", "window": f", by the {self.window_score} of its windows of {self.window_words} words"}
        return (
            f"log weight {total:.4g} nats for {target}, of {EXAMPLE_WORDS} words like these: from the log ratios of "
            f"{n_ids:,} n-grams less the pool's mean{whose[self.unit]}"
        )

    def select(self, parts: Callable[[str], Parts], state: DsirState, rule: CutRule, draw: Draw) -> Choice:
        """Cut once for each target with its share of the budget; a document goes to the first target that takes it."""
        return cut_by_target(parts, state.names, state.proportions, rule, draw)

    def health(self, state: DsirState, scores: Batches, chosen: Batches) -> dict[str, float]:
        """Return the share of the target's n-grams that was chosen."""
        found = np.zeros(self.buckets, dtype=np.int64)
        for batch in chosen():
            count_buckets(_lists(batch)[1], found)
        wanted = state.target_counts.sum(axis=0)
        return {"target_ngrams_covered": float(wanted[found > 0].sum() / wanted.sum())}


def _lists(batch: pa.RecordBatch) -> tuple[Int64s, Any]:
    """Return the borders and the bucket ids of the batch's documents."""
    column = batch.column("ngrams.ids")
    ends = np.asarray(column.offsets, dtype=np.int64)
    ids = np.asarray(column.flatten())
    return ends - ends[0], ids
