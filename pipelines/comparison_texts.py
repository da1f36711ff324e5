"""Read the texts of the compared documents once, and let everything that is measured on them look at each.

The documents of a choice lie all over the corpus, so nearly every row group has some. Of a corpus larger than 2 GB a
keyed part of the row groups is read, and all choices are thinned to what is in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..selectors.keyed import stream_key
from ..storage.shards import Shard
from ..storage.snapshots import Snapshot, load_snapshot
from ..storage.survivors import Survivors
from .comparison_documents import Choices, Documents, restricted
from .comparison_runs import RANDOM, ComparedRun, ComparedRuns
from .ingesting import target_corpus, visible_target
from .work import Work

READ_AT_MOST = 2 << 30
"""Bytes of text."""
CORPUS = ""
"""The group of the documents that stand for the corpus."""

Bools = npt.NDArray[np.bool_]


Counter = Callable[[pa.RecordBatch, Bools], None]
"""Looks at documents (`text`, `text_hash`, `place`) that are members of groups (groups, documents), in any order of row
groups and several at a time. The corpus is the last group."""


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
    if whole <= READ_AT_MOST:
        return choices, 1.0
    groups = [(place, start, n, shard) for place, shard in enumerate(shards) for start, n in shard.row_groups]
    keys = [stream_key(0, "compare", f"{shard.digest}/{start}") for _, start, _, shard in groups]
    inside = {place: np.zeros(shard.rows, np.bool_) for place, shard in enumerate(shards)}
    read = 0.0
    for number in np.argsort(np.array(keys, np.uint64)).tolist():
        place, start, n, shard = groups[number]
        if read >= READ_AT_MOST:
            break
        inside[place][start : start + n] = True
        read += shard.n_bytes * n / max(1, shard.rows)
    return restricted(choices, inside), read / whole


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
            batch = shards[place].read_group(group, ["text", "text_hash"]).take(pa.array(wanted))
            batch = batch.append_column("place", pa.array((np.int64(place) << 40) | (start + wanted)))
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
    """Return the targets that the runs chose by or were decontaminated of, in the newest of their states."""
    found: dict[str, tuple[ComparedRun, Snapshot]] = {}
    for run in runs.runs:
        for name, about in run.record.targets.items():
            if name not in found or run.record.run > found[name][0].record.run:
                found[name] = run, load_snapshot(runs.lake, target_corpus(name), about["snapshot"])
    return [_target(name, run, snapshot) for name, (run, snapshot) in found.items()]


def _target(name: str, run: ComparedRun, snapshot: Snapshot) -> TargetTexts:
    visible = visible_target(snapshot, run.opened.config.targets[name], name)
    hidden = Survivors.of(snapshot).narrowed(lambda shard: ~visible.mask(shard))
    return TargetTexts(name, snapshot, hidden, _texts(visible), _texts(hidden))


def _texts(survivors: Survivors) -> pa.Array:
    parts = [shard.read_column("text").filter(pa.array(survivors.mask(shard))) for shard in survivors.shards]
    return pa.chunked_array(parts, pa.large_string()).combine_chunks()
