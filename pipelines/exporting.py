"""The last stage of a flow: write what is left, in every form that is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from .. import __version__
from ..storage.cards import selection_card
from ..storage.export import written, written_mixture
from ..storage.fingerprint import fingerprint
from ..storage.schema import DOCUMENT
from ..storage.selections import load_selection
from ..storage.shards import ROW_GROUP_BYTES, Shard
from ..storage.sorting import even_cuts
from ..storage.survivors import Survivors
from .composition import Composition
from .forms import Counted, Form, form_of
from .measuring import tokens_of
from .outputs import Output
from .room import left_to_write
from .runs import RunRecord, Stage
from .work import Work


class Item(NamedTuple):
    """Chosen documents of a row group, by their numbers among these."""

    shard: Shard
    group: int
    start: int
    stop: int


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
    work.expect(stage, *left_to_write(form.room(survivors.n_bytes), folder))
    documents = _Reader(work, chosen, form.columns)

    def counted(item: Item) -> Counted:
        return form.counted(documents.read(item))

    sink = form.sink(about | {"steps": run.steps, "config": work.config.model_dump(mode="json")})
    files, composition = list[dict[str, Any]](), Composition()
    publish = partial(form.publish_shard, folder, sink)
    name, shards = f"export {output.format}", _shards(survivors, form)
    for entries, inside in work.together(name, counted, shards, publish, lambda item: item.stop - item.start):
        files += entries
        composition.update(inside)
    manifest = form.described(folder, about, written(files), composition)
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
        """Return the chosen documents, in row order, in these columns of CHOSEN."""
        survivors, (shard, group, *stretch) = self._chosen.survivors, item
        start, n = shard.row_groups[group]
        inside = np.flatnonzero(survivors.mask(shard)[start : start + n])[slice(*stretch)]
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


def _shards(survivors: Survivors, form: Form) -> list[tuple[int, list[Item]]]:
    """Return what each shard of the mixture consists of: documents in their order, as many as there is room for."""
    limit = form.output.shard_bytes if form.sharded else None
    found: list[tuple[int, list[Item]]] = [(0, [])]
    n_bytes = 0
    for item, size in _items(survivors, limit or ROW_GROUP_BYTES):
        if limit is not None and found[-1][1] and n_bytes + size > limit:
            found.append((len(found), []))
            n_bytes = 0
        found[-1][1].append(item)
        n_bytes += size
    return found if found[0][1] or form.never_empty else []


def _items(survivors: Survivors, most_bytes: int) -> Iterator[tuple[Item, int]]:
    """Yield the chosen documents row group by row group, at most so many bytes of text at a time, and their bytes."""
    for shard in survivors.shards:
        mask, sizes = survivors.mask(shard), shard.read_column("n_bytes").to_numpy()
        for group, (start, n) in enumerate(shard.row_groups):
            inside = sizes[start : start + n][mask[start : start + n]]
            for begin, end in even_cuts(inside, most_bytes):
                yield Item(shard, group, begin, end), int(inside[begin:end].sum())
