"""Which documents repeat an evaluation set: those that share a run of 13 words with one of its documents.

The field's rule since GPT-3 (Brown et al. 2020, https://arxiv.org/abs/2005.14165, appendix C): 13 words, without case
and punctuation; `folding` says what a word is. Shorter runs meet by chance, so GPT-3 goes down to 8 words, where a
test's examples are short. Here an evaluation document of 8 to 12 words counts as found where all its words stand in a
row; a still shorter one cannot be protected, and the caller is told. GPT-3 forgives runs that more than ten training
documents share; nothing is forgiven here.

Punctuation ends a word, but copies come also with it deleted: `f(a, b)` is then `fa b`. So an evaluation document is
looked for in both readings; the pool needs only one, because text without punctuation reads the same in both.

This is no `Selector`: there are no scores to cut, and it must see the whole of a target, whose held-out part no
selector may see. The index takes some 100 bytes a word of the evaluation set. Each length among documents shorter than
13 words is another look at every word, some 10% of the time.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.folding import fold_table
from ..features.text_buffers import Bytes, Offsets, text_buffers
from ..storage.errors import ConfigError
from .decontamination_kernels import Ints, Numbers, RunTable, best_of, enter_runs, find_runs, list_runs

VERSION = 1
"""Raised when other documents are found: it is part of every fingerprint."""
WORDS, MIN_WORDS = 13, 8
MOST_RUNS = (1 << 31) - 1
_BITS_A_RUN = 32
_PUNCTUATION = re.compile(r"[^\w\s]+")
_HITS = 1 << 20


class Pairs(NamedTuple):
    """Every pair of a document and an evaluation document that share runs, by document and evaluation document."""

    document: npt.NDArray[np.int64]
    evaluation: npt.NDArray[np.int64]
    shared: npt.NDArray[np.int64]
    """Different runs that both have."""


@dataclass(frozen=True)
class EvaluationRuns:
    """The runs of words of an evaluation set, ready to be looked for; documents are known by their place in it."""

    n_words: Ints
    """Words of each evaluation document."""
    protected: npt.NDArray[np.bool_]
    """Which evaluation documents have a run at all."""
    sizes: Ints
    """Lengths of the runs, in words."""
    table: RunTable
    member_from: Ints
    members: Numbers
    """Documents of each run: those of run i are `members[member_from[i]:member_from[i + 1]]`, ascending."""

    @property
    def n_runs(self) -> int:
        """Number of different runs."""
        return len(self.table.first)

    def best(self, text: pa.Array) -> Numbers:
        """Return for each text the evaluation document that it shares most runs with, -1 for none.

        Of equals it is the first in the evaluation set, so the answer depends on the text and the set alone. Runs that
        more than 64 evaluation documents have are not counted; of a text without others it is their first document.
        """
        best = np.full(len(text), -1, np.int32)
        counts = np.zeros(len(self.n_words), np.int32)
        best_of(*self._hits(text), self.member_from, self.members, counts, best)
        return best

    def pairs(self, text: pa.Array) -> Pairs:
        """Return all evaluation documents that each text shares runs with."""
        hit_doc, hit_run = self._hits(text)
        n_members = np.diff(self.member_from)[hit_run]
        begin = np.repeat(self.member_from[hit_run] - np.cumsum(n_members) + n_members, n_members)
        evaluation = self.members[begin + np.arange(begin.size)]
        both = np.repeat(hit_doc, n_members).astype(np.int64) * len(self.n_words) + evaluation
        pair, shared = np.unique(both, return_counts=True)
        return Pairs(*np.divmod(pair, max(1, len(self.n_words))), shared)

    def _hits(self, text: pa.Array) -> tuple[Numbers, Numbers]:
        """Return the runs found, each once a document, and the documents."""
        offsets, data = text_buffers(text)
        room = _HITS
        while True:
            seen = np.zeros(self.n_runs, np.int32)
            hit_doc, hit_run = np.empty(room, np.int32), np.empty(room, np.int32)
            found = find_runs(self.table, fold_table(), self.sizes, offsets, data, seen, hit_doc, hit_run)
            if found <= room:
                return hit_doc[:found], hit_run[:found]
            room = found


def evaluation_runs(text: pa.Array, words: int = WORDS, min_words: int = MIN_WORDS) -> EvaluationRuns:
    """Index the texts of an evaluation set: their runs of `words` words, or all words of a text of fewer.

    A text with fewer than `min_words` words, and than `words`, has no run. Raises ConfigError for too large a set.
    """
    readings = pa.concat_arrays([text.cast(pa.large_string()), _without_punctuation(text)])
    n_words = np.zeros(len(readings), np.int64)
    table = _entries(*text_buffers(readings), words, min_words, n_words)
    run_of = np.empty(len(table.hashes), np.int32)
    n_runs = enter_runs(table, fold_table(), run_of)
    table = table._replace(first=table.first[:n_runs].copy())
    docs = table.docs % max(1, len(text))
    protected = np.zeros(len(text), np.bool_)
    protected[docs] = True
    sizes = np.unique(table.lengths).astype(np.int64)
    return EvaluationRuns(n_words[: len(text)], protected, sizes, table, *_members(run_of, docs, n_runs))


def _without_punctuation(text: pa.Array) -> pa.Array:
    bare = (_PUNCTUATION.sub("", one or "") for one in text.to_pylist())
    return pa.array(bare, pa.large_string(), size=len(text))


def _entries(offsets: Offsets, data: Bytes, words: int, min_words: int, n_words: Ints) -> RunTable:
    """Return every run of the texts, with room for what tells equal ones; write the words of each text."""
    room = int(offsets[-1] - offsets[0]) // 2 + len(offsets)  # pages that no run reaches are never touched
    none, empty = np.empty(0, np.int32), np.empty(0, np.uint64)
    hashes, starts = np.empty(room, np.uint64), np.empty(room, np.uint64)
    lengths, docs = np.empty(room, np.int32), np.empty(room, np.int32)
    table = RunTable(offsets, data, hashes, starts, lengths, docs, none, none, empty)
    n = list_runs(table, fold_table(), np.int64(words), np.int64(min_words), n_words)
    if n >= MOST_RUNS:
        raise ConfigError(f"the evaluation set has {n:,} runs of words, expected fewer than {MOST_RUNS:,}")
    return RunTable(
        offsets, data, hashes[:n].copy(), starts[:n].copy(), lengths[:n].copy(), docs[:n].copy(),
        first=np.empty(n, np.int32),
        slots=np.zeros(_power_of_two(2 * n), np.int32),
        bloom=np.zeros(_power_of_two(n * _BITS_A_RUN // 64), np.uint64),
    )  # fmt: skip


def _power_of_two(least: int) -> int:
    return 1 << max(6, (least - 1).bit_length())


def _members(run_of: Numbers, docs: Numbers, n_runs: int) -> tuple[Ints, Numbers]:
    """Return where the documents of each run begin, and all of them."""
    n_docs = int(docs.max(initial=0)) + 1
    run, member = np.divmod(np.unique(run_of.astype(np.int64) * n_docs + docs), n_docs)
    return np.searchsorted(run, np.arange(n_runs + 1)).astype(np.int64), member.astype(np.int32)
