"""A corpus as its choices are compared: shard by shard, with what each run said of every document."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from ..storage.errors import LakeError
from ..storage.feature_store import read_values
from ..storage.shards import Shard
from .comparison_documents import Documents, Float64s, Int64s
from .comparison_runs import ComparedRun, ComparedRuns
from .plugins import make_tokens

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Decided:
    """What a run says of a shard's documents, as columns as long as the shard."""

    entered: Bools
    """Whether the step that chose by a budget or score saw it; where there is no such step: all."""
    kept: Bools
    """Whether it was there in the end."""
    score: Float64s
    """NaN: none."""
    rank: Int64s
    """0: none."""


@dataclass(frozen=True)
class ShardView:
    """A shard as the comparison sees it."""

    place: int
    shard: Shard
    live: Bools
    doc_key: npt.NDArray[np.uint64]
    n_tokens: Int64s
    """0 where a row is no document any more."""
    decided: Mapping[str, Decided]

    def documents(self, mask: Bools) -> Documents:
        """Return the documents of a mask."""
        row = np.flatnonzero(mask)
        return Documents(
            np.full(len(row), self.place, np.int32), row.astype(np.int64), self.doc_key[row], self.n_tokens[row]
        )

    @property
    def open_to_all(self) -> Bools:
        """Which documents every run could choose."""
        return reduce(np.logical_and, (d.entered for d in self.decided.values()), self.live)

    @property
    def open_to_any(self) -> Bools:
        """Which documents at least one run could choose."""
        nobody = np.zeros_like(self.live)
        return self.live & reduce(np.logical_or, (d.entered for d in self.decided.values()), nobody)


def shard_views(runs: ComparedRuns) -> Iterator[ShardView]:
    """Go through the corpus. Raises LakeError where the lake lacks its tokens."""
    last = runs.newest
    tokens = make_tokens(last.opened.config.tokenizer, last.opened.root)
    for place, shard in enumerate(runs.snapshot.shards):
        live = runs.snapshot.mask(shard)
        n_tokens = np.zeros(shard.rows, np.int64)
        rows = np.flatnonzero(live)
        try:
            counted = read_values(runs.lake, last.record.tokens_key, shard, rows, tokens.columns)
        except LookupError:
            raise LakeError(
                f"the tokens that run {last.record.run} counted are not in the lake any more; "
                f"`tamis run {last.record.flow}` counts them again"
            ) from None
        n_tokens[rows] = counted.column(0).to_numpy()
        keys = shard.read_column("doc_key").to_numpy()
        yield ShardView(place, shard, live, keys, n_tokens, {run.name: decided(runs, run, shard) for run in runs.runs})


def decided(runs: ComparedRuns, run: ComparedRun, shard: Shard) -> Decided:
    """Return what a run says of the documents of a shard."""
    entered, kept = np.ones(shard.rows, np.bool_), np.zeros(shard.rows, np.bool_)
    score, rank = np.full(shard.rows, np.nan), np.zeros(shard.rows, np.int64)
    if run.judge is not None:
        entered[:] = False
        path = runs.lake.selection(run.judge["selection"]) / f"{shard.digest}.parquet"
        if path.exists():
            table = runs.lake.table(path, ["row", "score", "rank"])
            row = table.column("row").to_numpy()
            entered[row] = True
            rank[row] = table.column("rank").fill_null(0).to_numpy()
            if run.has_one_score:
                score[row] = table.column("score").to_numpy()
    path = runs.lake.selection(run.selection) / f"{shard.digest}.parquet"
    if path.exists():
        table = runs.lake.table(path, ["row", "kept"])
        kept[table.column("row").to_numpy()] = table.column("kept").to_numpy()
    return Decided(entered, kept, score, rank)
