"""The last stage of a flow: write what is left, in every form that is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .. import __version__
from ..storage.cards import selection_card
from ..storage.export import written_mixture
from ..storage.fingerprint import fingerprint
from ..storage.schema import DOCUMENT
from ..storage.selections import load_selection
from ..storage.shards import ROW_GROUP_BYTES, Shard
from ..storage.sorting import evenly
from ..storage.survivors import Survivors
from .forms import Counted, form_of
from .measuring import tokens_of
from .outputs import Output
from .runs import RunRecord, Stage
from .work import Work

Item = tuple[Shard, int]
"""A row group."""


@dataclass(frozen=True)
class Chosen:
    """What a run chose."""

    name: str
    """Of the mixture."""
    run: RunRecord
    survivors: Survivors
    selection: str
    """Key of its last step."""


def export(work: Work, chosen: Chosen, outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """Write every output that is not there yet under the name of the mixture; return the manifests."""
    return [work.stage(f"export {output.format}", partial(_export, work, chosen, output)) for output in outputs]


def _export(work: Work, chosen: Chosen, output: Output, stage: Stage) -> dict[str, Any]:
    run, survivors = chosen.run, chosen.survivors
    stated = (load_selection(work.lake, chosen.selection) or {}).get("rounds") or {}
    form = form_of(work, output, rounds=stated if "shuffles" in stated else None)  # those of rs2, not of `refine`
    key = fingerprint({"selection": chosen.selection, **form.recipe})
    folder = work.lake.mixture(chosen.name, key)
    if found := written_mixture(folder):
        stage.reused = 1
        return found
    stage.computed = 1
    about = {
        "mixture": chosen.name, "key": key, "format": output.format, "run": run.run, "tamis": __version__,
        "corpus": survivors.corpus, "snapshot": run.snapshot, "selection": chosen.selection, "seed": work.config.seed,
        "tokenizer": work.config.tokenizer,
    }  # fmt: skip
    items = _items(survivors)
    documents = _Reader(work, chosen, form.columns)
    limit = output.shard_bytes if form.sharded else ROW_GROUP_BYTES

    def counted(item: Item) -> list[Counted]:
        return [form.counted(part) for part in evenly([documents.read(item)], _sizes, limit)]

    pieces = chain.from_iterable(work.map(f"export {output.format}", counted, list(items), items.__getitem__))
    recipe = {"steps": run.steps, "config": work.config.model_dump(mode="json")}
    manifest, composition = form.publish(folder, pieces, about, recipe)
    page = selection_card(manifest, run.steps, run.alarms, composition.sources.rows(), composition.licences)
    work.lake.publish_bytes(folder / "card.md", page.encode())
    work.lake.publish_json(folder / "manifest.json", manifest)
    return manifest


class _Reader:
    """Chosen documents by row group."""

    def __init__(self, work: Work, chosen: Chosen, columns: tuple[str, ...]) -> None:
        self._work, self._chosen, self._columns = work, chosen, columns
        self._decided = tuple(name for name in ("score", "cut_group") if name in columns)
        self._decisions = lru_cache(2)(self._of_shard)

    def read(self, item: Item) -> pa.Table:
        """Return the chosen documents of a row group, in row order, in these columns of CHOSEN."""
        survivors, (shard, group) = self._chosen.survivors, item
        start, n = shard.row_groups[group]
        inside = np.flatnonzero(survivors.mask(shard)[start : start + n])
        rows = inside + start
        batch = shard.read_group(group, [c for c in self._columns if c in DOCUMENT.names]).take(pa.array(inside))
        found: dict[str, Any] = {name: batch.column(name) for name in batch.schema.names}
        found |= {"corpus": pa.repeat(survivors.corpus, len(rows)), "shard": pa.repeat(shard.digest, len(rows))}
        found["row"] = rows
        if "n_tokens" in self._columns:
            found["n_tokens"] = tokens_of(self._work, shard, rows)
        decisions = self._decisions(shard).take(pa.array(rows))
        found |= {name: decisions.column(name) for name in decisions.column_names}
        return pa.table({name: found[name] for name in self._columns})

    def _of_shard(self, shard: Shard) -> pa.Table:
        """Return what the last step says of every row of a shard, null where it says nothing."""
        lake = self._work.lake
        path = lake.selection(self._chosen.selection) / f"{shard.digest}.parquet"
        table = lake.table(path, ["row", *self._decided])
        place = np.full(shard.rows, -1, dtype=np.int64)
        place[table.column("row").to_numpy()] = np.arange(table.num_rows)
        return table.drop_columns("row").take(pa.array(place, mask=place < 0))


def _sizes(documents: pa.Table) -> npt.NDArray[np.int64]:
    return np.asarray(documents.column("n_bytes"), np.int64)


def _items(survivors: Survivors) -> dict[Item, int]:
    """Return the row groups that have chosen documents, and how many."""
    found = {}
    for shard in survivors.shards:
        mask = survivors.mask(shard)
        for group, (start, n) in enumerate(shard.row_groups):
            if count := int(np.count_nonzero(mask[start : start + n])):
                found[shard, group] = count
    return found
