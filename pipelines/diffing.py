"""What a run chose otherwise than the one before: documents, tokens by source, and how the scores moved.

It lies beside the record of the run: `diff.json`, and `diff.parquet` with the documents. A run whose files and choice
are those of the one before has nothing to compare, and nothing is written.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ..storage.diffs import CHANGED, Difference, Side, differing
from ..storage.errors import ConfigError, LakeError
from ..storage.file_changes import file_changes
from ..storage.lake import Lake
from ..storage.selections import load_selection
from ..storage.shards import Shard
from ..storage.snapshots import load_snapshot
from .drift import Scores, drift
from .fit_keys import POOL, STATE
from .runs import RunRecord

DIFF, DOCUMENTS = "diff.json", "diff.parquet"


@dataclass(frozen=True)
class Opened:
    """A finished run, with the manifests of what it chose."""

    record: RunRecord
    side: Side
    manifests: tuple[dict[str, Any], ...]

    @property
    def shards(self) -> dict[str, Shard]:
        """The shards of its corpus, by digest."""
        return {shard.digest: shard for shard in self.side.snapshot.shards}


def open_run(lake: Lake, record: RunRecord) -> Opened:
    """Return a finished run. Raises LakeError where the lake has not all of it any more."""
    manifests = []
    for step in record.steps:
        manifest = load_selection(lake, step["selection"])
        if manifest is None:
            raise LakeError(f"what step {step['name']!r} of run {record.run} chose is not whole in the lake any more")
        manifests.append(manifest)
    selections = tuple(step["selection"] for step in record.steps)
    side = Side(load_snapshot(lake, record.corpus, record.snapshot), selections, manifests[-1]["shards"])
    return Opened(record, side, tuple(manifests))


def is_same(before: RunRecord, now: RunRecord) -> bool:
    """Say whether two runs chose the same documents of the same files, whatever steps came before the last."""
    one, other = ((run.corpus, run.snapshot, run.steps[-1]["selection"]) for run in (before, now))
    return bool(one == other)


def compute_diff(
    lake: Lake, before: RunRecord, now: RunRecord, write: Callable[[Difference], None] | None = None
) -> dict[str, Any]:
    """Return in what two runs over one corpus differ; `write` is given the documents.

    Raises ConfigError for runs over different corpora, LakeError where something of them is gone.
    """
    if before.corpus != now.corpus:
        raise ConfigError(
            f"run {before.run} is over {before.corpus!r}, {now.run} over {now.corpus!r}; name two over one corpus"
        )
    then, there = open_run(lake, before), open_run(lake, now)
    with differing(lake, then.side, there.side) as found:
        counts = found.counts()
        if write is not None:
            write(found)
        scores = list(_scores(lake, then, there, found))
        return {
            "run": now.run, "flow": now.flow, "previous": before.run, "previous_flow": before.flow,
            "corpus": now.corpus, "unchanged": is_same(before, now),
            "same_tokenizer": before.tokens_key == now.tokens_key,
            "corpus_documents": _numbers(then, there, "documents") | found.corpus_counts(),
            **_chosen(then, there, counts), "sources": _sources(lake, then, there, found.same), "scores": scores,
            "files": file_changes(then.side.snapshot, there.side.snapshot),
        }  # fmt: skip


def _numbers(then: Opened, there: Opened, name: str) -> dict[str, int]:
    return {"then": then.side.snapshot.counts[name], "now": there.side.snapshot.counts[name]}


def _chosen(then: Opened, there: Opened, counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, Any]:
    """Return what came in, went out and stayed, in documents and tokens."""
    found = {}
    for name, of_all in (("documents", "kept"), ("tokens", "tokens_kept")):
        moved = {change: {why: n[name] for why, n in whys.items()} for change, whys in counts.items()}
        before, now = then.manifests[-1][of_all], there.manifests[-1][of_all]
        found[name] = {
            "then": before, "now": now, "kept": now - sum(moved["in"].values()), "in": moved["in"], "out": moved["out"],
            "changed": moved["changed"][CHANGED],
        }  # fmt: skip
    return found


def _sources(lake: Lake, then: Opened, there: Opened, same: set[str]) -> list[dict[str, Any]]:
    """Return what was chosen of each source; shards of which both chose the same are read once."""
    sides = [_by_source(lake, run, run.shards.keys() - same) for run in (then, there)]
    both = _by_source(lake, there, same)
    rows = []
    for source in sorted({*sides[0], *sides[1], *both}, key=lambda name: (name is not None, name)):
        shared = both.get(source, (0, 0))
        (n_then, tokens_then), (n_now, tokens_now) = (
            tuple(a + b for a, b in zip(side.get(source, (0, 0)), shared, strict=True)) for side in sides
        )
        rows.append({"source": source, "documents_then": n_then, "documents_now": n_now, "tokens_then": tokens_then,
                     "tokens_now": tokens_now})  # fmt: skip
    return rows


def _by_source(lake: Lake, run: Opened, wanted: Iterable[str]) -> dict[str | None, tuple[int, int]]:
    found: dict[str | None, tuple[int, int]] = {}
    for digest in sorted(set(wanted) & run.side.kept.keys()):
        table = lake.table(lake.selection(run.side.selections[-1]) / f"{digest}.parquet", ["row", "n_tokens", "kept"])
        table = table.filter(table.column("kept"))
        table = table.append_column("source", run.shards[digest].read_column("source").take(table.column("row")))
        grouped = table.group_by("source").aggregate([("n_tokens", "count"), ("n_tokens", "sum")])
        for row in grouped.to_pylist():
            n, tokens = found.get(row["source"], (0, 0))
            found[row["source"]] = (n + row["n_tokens_count"], tokens + row["n_tokens_sum"])
    return found


def _scores(lake: Lake, then: Opened, there: Opened, found: Difference) -> Iterator[dict[str, Any]]:
    """Yield the drift of every step of the later run that scored, and had a namesake that did."""
    earlier = {step["name"]: at for at, step in enumerate(then.record.steps)}
    for at, step in enumerate(there.record.steps):
        other = earlier.get(step["name"])
        if other is None or not all("scored" in m for m in (there.manifests[at], then.manifests[other])):
            continue
        moved = drift(partial(_stream, lake, then, other, None), partial(_stream, lake, there, at, found))
        yield {"step": step["name"], "comparable": _made_by(then.manifests[other]) == _made_by(there.manifests[at]),
               **moved}  # fmt: skip


def _made_by(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the scores of a step are made by, but for the pool."""
    return {name: value for name, value in manifest["scored"].items() if name not in (POOL, STATE)}


def _stream(lake: Lake, run: Opened, step: int, found: Difference | None) -> Iterator[Scores]:
    for digest in run.manifests[step]["shards"]:
        path = lake.selection(run.side.selections[step]) / f"{digest}.parquet"
        table = lake.table(path, ["row", "doc_key", "score"])
        table = table.filter(pc.is_valid(table.column("score")))
        rows = table.column("row").to_numpy()
        fresh = np.isin(rows, found.fresh(digest)) if found else np.zeros(len(rows), np.bool_)
        yield Scores(table.column("doc_key").to_numpy(), table.column("score").to_numpy(), fresh)
