"""Read the texts of the compared documents once, and let everything that is measured on them look at each.

The documents of a choice lie all over the corpus, so nearly every row group has some. Of a corpus larger than 2 GB a
keyed part of the row groups is read, and all choices are thinned to what is in it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..selectors.keyed import stream_key
from ..storage.lake import Lake
from ..storage.shards import Shard
from ..storage.snapshots import Snapshot, load_snapshot
from ..storage.survivors import Survivors
from .comparison_choices import CORPUS_SAMPLED, Choices, restricted, sampled
from .comparison_documents import PLACE_BITS, Documents, joined
from .comparison_runs import RANDOM, ComparedRun, ComparedRuns
from .ingesting import target_corpus, visible_target
from .work import Work

READ_FIRST, READ_AT_MOST = 2 << 30, 32 << 30
"""Bytes of text in the row groups that are read: at first, and where a choice has too little in these."""
ENOUGH_TOKENS = 3_000_000
"""Of the smallest choice."""
CORPUS = ""
"""The group of the documents that stand for the corpus."""

Bools = npt.NDArray[np.bool_]


Counter = Callable[[pa.RecordBatch, Bools], None]
"""Looks at documents (`text`, `text_hash`, `doc_key`, `place`) that are members of groups (groups, documents), in any
order of row groups and several at a time. The corpus is the last group."""


@dataclass(frozen=True)
class Groups:
    """The sets of documents that are measured side by side, by name: each choice, each draw, the corpus."""

    documents: Mapping[str, Documents]
    draws: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Names in the order of the rows of a membership."""
        return list(self.documents)

    @classmethod
    def of(cls, choices: Choices) -> "Groups":
        """Return the sets with equally many tokens, and the sample of the corpus."""
        draws = {f"{RANDOM} {i}": documents for i, documents in enumerate(choices.draws)}
        return cls({**choices.equal, **draws, CORPUS: choices.corpus}, tuple(draws))


def readable(runs: ComparedRuns, choices: Choices) -> tuple[Choices, float]:
    """Return the choices within the part of the corpus whose texts are read, and the share of its bytes."""
    shards = runs.snapshot.shards
    whole = sum(shard.n_bytes for shard in shards)
    if whole <= READ_FIRST:
        return choices, 1.0
    groups = [(place, start, n, shard) for place, shard in enumerate(shards) for start, n in shard.row_groups]
    sizes = np.array([shard.n_bytes * n / max(1, shard.rows) for _, _, n, shard in groups])
    keys = [stream_key(0, "compare", f"{shard.digest}/{start}") for _, start, _, shard in groups]
    order = np.argsort(np.array(keys, np.uint64))
    read = np.cumsum(sizes[order])
    begins = np.array([place << PLACE_BITS | start for place, start, _, _ in groups], np.int64)
    tokens = [np.cumsum(_tokens_by_group(d, begins)[order]) for d in choices.equal.values()]
    enough = (read >= READ_FIRST) & (np.min(tokens, axis=0) >= ENOUGH_TOKENS) | (read >= READ_AT_MOST)
    n_read = int(np.argmax(enough)) + 1 if enough.any() else len(groups)
    inside = {place: np.zeros(shard.rows, np.bool_) for place, shard in enumerate(shards)}
    for number in order[:n_read].tolist():
        place, start, n, _ = groups[number]
        inside[place][start : start + n] = True
    share = float(read[n_read - 1] / whole)
    return restricted(choices, inside, _corpus_within(runs, inside, share)), share


def _tokens_by_group(documents: Documents, begins: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    group = np.searchsorted(begins, documents.places, "right") - 1
    tokens: npt.NDArray[np.float64] = np.bincount(group, documents.n_tokens, len(begins)).astype(np.float64)
    return tokens


def _corpus_within(runs: ComparedRuns, inside: Mapping[int, Bools], share: float) -> Documents:
    """Return a sample of the corpus from these rows, as large as one of the whole would be."""
    found = []
    wanted = CORPUS_SAMPLED / max(1.0, share * runs.snapshot.counts["documents"])
    for place, shard in enumerate(runs.snapshot.shards):
        if inside[place].any():
            keys = shard.read_column("doc_key").to_numpy()
            row = np.flatnonzero(inside[place] & runs.snapshot.mask(shard) & sampled(keys, wanted)).astype(np.int64)
            nothing = np.zeros(len(row), np.int64)  # nobody asks for the tokens of the corpus
            found.append(Documents(np.full(len(row), place, np.int32), row, keys[row], nothing))
    return joined(found)


def read_texts(work: Work, shards: Sequence[Shard], groups: Groups, counters: Sequence[Counter]) -> None:
    """Show every document of the groups to every counter."""
    rows = {
        (name, place): documents.of_shard(place)
        for name, documents in groups.documents.items()
        for place in range(len(shards))
    }
    items = [(place, group) for place, shard in enumerate(shards) for group in range(len(shard.row_groups))]

    def read(item: tuple[int, int]) -> None:
        place, group = item
        start, n = shards[place].row_groups[group]
        member = np.zeros((len(groups.names), n), np.bool_)
        for inside, name in zip(member, groups.names, strict=True):
            mine = rows[name, place]
            inside[mine[slice(*np.searchsorted(mine, [start, start + n]))] - start] = True
        wanted = np.flatnonzero(member.any(axis=0))
        if wanted.size:
            batch = shards[place].read_group(group, ["text", "text_hash", "doc_key"]).take(pa.array(wanted))
            batch = batch.append_column("place", pa.array((np.int64(place) << PLACE_BITS) | (start + wanted)))
            for counter in counters:
                counter(batch, member[:, wanted])

    for _ in work.map("read texts", read, items, lambda item: shards[item[0]].row_groups[item[1]][1]):
        pass


@dataclass(frozen=True)
class TargetTexts:
    """The documents of a target: those that selectors may see, and those that none has seen."""

    name: str
    snapshot: Snapshot
    unseen_rows: Survivors
    seen: pa.Array
    unseen: pa.Array

    def parts(self) -> Iterator[tuple[str, pa.Array]]:
        """Yield the parts that have documents."""
        yield from ((name, text) for name, text in (("unseen", self.unseen), ("seen", self.seen)) if len(text))


def target_texts(runs: ComparedRuns) -> list[TargetTexts]:
    """Return the targets that the runs chose by or were decontaminated of, in the newest of their states.

    Unseen is what no run could see: a text that one of them held out and another did not is seen.
    """
    found: dict[str, list[ComparedRun]] = defaultdict(list)
    for run in runs.runs:
        for name in run.record.targets:
            found[name].append(run)
    return [_target(runs.lake, name, some) for name, some in found.items()]


def _target(lake: Lake, name: str, some: Sequence[ComparedRun]) -> TargetTexts:
    newest = max(some, key=lambda run: run.record.run)
    snapshot = load_snapshot(lake, target_corpus(name), newest.record.targets[name]["snapshot"])
    sees_most = min((run.opened.config.targets[name] for run in some), key=lambda entry: entry.holdout)
    visible = visible_target(snapshot, sees_most, name)  # what is held out is keyed by text, so less is part of more
    hidden = Survivors.of(snapshot).narrowed(lambda shard: ~visible.mask(shard))
    return TargetTexts(name, snapshot, hidden, _texts(visible), _texts(hidden))


def _texts(survivors: Survivors) -> pa.Array:
    parts = [shard.read_column("text").filter(pa.array(survivors.mask(shard))) for shard in survivors.shards]
    return pa.chunked_array(parts, pa.large_string()).combine_chunks()
