"""A step of a past run, opened again: its selector, the state it had, and what it saw of some documents.

Where files of the lake were removed, everything here raises a LakeError that says which, and nothing is fitted or
scored again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.base import Around, Selector, Target
from ..selectors.registry import REGISTRY as SELECTORS
from ..storage.errors import ConfigError, LakeError
from ..storage.lake import Lake, read_json
from ..storage.shards import Shard
from ..storage.state import load_state
from ..storage.survivors import mask_digest
from .fit_keys import scores_key, state_key
from .measuring import Reader
from .opened_runs import KeptColumn, KeyedFeatures, OpenedRun
from .plugins import make_selector
from .selector_inputs import SelectorInputs, selector_inputs

Bools = npt.NDArray[np.bool_]
Place = tuple[str, int]
"""Shard and row of a document."""
VERDICTS_KEPT = 16
"""Shards whose verdicts are kept in memory, 17 bytes a document."""
_OF_DEDUP = ("corpus", "fitted", "tokens")


@dataclass(frozen=True)
class OpenedStep:
    """A step that has a selector."""

    run: OpenedRun
    name: str
    _seen: dict[tuple[Place, ...], tuple[pa.RecordBatch, pa.Table]] = field(
        default_factory=dict, init=False, repr=False
    )

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the run noted of it."""
        found = next((step for step in self.run.record.steps if step["name"] == self.name), None)
        if found is None:
            raise ConfigError(f"run {self.run.record.run} has no step {self.name!r}")
        return found

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the lake says of its result."""
        path = self.run.lake.selection(self.record["selection"]) / "manifest.json"
        return dict(read_json(self._there(path, "the result")))

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """What its scores were made by, the documents included."""
        recipe: dict[str, Any] = self.manifest.get("scored") or {
            name: value for name, value in self.manifest["recipe"].items() if name not in _OF_DEDUP
        }
        return recipe

    @cached_property
    def inputs(self) -> SelectorInputs:
        """The selector as it was, and what it reads. Raises LakeError where this tamis would score otherwise."""
        made, kind = self.made_by, SELECTORS.find(self.made_by["selector"])
        if kind.version != made["version"]:
            raise LakeError(
                f"the scores are of version {made['version']} of {kind.name}, and this is version {kind.version}; "
                "the tamis that made them can explain them"
            )
        mine = {f.name for f in fields(kind)} & set(made["needs"]) - set(made["parameters"])
        entry = self.run.step(self.name).parameters if mine or "expressions" in made else {}
        keys = {entry[name]: made["needs"][name] for name in mine} | made.get("expression_features", {})
        features = KeyedFeatures(self.run, keys)
        parameters = {**made["parameters"], **{name: entry[name] for name in mine}}
        group = "dedup" if kind.groups else "select"
        inputs = selector_inputs(make_selector(group, kind.name, parameters, features), features, f"step {self.name!r}")
        columns = tuple(KeptColumn(c.alias, c.feature, c.title, made["needs"][c.alias]) for c in inputs.columns)
        asked = tuple(features.column(c.alias) for c in inputs.asked)
        return SelectorInputs(inputs.selector, columns, asked, inputs.expressions)

    @property
    def selector(self) -> Selector:
        """The selector as it was."""
        return self.inputs.selector

    @cached_property
    def state(self) -> Any:
        """What it had learned."""
        path = self.run.lake.state(state_key(self.selector, self.made_by)) / "state.safetensors"
        return load_state(self._there(path, "the state"), self.selector.state_type)

    def _there(self, path: Path, what: str) -> Path:
        if not path.exists():
            raise LakeError(
                f"{what} of step {self.name!r} is not in the lake any more; `tamis run {self.run.record.flow}` makes it"
            )
        return path

    def scores(self, shard: Shard) -> pa.Table:
        """Return what `score` returned for the documents of a shard, with `row`, `kept` and `judged`."""
        verdicts = self.verdicts(shard)
        entered = np.zeros(shard.rows, dtype=np.bool_)
        entered[verdicts.column("row").to_numpy()] = True
        folder = self.run.lake.scores(scores_key(self.selector, self.made_by))
        table = self.run.lake.table(self._there(folder / f"{mask_digest(shard, entered)}.parquet", "a score"))
        return table.append_column("kept", verdicts.column("kept")).append_column("judged", verdicts.column("score"))

    def verdicts(self, shard: Shard) -> pa.Table:
        """Return row, kept and score of the documents of a shard that entered."""
        path = self.run.lake.selection(self.record["selection"]) / f"{shard.digest}.parquet"
        return _verdicts(self.run.lake, self._there(path, "the result"))

    def entered(self, places: Sequence[Place]) -> list[Place]:
        """Return those of the places, each once, whose documents entered."""
        found = set()
        for digest in {shard for shard, _ in places} & set(self.run.shards):
            there = self.verdicts(self.run.shards[digest]).column("row").to_numpy()
            asked = np.array([row for shard, row in places if shard == digest], np.int64)
            found |= {(digest, row) for row in asked[np.isin(asked, there)].tolist()}
        return [place for place in dict.fromkeys(places) if place in found]

    def seen(self, places: Sequence[Place]) -> tuple[pa.RecordBatch, pa.Table]:
        """Return what `score` saw of documents that entered, in the order of the places, and their scores.

        The batch has `shard`, `doc_id` and `text` beside. There is at least one place.
        """
        asked = tuple(places)
        if asked not in self._seen:
            self._seen.clear()  # the last ones are enough: values and reasons ask for the same documents
            self._seen[asked] = self._look(places)
        return self._seen[asked]

    def _look(self, places: Sequence[Place]) -> tuple[pa.RecordBatch, pa.Table]:
        batches, tables = [], []
        found: dict[Place, int] = {}
        for digest in dict.fromkeys(shard for shard, _ in places):
            shard = self.run.shards[digest]
            rows = np.unique([row for other, row in places if other == digest])
            scores = self.scores(shard)
            tables.append(scores.filter(pc.is_in(scores.column("row"), pa.array(rows))))
            for piece in self._read(shard, rows, ("doc_id", "text")):
                batches.append(piece.append_column("shard", pa.repeat(digest, piece.num_rows)))
            found |= {(digest, row): len(found) + i for i, row in enumerate(rows.tolist())}
        order = pa.array([found[place] for place in places], pa.int64())
        (batch,) = pa.Table.from_batches(batches).take(order).combine_chunks().to_batches()
        return batch, pa.concat_tables(tables).take(order)

    def around(self, most: int) -> Around:
        """Return what reasons may ask for beside."""
        return Around(most, self._targets, self._pool)

    def _targets(self) -> Sequence[Target]:
        found = []
        for name, weight, _ in self.made_by["targets"]:
            try:
                survivors = self.run.target(name)
            except (LakeError, ConfigError, KeyError):
                continue  # Around.targets
            reads = tuple(dict.fromkeys([*self.selector.reads, "doc_id", "text"]))
            reader = Reader(self.run.lake, survivors, reads, self.inputs.columns)
            found.append(Target(name, weight, reader.batches))
        return found

    def _pool(self, where: Callable[[pa.Table], Bools]) -> Iterator[tuple[str, pa.RecordBatch, pa.Table]]:
        for shard in self.run.shards.values():
            scores = self.scores(shard)
            passing = scores.filter(pa.array(where(scores)))
            at = 0
            for batch in self._read(shard, passing.column("row").to_numpy(), ("doc_id",)):
                yield shard.digest, batch, passing.slice(at, batch.num_rows)
                at += batch.num_rows

    def _read(self, shard: Shard, rows: Any, more: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield what `score` saw of some rows of a shard, by row groups."""
        return self.run.read(shard, rows, lambda survivors: self.inputs.pool(self.run.lake, survivors, *more))


@lru_cache(maxsize=VERDICTS_KEPT)
def _verdicts(lake: Lake, path: Path) -> pa.Table:
    return lake.table(path, ["row", "kept", "score"])
