"""The same number of tokens of each choice, and as many drawn at random.

What a choice is worth depends on its size, so the numbers that compare are made of equally many tokens: of each choice
its best documents, as far as the smallest choice goes. A choice without an order, or made in groups that have each an
order of their own, is thinned at random. Beside them stand draws of as many tokens from the documents that all runs
could choose; where these are too few, from those that any of them could. Only the chosen documents are held in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..selectors.keyed import stream_key, uniform
from ..storage.errors import ConfigError
from .comparison_documents import Documents, Int64s, joined
from .comparison_runs import ComparedRuns
from .comparison_views import ShardView, shard_views

DRAWS = 5
"""Of random documents: their mean is shown, and where another one would lie."""
MARGIN, AT_LEAST = 1.2, 2_000
"""So much more than is needed is drawn at first, and so many documents at least."""
CORPUS_SAMPLED = 100_000
"""Documents of the corpus that stand for it: as many as DSIR's authors take."""

Bools = npt.NDArray[np.bool_]


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
    drawn_from: int
    """Documents that the draws are of."""
    open_to_all: bool
    """Whether all runs could choose these, or only any of them."""


class ChoicesBuilder:
    """Collect the chosen documents, a sample of the corpus, and what there is to draw from."""

    def __init__(self, runs: ComparedRuns) -> None:
        self._kept: dict[str, list[Documents]] = {run.name: [] for run in runs.runs}
        self._ranks: dict[str, list[Int64s]] = {run.name: [] for run in runs.runs}
        self._corpus: list[Documents] = []
        self._share_of_corpus = CORPUS_SAMPLED / max(1, runs.snapshot.counts["documents"])
        self._runs = runs
        self._all, self._any = np.zeros(2, np.int64), np.zeros(2, np.int64)

    def see(self, view: ShardView) -> None:
        """Add a shard."""
        for name, decided in view.decided.items():
            kept = decided.kept & view.live
            self._kept[name].append(view.documents(kept))
            self._ranks[name].append(decided.rank[kept])
        self._corpus.append(view.documents(view.live & sampled(view.doc_key, self._share_of_corpus)))
        for counts, there in ((self._all, view.open_to_all), (self._any, view.open_to_any)):
            counts += int(there.sum()), int(view.n_tokens[there].sum())

    def choices(self) -> Choices:
        """Return them; the draws take another look at the corpus. Raises ConfigError where a choice is gone."""
        whole = {name: joined(parts) for name, parts in self._kept.items()}
        if gone := [name for name, documents in whole.items() if not documents.tokens]:
            raise ConfigError(
                f"nothing that {', '.join(gone)} chose is in {self._runs.snapshot.corpus} as it is now; run it again"
            )
        tokens = min(documents.tokens for documents in whole.values())
        equal, thinned = {}, []
        for name, documents in whole.items():
            ranks = np.concatenate(self._ranks[name])
            if documents.tokens == tokens:
                equal[name] = documents
            elif _one_order(ranks):
                equal[name] = documents.within(tokens, ranks.astype(np.float64))
            else:
                equal[name] = documents.thinned(tokens, "equal")
                thinned.append(name)
        to_all = bool(self._all[1] >= tokens)
        n, there = (self._all if to_all else self._any).tolist()
        share = max(MARGIN * tokens / max(1, there), AT_LEAST / max(1, n))
        draws = _draws(self._runs, share, to_all, tokens)
        return Choices(whole, equal, draws, tokens, tuple(thinned), joined(self._corpus), n, to_all)


def sampled(doc_key: npt.NDArray[np.uint64], share: float) -> Bools:
    """Say which documents are in the sample of the corpus."""
    found: Bools = uniform(doc_key, stream_key(0, "compare", "corpus")) < share
    return found


def _draws(runs: ComparedRuns, share: float, to_all: bool, tokens: int) -> tuple[Documents, ...]:
    found: list[list[Documents]] = [[] for _ in range(DRAWS)]
    for view in shard_views(runs):
        there = view.open_to_all if to_all else view.open_to_any
        for number, parts in enumerate(found):
            parts.append(view.documents(there & (uniform(view.doc_key, _draw_key(number)) < share)))
    return tuple(
        documents.within(tokens, uniform(documents.doc_key, _draw_key(number)))
        for number, documents in enumerate(map(joined, found))
    )


def restricted(choices: Choices, inside: Mapping[int, Bools], corpus: Documents) -> Choices:
    """Return the choices within masks of rows by place of the shard, all thinned to as many tokens as the smallest.

    `corpus` is a sample of the corpus there.
    """

    def cut(documents: Documents) -> Documents:
        if not len(documents):
            return documents
        mask = np.concatenate(
            [inside[place][documents.of_shard(place)] for place in np.unique(documents.shard).tolist()]
        )
        return documents.taken(mask)

    equal = {name: cut(documents) for name, documents in choices.equal.items()}
    tokens = min(documents.tokens for documents in equal.values())
    return replace(
        choices,
        corpus=corpus,
        equal={name: documents.thinned(tokens, "part") for name, documents in equal.items()},
        draws=tuple(cut(documents).thinned(tokens, "part") for documents in choices.draws),
        tokens=tokens,
    )


def _draw_key(number: int) -> int:
    return stream_key(0, "compare", "draw", number)


def _one_order(ranks: Int64s) -> bool:
    return bool((ranks > 0).all()) and len(np.unique(ranks)) == len(ranks)
