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
from .schema import SELECTION
from .shards import Shard
from .survivors import mask_digest


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


@dataclass
class SelectionWriter:
    """Write one selection; `finish` makes it exist."""

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
        """Publish the rows of one shard; `n_tokens` are those of the rows that entered."""
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
        self._count(shard, verdicts, n_tokens, table.column("reason"))

    def _count(self, shard: Shard, verdicts: Verdicts, n_tokens: npt.NDArray[np.int64], reasons: Any) -> None:
        self.entered += verdicts.row.size
        self.kept += int(verdicts.kept.sum())
        self.tokens_entered += int(n_tokens.sum())
        self.tokens_kept += int(n_tokens[verdicts.kept].sum())
        sizes = shard.read_column("n_bytes").to_numpy()
        self.bytes_kept += int(sizes[verdicts.row[verdicts.kept]].sum())
        for entry in reasons.drop_null().value_counts().to_pylist():
            self.reasons[entry["values"]] += entry["counts"]
        mask = np.zeros(shard.rows, dtype=np.bool_)
        mask[verdicts.row[verdicts.kept]] = True
        self.digests[shard.digest] = mask_digest(shard, mask)

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


def load_selection(lake: Lake, key: str) -> dict[str, Any] | None:
    """Return the manifest of a selection, or None where it was never finished, or a file of it was removed."""
    path = lake.selection(key) / "manifest.json"
    if not path.exists():
        return None
    found: dict[str, Any] = read_json(path)
    whole = all((path.parent / f"{shard}.parquet").exists() for shard in found["shards"])
    return found if whole else None


def _constant(value: str, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), n)
