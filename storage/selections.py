"""The result of a step on disk: one Parquet file a shard, and a manifest that is published last.

The manifest says how many documents entered and stayed and why the others went, so nobody has to read the rows to know.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .lake import Lake, read_json
from .places import presence
from .schema import SELECTION
from .shards import Shard
from .survivors import Survivors, mask_digest

ROW_BYTES, FILE_BYTES = 40, 4_500
"""Of a document in a selection, and of a file of one beside its rows, as they were measured."""


@dataclass(frozen=True)
class Verdicts:
    """What a step decided about the rows of one shard that entered it, in row order."""

    row: npt.NDArray[np.int64]
    kept: npt.NDArray[np.bool_]
    reason: Any = None
    ref: Any = None
    score: Any = None
    rank: Any = None
    copies: npt.NDArray[np.int32] | None = None
    """How many times each row is chosen; None: once, if it is."""
    cut_group: Any = None
    """Name of the group that each row was cut in: a column more, of selections in rounds alone."""


@dataclass(frozen=True)
class Written:
    """What was published about one shard."""

    shard: str
    entered: int
    kept: int
    bytes_kept: int
    tokens_entered: int
    tokens_kept: int
    reasons: Counter[str]
    digest: str
    """Of the rows that stay."""


def selection_bytes(survivors: Survivors) -> float:
    """Return what the rows of a selection take, about: keys, scores and ids pack badly, all else to nothing."""
    return ROW_BYTES * survivors.n_documents + FILE_BYTES * len(survivors.shards)


@dataclass
class SelectionWriter:
    """Write one selection; `finish` makes it exist.

    Shards can be published in other processes (`publish`), in any order; who finishes has to count them (`add`).
    """

    lake: Lake
    key: str
    step: str
    corpus: str
    entered: int = 0
    kept: int = 0
    bytes_kept: int = 0
    tokens_entered: int = 0
    tokens_kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    digests: dict[str, str] = field(default_factory=dict)

    def write(self, shard: Shard, verdicts: Verdicts, n_tokens: npt.NDArray[np.int64]) -> None:
        """Publish the rows of one shard and count them; `n_tokens` are those of the rows that entered."""
        self.add(self.publish(shard, verdicts, n_tokens))

    def publish(self, shard: Shard, verdicts: Verdicts, n_tokens: npt.NDArray[np.int64]) -> Written:
        """Publish the rows of one shard; return what is to be counted."""
        n = verdicts.row.size
        columns: dict[str, Any] = {
            "selection": _constant(self.key, n),
            "corpus": _constant(self.corpus, n),
            "shard": _constant(shard.digest, n),
            "row": verdicts.row,
            "doc_id": shard.read_column("doc_id").take(pa.array(verdicts.row)),
            "doc_key": shard.read_column("doc_key").take(pa.array(verdicts.row)),
            "n_tokens": n_tokens,
            "kept": verdicts.kept,
            "step": _constant(self.step, n),
            "multiplicity": verdicts.kept.astype(np.int32) if verdicts.copies is None else verdicts.copies,
        }
        for name in ("score", "rank", "reason", "ref"):
            given = getattr(verdicts, name)
            columns[name] = pa.nulls(n, SELECTION.field(name).type) if given is None else given
        arrays = [
            columns[f.name] if isinstance(columns[f.name], pa.Array) else pa.array(columns[f.name], f.type)
            for f in SELECTION
        ]
        table = pa.table([a.cast(f.type) for a, f in zip(arrays, SELECTION, strict=True)], schema=SELECTION)
        if verdicts.cut_group is not None:
            table = table.append_column("cut_group", verdicts.cut_group)
        self.lake.publish_table(self.lake.selection(self.key) / f"{shard.digest}.parquet", table)
        return _counted(shard, verdicts, n_tokens, table.column("reason"))

    def add(self, written: Written) -> None:
        """Count what was published about a shard."""
        self.entered += written.entered
        self.kept += written.kept
        self.tokens_entered += written.tokens_entered
        self.tokens_kept += written.tokens_kept
        self.bytes_kept += written.bytes_kept
        self.reasons.update(written.reasons)
        self.digests[written.shard] = written.digest

    def finish(self, recipe: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Publish the manifest and return it."""
        manifest = {
            "selection": self.key,
            "step": self.step,
            "corpus": self.corpus,
            "entered": self.entered,
            "kept": self.kept,
            "bytes_kept": self.bytes_kept,
            "tokens_entered": self.tokens_entered,
            "tokens_kept": self.tokens_kept,
            "reasons": dict(sorted(self.reasons.items())),
            "shards": self.digests,
            "recipe": dict(recipe),
            **more,
        }
        self.lake.publish_uses(self.lake.selection(self.key))
        self.lake.publish_json(self.lake.selection(self.key) / "manifest.json", manifest)
        return manifest


def _counted(shard: Shard, verdicts: Verdicts, n_tokens: npt.NDArray[np.int64], reasons: Any) -> Written:
    mask = np.zeros(shard.rows, dtype=np.bool_)
    mask[verdicts.row[verdicts.kept]] = True
    return Written(
        shard=shard.digest,
        entered=verdicts.row.size,
        kept=int(verdicts.kept.sum()),
        bytes_kept=int(shard.read_column("n_bytes").to_numpy()[verdicts.row[verdicts.kept]].sum()),
        tokens_entered=int(n_tokens.sum()),
        tokens_kept=int(n_tokens[verdicts.kept].sum()),
        reasons=Counter({found["values"]: found["counts"] for found in reasons.drop_null().value_counts().to_pylist()}),
        digest=mask_digest(shard, mask),
    )


def load_selection(lake: Lake, key: str) -> dict[str, Any] | None:
    """Return the manifest of a selection, or None where it was never finished, or a file of it was removed."""
    path = lake.selection(key) / "manifest.json"
    if not path.exists():
        return None
    found: dict[str, Any] = read_json(path)
    there = presence(path.parent)
    return found if all(there(path.parent / f"{shard}.parquet") for shard in found["shards"]) else None


def _constant(value: str, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), n)
