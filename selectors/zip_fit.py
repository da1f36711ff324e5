"""ZIP-FIT: documents that compress well together with the target.

Obbad et al. 2024, https://arxiv.org/abs/2410.18194. The alignment of a document s with a target document t is
1 - NCD(s, t) = 1 - (C(st) - min(C(s), C(t))) / max(C(s), C(t)), where C is the size in bytes under gzip; the official
score (`alignment: ncd`) is the mean over the target's documents. The official code compresses every pair, 30,000 a
core-second. Here gzip's sizes come from a kernel that parses a document once for all targets (equal to zlib's to the
byte: `features/deflate_kernels.py`), and sampling saves most pairs.

`method: exact` takes a keyed sample of `n_targets` target documents, one from each of as many strata of compressed
size. With the official score, 3,000 documents of a mixed pool and five targets of 54 to 659 documents, 8 of them gave
rank correlations with all of .991 to .997, 12 of .995 to .998; 32 gave .997 to .999, and .92 to .98 of the same best
tenth; 128 at least .999, and .96 to .98. `method: fast`, the default, scores every document with 12 or more, and only
the best `refined_share` with more: .993 to .999, and .968 to .978 of the best tenth, on these sets where its numbers
were chosen. `tests/benchmarks/zip_fit_speed.py` measures it on others. A contrast is the difference of two such means,
so the same samples rank the documents far from the best more loosely.

The official score follows length: it is largest where document and target are equally long. So by default (`alignment:
contrast`) a document counts by what it shares with the target's documents more than with texts of the pool of about the
same compressed sizes: by the mean difference of C(s) + C(t) - C(st), over the root of C(s) + 50, because chance savings
grow with the root; and a document is the mean of its windows of 256 words. Of what was chosen at 5% of the tokens for
four targets, 0.82 of the tokens were of the target's domain, with the official score of whole documents 0.47
(`tests/benchmarks/selector_shares.py`).
"""

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.compressors import Compressor, check_level, version
from ..features.text_buffers import text_buffers
from ..features.unicode_tables import unicode_tables
from ..features.window_kernels import windows
from ..features.word_kernels import count_words
from ..storage.errors import ConfigError, SelectionError
from .alignment import Int64s, Sample, Scoring, Units, sizes, uses_kernel
from .base import Around, Batches, Choice, Draw, Selector, Target
from .budget import CutRule, Parts
from .pilot import Pilot, merged, sample, text_keys
from .reasons import Reason
from .target_sample import count_to_hold, matched, pieces, stratified, target_documents
from .target_shares import cut_by_target, proportions, score_columns
from .zip_fit_reasons import Aligned

PILOT_TEXTS, PIECE_BYTES = 1_024, 1 << 13
"""How many texts of the pool a target's documents are matched with. In a contrast both are cut to pieces so long."""
CALIBRATION_TEXTS = 128
"""How many of them tell where the pool's best share begins."""
EXACT_TARGETS = 32
"""exact: so many target documents, unless `n_targets` says how many."""
FIRST_TARGETS, FIRST_BYTES = 12, 6_000
"""fast: every document is scored with at least so many target documents, and so many bytes of them."""
REFINED_TARGETS, REFINED_BYTES = 36, 60_000
"""fast: the same for the best share, unless `n_targets` says how many."""


@dataclass(frozen=True)
class ZipFitState:
    """Sampled documents: for each target its own, those first that all meet, then those of the pool in their order."""

    names: tuple[str, ...]
    proportions: tuple[float, ...]
    texts: npt.NDArray[np.uint8]
    offsets: Int64s
    sizes: Int64s
    """Compressed, in bytes."""
    ends: tuple[int, ...]
    """Where the documents of each target, with those of the pool, end."""
    n_targets: tuple[int, ...]
    """How many of them are the target's."""
    n_first: tuple[int, ...]
    """How many of these every document is scored with."""
    pool_keys: npt.NDArray[np.uint64]
    """Keys of the texts of the pool, by place; 0 at a target's."""
    bounds: tuple[float, ...]
    """From which first score on a document is scored with all of them."""
    shifts: tuple[float, ...]
    """What is added to the first score of a document that is not."""


@dataclass(frozen=True)
class ZipFit(Selector):
    """Choose documents that share strings with the target, by compressing them together.

    Scores are comparable within one target only. With `method: fast` the scores of the documents beyond `refined_share`
    are estimates: keep the budget below it.
    """

    name = "zip_fit"
    version = 1
    needs_target = True
    reads = ("text", "text_hash")
    summary_parameters = ()
    summary_type = Pilot
    state_type = ZipFitState

    method: Literal["fast", "exact"] = "fast"
    """exact: every document meets the same target documents; fast: few, and more where it is among the best."""
    alignment: Literal["contrast", "ncd"] = "contrast"
    """ncd: 1 - NCD, the official score; contrast: bytes shared beyond those shared with the pool, over their root."""
    compressor: Compressor = "gzip"
    """gzip is the fastest by far here: its sizes come from a kernel, the others' from their libraries."""
    level: int = 6
    """Of the compressor: 1 to 9 for gzip, 1 to 22 for zstd, 0 to 16 for lz4."""
    n_targets: int | Literal["auto", "all"] = "auto"
    """Documents of the target that a score is the mean over; auto: 32 (exact), or at least 36 (fast)."""
    refined_share: float = 0.15
    """fast: share of the documents whose first score is refined."""
    unit: Literal["document", "window"] = "window"
    """What is compressed: whole documents, or windows of them."""
    window_words: int = 256
    """Words of a window; a last one shorter than half of it joins the one before."""
    window_score: Literal["mean", "max"] = "mean"
    """unit: window scores runs of `window_words` words, and a document by their mean or their best."""
    targets: Literal["separate", "joint"] = "separate"
    """Several targets: a score and a share of the budget each; or one score over the documents of all."""

    def __post_init__(self) -> None:
        check_level("zip_fit", self.compressor, self.level)
        for name, good, expected in (
            ("n_targets", isinstance(self.n_targets, str) or self.n_targets >= 1, "auto, all, or a number from 1"),
            ("refined_share", 0 <= self.refined_share <= 1, "a share from 0 to 1"),
            ("window_words", self.window_words >= 1, "a number from 1"),
        ):
            if not good:
                raise ConfigError(f"zip_fit: {name} is {getattr(self, name)!r}, expected {expected}")

    def identity(self) -> dict[str, Any]:
        """Return the versions of what decides the sizes, where that is not the kernel, and the windows."""
        found = {} if uses_kernel(self.compressor, self.level) else {self.compressor: version(self.compressor)}
        return found | ({"unicode": unicodedata.unidata_version} if self.unit == "window" else {})

    def summarise(self, batch: pa.RecordBatch) -> Pilot:
        """Return a keyed sample of the pool."""
        return sample(batch, PILOT_TEXTS, PIECE_BYTES)

    def merge(self, summaries: Sequence[Pilot]) -> Pilot:
        """Return the sample of all."""
        return merged(summaries, PILOT_TEXTS)

    def fit(self, summary: Pilot | None, targets: Sequence[Target], draw: Draw) -> ZipFitState:
        """Sample the targets and the pool, and find where the pool's best share begins."""
        found = {t.name: target_documents([t]) for t in targets}
        weights = [t.weight for t in targets]
        if self.targets == "joint":
            if any(weight is not None for weight in weights):
                raise SelectionError("zip_fit: `targets: joint` has one score for all, and no shares; remove them")
            found, weights = {"+".join(found): target_documents(targets)}, [None]
        pool = self._pool(summary)
        sampled, n_targets, n_first = [], [], []
        for name, documents in found.items():
            if self.alignment == "contrast":
                documents = pieces(documents, PIECE_BYTES)
            if not documents:
                raise SelectionError(f"zip_fit: the target {name!r} has no text; give it documents")
            texts, first = self._sample(documents, draw(f"targets/{name}"))
            n_targets.append(len(texts))
            n_first.append(first)
            places = matched([size for size, _, _ in texts], [size for size, _, _ in pool])
            sampled.append([*texts, *(pool[place] for place in places)])
        shares = proportions("zip_fit", weights, [sum(len(t) for _, t in pairs) for pairs in found.values()])
        every = [document for one in sampled for document in one]
        state = ZipFitState(
            names=tuple(found),
            proportions=shares,
            texts=np.frombuffer(b"".join(text for _, _, text in every), np.uint8),
            offsets=np.cumsum([0, *(len(text) for _, _, text in every)], dtype=np.int64),
            sizes=np.array([size for size, _, _ in every], np.int64),
            ends=tuple(np.cumsum([len(one) for one in sampled]).tolist()),
            n_targets=tuple(n_targets),
            n_first=tuple(n_first),
            pool_keys=np.array([key for _, key, _ in every], np.uint64),
            bounds=(-math.inf,) * len(sampled),
            shifts=(0.0,) * len(sampled),
        )
        if summary is None or not len(summary.text_keys) or self.method == "exact":
            return state
        n = min(CALIBRATION_TEXTS, len(summary.text_keys))
        units, keys = self._units(summary.offsets[: n + 1], summary.texts), summary.text_keys[:n]
        bounds, shifts = zip(*(self._calibrate(units, keys, state, i) for i in range(len(found))), strict=True)
        return replace(state, bounds=bounds, shifts=shifts)

    def _pool(self, summary: Pilot | None) -> list[tuple[int, int, bytes]]:
        """Return size, key and text of the sampled documents of the pool that have text, where they are needed."""
        if summary is None or self.alignment != "contrast":
            return []
        keys, texts = summary.text_keys.tolist(), summary.documents()
        return [found for found in zip(sizes(self.compressor, self.level, texts), keys, texts, strict=True) if found[2]]

    def _sample(self, documents: list[tuple[int, bytes]], key: int) -> tuple[list[tuple[int, int, bytes]], int]:
        """Return (size, 0, text) of the documents that are used, and how many of them, the first ones, all meet."""
        keys, texts = [k for k, _ in documents], [t for _, t in documents]
        compressed = sizes(self.compressor, self.level, texts)
        n = len(texts) if self.n_targets == "all" else None if self.n_targets == "auto" else self.n_targets
        if self.method == "exact":
            places = first = stratified(compressed, keys, n or EXACT_TARGETS, key)
        else:
            lengths = [len(t) for t in texts]
            places = stratified(compressed, keys, n or count_to_hold(lengths, REFINED_BYTES, REFINED_TARGETS), key)
            n_first = count_to_hold(lengths, FIRST_BYTES, FIRST_TARGETS)
            first = places[stratified([compressed[i] for i in places], [keys[i] for i in places], n_first, key)]
        rest = [i for i in places if i not in set(first)]
        return [(compressed[i], 0, texts[i]) for i in [*first, *rest]], len(first)

    def _calibrate(self, units: Units, keys: npt.NDArray[np.uint64], state: ZipFitState, i: int) -> tuple[float, float]:
        """Return where the best share begins, and what the further documents of the target add to a score there.

        The first documents may be easier than the others: without the shift a document that is not refined would pass
        those that are.
        """
        scoring = self._scoring(units, keys, state, i)
        first = scoring.first()
        bound = float(np.quantile(first, 1 - self.refined_share))
        best = first >= bound
        return bound, float((scoring.refined(best) - first[best]).mean())

    def score(self, batch: pa.RecordBatch, state: ZipFitState) -> pa.Table:
        """Return `score` and `refined`, or `score_<target>` and `refined_<target>` a target.

        A document without text may not be chosen.
        """
        offsets, data = text_buffers(batch.column("text"))
        n_words = np.empty(batch.num_rows, np.int64)
        count_words(offsets, data, unicode_tables().classes, n_words)
        empty = n_words == 0
        units, keys = self._units(offsets, data), text_keys(batch)
        columns = {}
        for i, name in enumerate(score_columns(state.names)):
            scoring = self._scoring(units, keys, state, i)
            first = scoring.first()
            best = first >= state.bounds[i]
            scores = first + state.shifts[i]
            scores[best] = scoring.refined(best)
            columns[name] = pa.array(scores, mask=empty)
            columns[name.replace("score", "refined", 1)] = pa.array(best)
        return pa.table(columns | {"reason": pa.array(np.where(empty, "no text", ""), mask=~empty)})

    def reasons(
        self, batch: pa.RecordBatch, state: ZipFitState, scores: pa.Table, around: Around
    ) -> list[Reason | None]:
        """Say which sampled documents of the target are nearest, and what strings they share."""
        samples = [self._sampled(state, target) for target in range(len(state.names))]
        piece_bytes, best = PIECE_BYTES if self.alignment == "contrast" else None, self.window_score == "max"
        return Aligned(state.names, samples, state.shifts, self._units, best, piece_bytes).reasons(
            batch, scores, around
        )

    def _scoring(self, units: Units, keys: npt.NDArray[np.uint64], state: ZipFitState, target: int) -> Scoring:
        return Scoring(self._sampled(state, target), units, keys, self.window_score == "max")

    def _sampled(self, state: ZipFitState, target: int) -> Sample:
        begin, end = ([0, *state.ends])[target], state.ends[target]
        return Sample(
            compressor=self.compressor,
            level=self.level,
            shared=self.alignment == "contrast",
            texts=[state.texts[a:b].tobytes() for a, b in pairwise(state.offsets[begin : end + 1].tolist())],
            sizes=state.sizes[begin:end],
            keys=state.pool_keys[begin:end],
            n=state.n_targets[target],
            n_first=state.n_first[target],
        )

    def _units(self, offsets: Int64s, data: npt.NDArray[np.uint8]) -> Units:
        data = data.view()
        data.setflags(write=False)  # of one kind wherever it comes from: the kernels are compiled once
        if self.unit == "window":
            return Units(data, *windows(offsets, data, self.window_words))
        return Units(data, offsets[:-1], offsets[1:], np.arange(len(offsets), dtype=np.int64))

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
