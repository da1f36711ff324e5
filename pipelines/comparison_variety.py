"""How much each choice repeats itself, in its words and in its documents."""

import math
from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.minhash import MinHash
from ..selectors.keyed import stream_key, uniform
from .comparison_measures import Kind, measure_row
from .comparison_texts import CORPUS, Bools, Counter, Groups
from .diversity import WORDS, WordSample
from .near_duplicates import DuplicateRate, duplicate_rate

_EQUAL_WORDS = "Over equally many words of each choice, documents drawn at random. Falls with the number of words."
_DISTINCT = [
    Kind(
        f"distinct_{n}", f"distinct-{n}", f"different runs of {n} words among all of them" if n > 1 else
        "different words among all of them", f"Li et al. 2016. {_EQUAL_WORDS}", form="percent", glance=n == 2,
    )
    for n in (1, 2, 3)
]  # fmt: skip
_ENTROPY = Kind(
    "word_entropy", "entropy of the words", "in nats", f"Of the distribution over different words. {_EQUAL_WORDS}"
)
_SIMILAR_HOW = (
    "MinHash of runs of five words, Jaccard similarity of 0.8 and more as the signatures estimate it. Counted are the "
    "documents that are not the first of their group."
)
_EXACT = Kind(
    "exact_duplicates", "repeats of a text", "share of the choice's documents that have the same text as another of it",
    "All but one of the documents with the same text are counted.", "lower", "percent",
)  # fmt: skip
_NEAR = Kind(
    "near_duplicates", "near-duplicates", "share of the choice's documents that nearly repeat another of it",
    _SIMILAR_HOW, "lower", "percent", glance=True,
)  # fmt: skip


class RepeatMeasures:
    """Sign the documents of each group, all of them: a sample would lose the other half of a pair."""

    def __init__(self, groups: Groups) -> None:
        self._groups, self._lock, self._minhash = groups, Lock(), MinHash()
        self._found: dict[str, list[tuple[int, npt.NDArray[np.uint32], pa.Array]]] = {
            name: [] for name in groups.names if name != CORPUS
        }

    def counters(self) -> list[Counter]:
        """Return what looks at the texts."""
        return [self._sign]

    def _sign(self, batch: pa.RecordBatch, member: Bools) -> None:
        mine = np.flatnonzero(member[:-1].any(axis=0))
        if not mine.size:
            return
        batch = batch.take(pa.array(mine))
        column = self._minhash.compute(batch, self._minhash.load()).column("signature")
        signatures = np.asarray(column.flatten()).reshape(len(mine), -1)
        first, hashes = int(batch.column("place")[0].as_py()), batch.column("text_hash")
        with self._lock:
            for name, inside in zip(self._found, member[:, mine], strict=False):
                if inside.any():
                    self._found[name].append((first, signatures[inside], hashes.filter(pa.array(inside))))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the measures."""
        rates = {name: _rate(found) for name, found in self._found.items()}
        yield measure_row(_EXACT, self._groups, lambda name: rates[name].exact)
        yield measure_row(_NEAR, self._groups, lambda name: rates[name].near)


def _rate(found: list[tuple[int, npt.NDArray[np.uint32], pa.Array]]) -> DuplicateRate:
    if not found:
        return DuplicateRate(math.nan, math.nan)
    found = sorted(found, key=lambda part: part[0])
    return duplicate_rate(np.concatenate([s for _, s, _ in found]), pa.concat_arrays([h for *_, h in found]))


class VarietyMeasures:
    """Look at the words of a sample of each group, its documents in a random order."""

    def __init__(self, groups: Groups) -> None:
        self._groups, self._lock = groups, Lock()
        drawn = {
            name: documents.thinned(WORDS, "words") if documents.tokens > WORDS else documents
            for name, documents in groups.documents.items()
            if name != CORPUS
        }
        self._places = {name: documents.places for name, documents in drawn.items()}
        self._texts: dict[str, list[pa.RecordBatch]] = {name: [] for name in drawn}

    def counters(self) -> list[Counter]:
        """Return what looks at the texts."""
        return [self._keep]

    def _keep(self, batch: pa.RecordBatch, member: Bools) -> None:
        place = batch.column("place").to_numpy()
        for name, inside in zip(self._texts, member, strict=False):
            mine = np.flatnonzero(inside & _is_in(place, self._places[name]))
            if mine.size:
                with self._lock:
                    self._texts[name].append(batch.select(["text", "doc_key"]).take(pa.array(mine)))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the measures."""
        samples = {}
        for name, batches in self._texts.items():
            samples[name] = WordSample()
            if batches:  # in a random order: the last ones are cut off where others have fewer words
                table = pa.Table.from_batches(batches)
                keys = table.column("doc_key").to_numpy()
                order = np.lexsort((keys, uniform(keys, stream_key(0, "compare", "order of words"))))
                samples[name].add(table.column("text").take(pa.array(order)).combine_chunks())
        words = min((sample.n_words for sample in samples.values()), default=0)
        note = f"{words:,} words of each choice"
        for n, kind in enumerate(_DISTINCT, start=1):

            def distinct(name: str, n: int = n) -> float:
                return samples[name].distinct(n, words)

            yield measure_row(kind, self._groups, distinct, note=note)
        yield measure_row(_ENTROPY, self._groups, lambda name: samples[name].entropy(words), note=note)


def _is_in(place: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> Bools:
    """Say which places are among ascending ones."""
    if not len(places):
        return np.zeros(len(place), np.bool_)
    found: Bools = places[np.minimum(np.searchsorted(places, place), len(places) - 1)] == place
    return found
