"""The documents of each choice, the same number of tokens of all, and as many drawn at random.

What a choice is worth depends on its size, so the numbers that compare are made of equally many tokens: of each choice
its best documents, as far as the smallest choice goes. A choice without an order, or made in groups that have each an
order of their own, is thinned at random. Beside them stand draws of as many tokens from the documents that all of the
deciding steps saw. Only the chosen documents are held in memory, some 30 bytes each; the corpus goes by in shards.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from ..selectors.keyed import stream_key, uniform
from ..storage.feature_store import read_values
from ..storage.shards import Shard
from .comparison_runs import ComparedRun, ComparedRuns
from .plugins import make_tokens

DRAWS = 5
"""Of random documents: their mean is shown, and where another one would lie."""
SKIPPED_AT_MOST = 32
CORPUS_SAMPLED = 100_000
"""Documents of the corpus that stand for it: as many as DSIR's authors take."""
MARGIN, AT_LEAST = 1.2, 2_000
"""So much more than is needed is drawn at first, and so many documents at least."""

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Documents:
    """Documents of a corpus: places of shards, rows, keys and tokens, one each, in corpus order."""

    shard: npt.NDArray[np.int32]
    row: Int64s
    doc_key: npt.NDArray[np.uint64]
    n_tokens: Int64s

    def __len__(self) -> int:
        return len(self.row)

    @property
    def tokens(self) -> int:
        """Tokens of all."""
        return int(self.n_tokens.sum())

    @property
    def places(self) -> Int64s:
        """A number a document, ascending, the same in every set: 2^40 rows a shard are enough."""
        return (self.shard.astype(np.int64) << 40) | self.row

    def taken(self, which: npt.NDArray[Any]) -> "Documents":
        """Return some of them: by a mask, or by their numbers, which are put in order."""
        which = np.sort(which) if which.dtype != np.bool_ else which
        return Documents(self.shard[which], self.row[which], self.doc_key[which], self.n_tokens[which])

    def within(self, tokens: int, order: Float64s) -> "Documents":
        """Return the first ones by `order`, the smallest first, that have together no more than `tokens`.

        One that does not fit is skipped, unlike in a cut: equal sizes matter more here than the order of the last ones.
        """
        left, taken = np.lexsort((self.doc_key, order)), []
        for _ in range(SKIPPED_AT_MOST):
            fits = int(np.searchsorted(np.cumsum(self.n_tokens[left]), tokens, "right"))
            taken.append(left[:fits])
            tokens -= int(self.n_tokens[left[:fits]].sum())
            left = left[fits + 1 :]
            left = left[self.n_tokens[left] <= tokens]
        return self.taken(np.concatenate(taken))

    def thinned(self, tokens: int, purpose: str) -> "Documents":
        """Return a random part of no more than `tokens`."""
        return self.within(tokens, uniform(self.doc_key, stream_key(0, "compare", purpose)))

    def of_shard(self, place: int) -> Int64s:
        """Return the rows of a shard."""
        start, end = np.searchsorted(self.shard, [place, place + 1]).tolist()
        return self.row[start:end]


NOTHING = Documents(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int64))


def joined(parts: list[Documents]) -> Documents:
    """Return documents of ascending shards as one set."""
    parts = [NOTHING, *parts]
    return Documents(
        np.concatenate([p.shard for p in parts]), np.concatenate([p.row for p in parts]),
        np.concatenate([p.doc_key for p in parts]), np.concatenate([p.n_tokens for p in parts]),
    )  # fmt: skip


@dataclass(frozen=True)
class Decided:
    """What a run's deciding step says of a shard's documents, as columns as long as the shard."""

    entered: npt.NDArray[np.bool_]
    kept: npt.NDArray[np.bool_]
    score: Float64s
    """NaN: none."""
    rank: Int64s
    """0: none."""


@dataclass(frozen=True)
class ShardView:
    """A shard as the comparison sees it."""

    place: int
    shard: Shard
    live: npt.NDArray[np.bool_]
    doc_key: npt.NDArray[np.uint64]
    n_tokens: Int64s
    """0 where a row is no document any more."""
    decided: Mapping[str, Decided]

    def documents(self, mask: npt.NDArray[np.bool_]) -> Documents:
        """Return the documents of a mask."""
        row = np.flatnonzero(mask)
        return Documents(
            np.full(len(row), self.place, np.int32), row.astype(np.int64), self.doc_key[row], self.n_tokens[row]
        )

    @property
    def open_to_all(self) -> npt.NDArray[np.bool_]:
        """Which documents every deciding step saw."""
        return reduce(np.logical_and, (d.entered for d in self.decided.values()), self.live)


def shard_views(runs: ComparedRuns) -> Iterator[ShardView]:
    """Go through the corpus."""
    last = runs.newest
    tokens = make_tokens(last.opened.config.tokenizer, last.opened.root)
    for place, shard in enumerate(runs.snapshot.shards):
        live = runs.snapshot.mask(shard)
        n_tokens = np.zeros(shard.rows, np.int64)
        rows = np.flatnonzero(live)
        counted = read_values(runs.lake, last.record.tokens_key, shard, rows, tokens.columns)
        n_tokens[rows] = counted.column(0).to_numpy()
        decided = {run.name: _decided(runs, run, shard) for run in runs.runs}
        keys = shard.read_column("doc_key").to_numpy()
        yield ShardView(place, shard, live, keys, n_tokens, decided)


def _decided(runs: ComparedRuns, run: ComparedRun, shard: Shard) -> Decided:
    entered, kept = np.zeros(shard.rows, np.bool_), np.zeros(shard.rows, np.bool_)
    score, rank = np.full(shard.rows, np.nan), np.zeros(shard.rows, np.int64)
    path = runs.lake.selection(run.selection) / f"{shard.digest}.parquet"
    if path.exists():
        table = runs.lake.table(path, ["row", "kept", "score", "rank"])
        row = table.column("row").to_numpy()
        entered[row], kept[row] = True, table.column("kept").to_numpy()
        score[row] = table.column("score").to_numpy()
        rank[row] = table.column("rank").fill_null(0).to_numpy()
    return Decided(entered, kept, score, rank)


@dataclass(frozen=True)
class Choices:
    """The documents of every choice, whole and in the same number of tokens, and the draws beside them."""

    whole: Mapping[str, Documents]
    equal: Mapping[str, Documents]
    draws: tuple[Documents, ...]
    tokens: int
    """That those of `equal` and `draws` have, to within a document."""
    thinned: tuple[str, ...]
    """Choices without one order, which were thinned at random."""
    corpus: Documents
    """A random sample of the whole corpus."""
    open_to_all: int
    """Documents that the draws are of."""


class ChoicesBuilder:
    """Collect the chosen documents, and candidates for the draws."""

    def __init__(self, runs: ComparedRuns) -> None:
        self._runs = runs
        self._kept: dict[str, list[Documents]] = {run.name: [] for run in runs.runs}
        self._ranks: dict[str, list[Int64s]] = {run.name: [] for run in runs.runs}
        wanted = min((run.step["tokens_kept"] for run in runs.runs), default=0)
        entered = min((run.step["tokens_entered"] for run in runs.runs), default=0)
        documents = min((run.step["entered"] for run in runs.runs), default=0)
        self._share = max(MARGIN * wanted / max(1, entered), AT_LEAST / max(1, documents))
        self._drawn: list[list[Documents]] = [[] for _ in range(DRAWS)]
        self._corpus: list[Documents] = []
        self._share_of_corpus = CORPUS_SAMPLED / max(1, runs.snapshot.counts["documents"])
        self._open = 0

    def see(self, view: ShardView) -> None:
        """Add a shard."""
        for name, decided in view.decided.items():
            kept = decided.kept & view.live
            self._kept[name].append(view.documents(kept))
            self._ranks[name].append(decided.rank[kept])
        sampled = uniform(view.doc_key, stream_key(0, "compare", "corpus")) < self._share_of_corpus
        self._corpus.append(view.documents(view.live & sampled))
        there = view.open_to_all
        self._open += int(there.sum())
        for number, drawn in enumerate(self._drawn):
            u = uniform(view.doc_key, _draw_key(number))
            drawn.append(view.documents(there & (u < self._share)))

    def choices(self) -> Choices:
        """Return them."""
        whole = {name: joined(parts) for name, parts in self._kept.items()}
        tokens = min((documents.tokens for documents in whole.values()), default=0)
        equal, thinned = {}, []
        for name, documents in whole.items():
            ranks = np.concatenate(self._ranks[name]) if self._ranks[name] else np.empty(0, np.int64)
            if documents.tokens == tokens:
                equal[name] = documents
            elif _one_order(ranks):
                equal[name] = documents.within(tokens, ranks.astype(np.float64))
            else:
                equal[name] = documents.thinned(tokens, "equal")
                thinned.append(name)
        drawn = (joined(parts) for parts in self._drawn)
        draws = tuple(d.within(tokens, uniform(d.doc_key, _draw_key(i))) for i, d in enumerate(drawn))
        return Choices(whole, equal, draws, tokens, tuple(thinned), joined(self._corpus), self._open)


def restricted(choices: Choices, inside: Mapping[int, npt.NDArray[np.bool_]]) -> Choices:
    """Return the choices within masks of rows by place of the shard, all thinned to as many tokens as the smallest."""

    def cut(documents: Documents) -> Documents:
        if not len(documents):
            return documents
        mask = np.concatenate(
            [inside[place][documents.of_shard(place)] for place in np.unique(documents.shard).tolist()]
        )
        return documents.taken(mask)

    equal = {name: cut(documents) for name, documents in choices.equal.items()}
    draws = tuple(map(cut, choices.draws))
    tokens = min((d.tokens for d in (*equal.values(), *draws)), default=0)
    return replace(
        choices,
        corpus=cut(choices.corpus),
        equal={name: documents.thinned(tokens, "part") for name, documents in equal.items()},
        draws=tuple(documents.thinned(tokens, "part") for documents in draws),
        tokens=tokens,
    )


def _draw_key(number: int) -> int:
    return stream_key(0, "compare", "draw", number)


def _one_order(ranks: Int64s) -> bool:
    return bool((ranks > 0).all()) and len(np.unique(ranks)) == len(ranks)
