"""ZIP-FIT: documents that compress well together with the target.

Obbad et al. 2024, https://arxiv.org/abs/2410.18194. The alignment of a document s with a target document t is
1 - NCD(s, t) = 1 - (C(st) - min(C(s), C(t))) / max(C(s), C(t)), where C is the size in bytes under gzip; the score is
the mean over the target's documents. The official code compresses every pair, 30,000 a core-second. Here gzip's sizes
come from a kernel that parses a document once for all targets (`features/deflate_kernels.py`, equal to zlib's to the
byte), and sampling saves most pairs.

`method: exact` takes a keyed sample of `n_targets` target documents, one from each of as many strata of compressed
size. On 3,000 documents of a mixed pool and five targets of 54 to 659 documents, 8 of them gave rank correlations with
all of .991 to .997; 12 .995 to .998 and .85 to .93 of the same best tenth; 32 .999 and .95; 64 .9995 and .96; 128 .98.
`method: fast`, the default, scores every document with 12 or more, and only the best `refined_share` with more: the
same best tenth to .957 to .974 on these sets, on which its numbers were chosen. `tests/benchmarks/zip_fit_speed.py`
measures it on others.

A gzip score follows length: it is largest where document and target are equally long, and the 18 bytes of gzip's frame
count as shared. `unit: window` scores windows of `window_words` words, which have one length.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.compressors import Compressor, check_level, sizer, sizer_behind, version
from ..features.deflate_kernels import parser
from ..features.match_kernels import LEVELS as KERNEL_LEVELS
from ..features.match_kernels import known_matches
from ..features.text_buffers import text_buffers
from ..features.window_kernels import windows
from ..storage.errors import ConfigError, SelectionError
from .base import Batches, Choice, Draw, Selector, Target
from .budget import CutRule, Parts
from .pilot import Pilot, merged, sample
from .target_sample import count_to_hold, stratified, target_documents
from .target_shares import cut_by_target, proportions, score_columns
from .zip_fit_kernels import add_alignments, means

PILOT_DOCUMENTS, PILOT_BYTES = 256, 1 << 15
"""How many documents of the pool tell where its best share begins, and how much of each."""
EXACT_TARGETS = 32
"""exact: so many target documents, unless `n_targets` says how many."""
FIRST_TARGETS, FIRST_BYTES = 12, 6_000
"""fast: every document is scored with at least so many target documents, and so many bytes of them."""
REFINED_TARGETS, REFINED_BYTES = 48, 60_000
"""fast: the same for the best share, unless `n_targets` says how many."""

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ZipFitState:
    """Sampled target documents: those of all targets one after the other, by target first the ones that all meet."""

    names: tuple[str, ...]
    proportions: tuple[float, ...]
    texts: npt.NDArray[np.uint8]
    offsets: Int64s
    sizes: Int64s
    """Compressed, in bytes."""
    ends: tuple[int, ...]
    """Where each target's documents end."""
    n_first: tuple[int, ...]
    """How many of them every document is scored with."""
    bounds: tuple[float, ...]
    """From which first score on a document is scored with all of them."""
    shifts: tuple[float, ...]
    """What is added to the first score of a document that is not."""


@dataclass(frozen=True)
class ZipFit(Selector):
    """Choose documents that share strings with the target, by compressing them together.

    Scores lie from about 0 to 1; they are comparable within one target only. With `method: fast` the scores of the
    documents beyond `refined_share` are estimates: keep the budget below it.
    """

    name = "zip_fit"
    version = 1
    needs_target = True
    reads = ("text",)
    summary_type = Pilot
    state_type = ZipFitState

    method: Literal["fast", "exact"] = "fast"
    compressor: Compressor = "gzip"
    level: int = 6
    n_targets: int | Literal["all"] | None = None
    """Documents of the target that a score is the mean over; by default 32 (exact) or at least 48 (fast)."""
    refined_share: float = 0.15
    """fast: share of the documents whose first score is refined."""
    unit: Literal["document", "window"] = "document"
    window_words: int = 128
    window_score: Literal["mean", "max"] = "mean"
    """unit: window scores runs of `window_words` words, and a document by their mean or their best."""
    targets: Literal["separate", "joint"] = "separate"
    """Several targets: a score and a share of the budget each; or one score over the documents of all."""

    def __post_init__(self) -> None:
        check_level("zip_fit", self.compressor, self.level)
        for name, good, expected in (
            ("n_targets", self.n_targets in (None, "all") or int(self.n_targets or 0) >= 1, "all, or a number from 1"),
            ("refined_share", 0 <= self.refined_share <= 1, "a share from 0 to 1"),
            ("window_words", self.window_words >= 1, "a number from 1"),
        ):
            if not good:
                raise ConfigError(f"zip_fit: {name} is {getattr(self, name)!r}, expected {expected}")

    def identity(self) -> dict[str, Any]:
        """Return the version of the library that decides the sizes."""
        return {self.compressor: version(self.compressor)}

    def summarise(self, batch: pa.RecordBatch) -> Pilot:
        """Return a keyed sample of the pool."""
        return sample(batch, PILOT_DOCUMENTS, PILOT_BYTES)

    def merge(self, summaries: Sequence[Pilot]) -> Pilot:
        """Return the sample of all."""
        return merged(summaries, PILOT_DOCUMENTS)

    def fit(self, summary: Pilot | None, targets: Sequence[Target], draw: Draw) -> ZipFitState:
        """Sample the targets, and find where the best share of the pool begins."""
        found = {t.name: target_documents([t]) for t in targets}
        weights = [t.weight for t in targets]
        if self.targets == "joint":
            found, weights = {"+".join(found): target_documents(targets)}, [None]
        sampled, n_first = [], []
        for name, documents in found.items():
            if not documents:
                raise SelectionError(f"zip_fit: the target {name!r} has no text; give it documents")
            texts, first = self._sample(documents, draw(f"targets/{name}"))
            sampled.append(texts)
            n_first.append(first)
        shares = proportions("zip_fit", weights, [sum(len(t) for _, t in pairs) for pairs in found.values()])
        texts = [text for one in sampled for text in one]
        state = ZipFitState(
            tuple(found),
            shares,
            np.frombuffer(b"".join(texts), np.uint8),
            np.cumsum([0, *map(len, texts)], dtype=np.int64),
            np.array([*map(sizer(self.compressor, self.level), texts)], np.int64),
            tuple(np.cumsum([len(one) for one in sampled]).tolist()),
            tuple(n_first),
            (-math.inf,) * len(sampled),
            (0.0,) * len(sampled),
        )
        if summary is None or not len(summary.doc_keys) or self.method == "exact":
            return state
        units = self._units(summary.offsets, summary.texts)
        bounds, shifts = zip(
            *(self._calibrate(units, _Sampled(self, state, i)) for i in range(len(found))), strict=True
        )
        return replace(state, bounds=bounds, shifts=shifts)

    def _calibrate(self, units: "_Units", sampled: "_Sampled") -> tuple[float, float]:
        """Return where the best share begins, and what the further documents of the target add to a score there.

        The first documents may be easier than the others: without the shift a document that is not refined would pass
        those that are.
        """
        totals, first = self._first(units, sampled)
        bound = float(np.quantile(first, 1 - self.refined_share))
        best = first >= bound
        refined = self._refined(units, sampled, totals, best)
        return bound, float((refined - first[best]).mean())

    def _sample(self, documents: list[tuple[int, bytes]], key: int) -> tuple[list[bytes], int]:
        """Return the documents that are used, those first that all of the pool meets, and how many these are."""
        keys, texts = [k for k, _ in documents], [t for _, t in documents]
        sizes = [*map(sizer(self.compressor, self.level), texts)]
        n = len(texts) if self.n_targets == "all" else self.n_targets
        if self.method == "exact":
            places = stratified(sizes, keys, n or EXACT_TARGETS, key)
            return [texts[i] for i in places], len(places)
        lengths = [len(t) for t in texts]
        places = stratified(sizes, keys, n or count_to_hold(lengths, REFINED_BYTES, REFINED_TARGETS), key)
        n_first = count_to_hold(lengths, FIRST_BYTES, FIRST_TARGETS)
        first = places[stratified([sizes[i] for i in places], [keys[i] for i in places], n_first, key)]
        rest = [i for i in places if i not in set(first)]
        return [texts[i] for i in [*first, *rest]], len(first)

    def score(self, batch: pa.RecordBatch, state: ZipFitState) -> pa.Table:
        """Return `score` and `refined`, or `score_<target>` and `refined_<target>` a target.

        A document without text may not be chosen.
        """
        offsets, data = text_buffers(batch.column("text"))
        empty = np.diff(offsets) == 0
        units = self._units(offsets, data)
        columns = {}
        for i, name in enumerate(score_columns(state.names)):
            sampled = _Sampled(self, state, i)
            totals, first = self._first(units, sampled)
            best = first >= state.bounds[i]
            scores = first + state.shifts[i]
            scores[best] = self._refined(units, sampled, totals, best)
            columns[name] = pa.array(scores, mask=empty)
            columns[name.replace("score", "refined", 1)] = pa.array(best)
        return pa.table(columns | {"reason": pa.array(np.where(empty, "no text", ""), mask=~empty)})

    def _units(self, offsets: Int64s, data: npt.NDArray[np.uint8]) -> "_Units":
        data = data.view()
        data.setflags(write=False)  # of one kind wherever it comes from: the kernels are compiled once
        if self.unit == "window":
            return _Units(data, *windows(offsets, data, self.window_words))
        return _Units(data, offsets[:-1], offsets[1:], np.arange(len(offsets), dtype=np.int64))

    def _first(self, units: "_Units", sampled: "_Sampled") -> tuple[Float64s, Float64s]:
        """Return the sums of the units over the documents that all meet, and the scores by document."""
        totals = np.zeros(len(units.starts), np.float64)
        sampled.add(units, np.arange(len(totals)), np.arange(sampled.n_first), totals)
        return totals, self._by_document(units, totals / sampled.n_first)

    def _refined(self, units: "_Units", sampled: "_Sampled", totals: Float64s, best: npt.NDArray[np.bool_]) -> Float64s:
        """Return the scores of the best documents over all sampled documents of the target."""
        inside = np.flatnonzero(np.repeat(best, np.diff(units.first)))
        sampled.add(units, inside, np.arange(sampled.n_first, sampled.n), totals)
        scores: Float64s = self._by_document(units, totals / sampled.n)[best]
        return scores

    def _by_document(self, units: "_Units", scores: Float64s) -> Float64s:
        out = np.empty(len(units.first) - 1, np.float64)
        means(scores, units.first, self.window_score == "max", out)
        return out

    def select(self, parts: Callable[[str], Parts], state: ZipFitState, rule: CutRule, draw: Draw) -> Choice:
        """Cut once for each target with its share of the budget; a document goes to the first target that takes it."""
        return cut_by_target(parts, state.names, state.proportions, rule, draw)

    def health(self, state: ZipFitState, scores: Batches, chosen: Batches) -> dict[str, float]:
        """Return the share of the documents whose score was refined, by target: a budget above it takes estimates."""
        found: dict[str, list[int]] = {}
        for batch in scores():
            for name in (n for n in batch.schema.names if n == "refined" or n.startswith("refined_")):
                column = np.asarray(batch.column(name))
                sums = found.setdefault(name, [0, 0])
                sums[0] += int(column.sum())
                sums[1] += len(column)
        return {f"{name}_share": refined / max(1, total) for name, (refined, total) in found.items()}


class _Units(NamedTuple):
    """What is compressed: documents or windows of them."""

    data: npt.NDArray[np.uint8]
    starts: Int64s
    ends: Int64s
    first: Int64s
    """The units of document i are first[i] to first[i + 1]."""


class _Sampled:
    """The sampled documents of one target, ready to be compressed behind units of the pool."""

    def __init__(self, selector: ZipFit, state: ZipFitState, target: int) -> None:
        begin, end = ([0, *state.ends])[target], state.ends[target]
        self._selector = selector
        self._texts = [state.texts[a:b].tobytes() for a, b in pairwise(state.offsets[begin : end + 1].tolist())]
        self._sizes = state.sizes[begin:end]
        self._effort = KERNEL_LEVELS.get(selector.level) if selector.compressor == "gzip" else None
        self._matches = known_matches(self._texts, self._effort) if self._effort else None
        self.n, self.n_first = end - begin, state.n_first[target]

    def add(self, units: _Units, which: Int64s, targets: Int64s, totals: Float64s) -> None:
        """Add the similarity of some units with some of the documents to the units' totals."""
        starts, ends = units.starts[which], units.ends[which]
        if self._effort is None:
            for unit, start, end in zip(which.tolist(), starts.tolist(), ends.tolist(), strict=True):
                totals[unit] += self._similarities(units.data[start:end].tobytes(), targets)
            return
        room = parser(int(np.max(ends - starts, initial=0)), max(map(len, self._texts)))
        found = totals[which]
        add_alignments(room, units.data, starts, ends, self._matches, targets, self._sizes, self._effort, found)
        totals[which] = found

    def _similarities(self, source: bytes, targets: Int64s) -> float:
        compressor, level = self._selector.compressor, self._selector.level
        alone, behind = sizer(compressor, level)(source), sizer_behind(compressor, level, source)
        total = 0.0
        for target in targets.tolist():
            other = int(self._sizes[target])
            total += 1.0 - (behind(self._texts[target]) - min(alone, other)) / max(alone, other)
        return total
