"""A run of the past, opened again: its configuration, features and targets, as the lake has them.

Nothing is computed for it. Values of features are read by the keys that the run noted, so it takes neither the
configuration of today nor the models of then; only who computes anew (a loss by token) needs these.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from ..storage.errors import ConfigError, LakeError, TamisError
from ..storage.feature_store import kept_schema
from ..storage.lake import Lake, read_json
from ..storage.places import is_url, local_folder
from ..storage.shards import Shard
from ..storage.snapshots import load_snapshot
from ..storage.survivors import Survivors
from ..storage.trained_models import model_path
from .aux_models import with_models
from .config import Config
from .ingesting import target_corpus, visible_target
from .loading import resolved_config
from .measuring import Column, Reader, feature_key
from .plugins import make_feature
from .runs import RunRecord

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class KeptFeature(Feature):
    """A feature of which the lake has values, but that cannot be computed any more."""

    name = "kept"
    version = 0

    kind: str
    schema: pa.Schema
    why: str

    @property
    def columns(self) -> pa.Schema:
        """What the lake has."""
        return self.schema

    def load(self, device: str = "cpu") -> Any:
        """Raise ConfigError: there is nothing to load."""
        raise ConfigError(self.why)


@dataclass(frozen=True)
class KeptColumn(Column):
    """A feature whose numbers have a known name."""

    kept: str = ""

    @property
    def key(self) -> str:
        """Name of the feature's numbers."""
        return self.kept


@dataclass(frozen=True)
class OpenedRun:
    """A run, and what of it the lake has; each part is read when it is asked for. All raise TamisError."""

    lake: Lake
    record: RunRecord

    @cached_property
    def config(self) -> Config:
        """The configuration that it had."""
        return resolved_config(self.record.config)

    @cached_property
    def root(self) -> Path:
        """Where relative paths of the configuration begin: `lake` is one of them, unless it was given whole."""
        below = Path(self.config.lake)
        if is_url(self.config.lake) or below.is_absolute() or ".." in below.parts:
            return Path.cwd()
        return self.lake.root.parents[len(below.parts) - 1]

    @cached_property
    def shards(self) -> dict[str, Shard]:
        """The shards of its corpus, by digest."""
        return {s.digest: s for s in load_snapshot(self.lake, self.record.corpus, self.record.snapshot).shards}

    def read(self, shard: Shard, rows: Rows, reader: Callable[[Survivors], Reader]) -> Iterator[pa.RecordBatch]:
        """Yield what a reader reads of some rows of a shard, by row groups. Raises LakeError where values are gone."""
        mask = np.zeros(shard.rows, np.bool_)
        mask[rows] = True
        mine = reader(Survivors(self.record.corpus, (shard,), lambda _: mask))
        try:
            for number, (start, n) in enumerate(shard.row_groups):
                if mask[start : start + n].any():
                    yield mine.read((shard, number))
        except LookupError:
            raise LakeError(f"features that run {self.record.run} read are not in the lake any more") from None

    def target(self, name: str) -> Survivors:
        """Return what selectors saw of a target."""
        snapshot = load_snapshot(self.lake, target_corpus(name), self.record.targets[name]["snapshot"])
        return visible_target(snapshot, self.config.targets[name], name)

    def step(self, name: str) -> Any:
        """Return the entry of a step in its configuration. Raises ConfigError where there is none."""
        flow = self.config.flows.get(self.record.flow)
        found = next((step for step in (flow.steps if flow else ()) if step.name == name), None)
        if found is None:
            raise ConfigError(f"the configuration of run {self.record.run} has no step {name!r}")
        return found

    def feature(self, alias: str, key: str) -> Feature:
        """Return the feature whose numbers are named so: by its entry, or what the lake has of it. Raises LakeError."""
        try:
            feature = self.features[alias]
            if feature_key(feature) == key:
                return feature
            why = f"the feature {alias!r} does not give the numbers any more that the run had: its files are others"
        except (TamisError, KeyError) as error:
            why = f"the feature {alias!r} cannot be computed any more ({error})"
        folder = self.lake.feature(key)
        schema = kept_schema(self.lake, key)
        if schema is None:
            raise LakeError(f"{why}, and its values are not in the lake")
        return KeptFeature(read_json(folder / "feature.json")["feature"], schema, why)

    @cached_property
    def features(self) -> Mapping[str, Feature]:
        """The features of its configuration, each made when it is asked for."""
        return _Features(self)


class _Features(Mapping[str, Feature]):
    """The features of a run's configuration, each made when it is asked for; trained models lie in the lake."""

    def __init__(self, run: OpenedRun) -> None:
        self._run = run

    def __getitem__(self, alias: str) -> Feature:
        feature = make_feature(alias, self._run.config.features[alias], self._run.root)
        folders = {m["name"]: local_folder(model_path(self._run.lake, m["key"])) for m in self._run.record.models}
        return with_models({alias: feature}, folders)[alias]

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.config.features)

    def __len__(self) -> int:
        return len(self._run.config.features)


class KeyedFeatures(Mapping[str, Feature]):
    """The features of a run whose keys are known, by alias."""

    def __init__(self, run: OpenedRun, keys: Mapping[str, str]) -> None:
        self._run, self._keys = run, keys
        self._made: dict[str, Feature] = {}

    def __getitem__(self, alias: str) -> Feature:
        """Raise LakeError where neither its entry nor its values are there."""
        if alias not in self._made:
            self._made[alias] = self._run.feature(alias, self._keys[alias])
        return self._made[alias]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def column(self, alias: str) -> Column:
        """Return a feature with the name of its numbers."""
        return KeptColumn(alias, self[alias], kept=self._keys[alias])
