"""What of a flow is in the lake: the flow itself is walked over a lake in which nothing can be written.

A stage that finds what it would make goes by; one that begins to compute is stopped there (`Stage.computed`, a map over
something, the first write), and nothing was done. After a feature the walk goes on, because who is still in does not
hang on it; after any other stage it ends, and of what follows only the values of features can be counted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ..storage.feature_store import missing_rows
from ..storage.inputs import list_inputs
from ..storage.lake import Lake
from ..storage.shards import Mask, Shard, Span
from ..storage.snapshots import commit_snapshot, plan_reading
from ..storage.survivors import Survivors, selected
from .aux_models import model_of
from .config import Corpus, FlowEntry
from .flow_checks import features_of
from .flows import curate
from .ingesting import ingest, ingest_options, target_corpus, unchanged
from .measuring import feature_key
from .plan_sample import Known
from .runs import RunLog, RunRecord, Stage
from .work import Work

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")


class NotThere(Exception):
    """Something would be computed or written now."""


@dataclass(frozen=True)
class Found:
    """What the walk saw of one stage."""

    name: str
    position: int
    there: bool
    documents: int = 0
    """Of a feature: how many have no value yet."""


@dataclass(frozen=True)
class Walk:
    """What is there, and where the first stage is that has to compute something other than a feature."""

    found: tuple[Found, ...]
    stop: Found | None
    steps: tuple[dict[str, Any], ...]
    """What the steps that are there saw and kept."""


def known_corpus(work: Work, corpus: str, entry: Corpus) -> Known:
    """Return which documents of a corpus are in the lake, and which raw files would be read."""
    options, files = ingest_options(entry), list_inputs(entry.files, work.root)
    if last := unchanged(work.lake, corpus, files, options):
        return Known(Survivors.of(last), ())
    plan = plan_reading(work.lake, corpus, files, options)
    live = {(pack.key, record.name) for record, pack in plan.reused}
    shards = {shard.digest: shard for _, pack in plan.reused for shard in pack.shards}
    spans: dict[str, list[Span]] = {}
    for pack in {pack.key: pack for _, pack in plan.reused}.values():
        for shard in pack.shards:
            spans.setdefault(shard.digest, []).extend(p for p in shard.spans if (pack.key, p.file) in live)

    def mask(shard: Shard) -> Mask:
        found: Mask = np.zeros(shard.rows, dtype=np.bool_)
        for span in spans[shard.digest]:
            found[span.start : span.start + span.rows] = True
        return found

    return Known(Survivors(corpus, tuple(shards.values()), mask), plan.unread)


def walk(work: Work, name: str, flow: FlowEntry, stand_in: Work) -> Walk:
    """Walk a flow over the lake of `work`; targets that it does not have are read into the lake of `stand_in`."""
    log = _NoLog(name)
    probe = _Probe(
        _ReadOnly(work.lake.root), work.config, work.root, work.features, work.tokens, work.engine, log,
        stand_in=stand_in, found=[],
    )  # fmt: skip
    stop = None
    try:
        curate(probe, name, flow)
    except NotThere as ended:
        stop = ended.args[0] if ended.args else None  # without: what follows all stages
    return Walk(tuple(probe.found), stop, tuple(log.record.steps))


@dataclass(frozen=True)
class _Probe(Work):
    """The work of a flow of which nothing is done."""

    stand_in: Work = field(kw_only=True)
    found: list[Found] = field(kw_only=True)

    def stage(self, name: str, body: Callable[[Stage], Result]) -> Result:
        """Run a stage as far as it finds what it would make."""
        stage, position = _Looked(name), len(self.log.record.steps)
        try:
            result = body(stage)
        except NotThere:
            found = Found(name, position, False, stage.documents)
            self.found.append(found)
            return self._instead(found)  # type: ignore[no-any-return]
        self.found.append(Found(name, position, True))
        return result

    def _instead(self, found: Found) -> Any:
        """Return what a stage would have made, where the walk can do without it or make it elsewhere."""
        if found.name.startswith("feature "):
            return None
        for name, entry in self.config.targets.items():
            if found.name == f"ingest {target_corpus(name)}":
                return ingest(self.stand_in, target_corpus(name), entry)
        for name, corpus in self.config.corpora.items():
            if found.name == f"ingest {name}":
                options = ingest_options(corpus)
                plan = plan_reading(self.lake, name, list_inputs(corpus.files, self.root), options)
                if not plan.unread:  # files are gone, or were touched: a list of shards is all that is to be written
                    return commit_snapshot(self.stand_in.lake, name, plan.reused, options)
        raise NotThere(found)

    def expect(self, stage: Stage, about: float = 0.0, exact: float = 0.0, scratch: float = 0.0) -> None:
        """Look for no room: nothing is written."""

    def map(
        self, name: str, function: Callable[[Item], Result], items: list[Item],
        documents: Callable[[Item], int] | None = None, *, loads: bool = False,
    ) -> Iterator[Result]:  # fmt: skip
        """Raise NotThere where there is anything to map."""
        if items:
            raise NotThere
        return iter(())

    def together(
        self, name: str, function: Callable[[Item], Any], groups: Sequence[tuple[Any, Sequence[Item]]],
        finish: Callable[[Any, Iterator[Any]], Result], documents: Callable[[Item], int], *, loads: bool = False,
    ) -> Iterator[Result]:  # fmt: skip
        """Raise NotThere where there is anything to map."""
        return self.map(name, finish, list(groups))  # type: ignore[arg-type]

    def show(self) -> None:
        """Publish nothing."""


class _Looked(Stage):
    """A stage that ends when it says that it computes."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "computed" and value:
            raise NotThere


class _ReadOnly(Lake):
    """A lake without scratch space, where all that is written begins."""

    @property
    def scratch(self) -> Path:
        """Raise NotThere."""
        raise NotThere

    def publish_link(self, target: Path, source: Path) -> None:
        """Do without: a name more for what is there is no work."""


class _NoLog(RunLog):
    """A record that stays in memory."""

    def __init__(self, flow: str) -> None:
        self.record = RunRecord("plan", flow, "")

    def seen(self, corpus: str, files: pa.Table) -> None:
        """Write nothing."""

    def event(self, kind: str, **details: Any) -> None:
        """Write nothing."""

    def publish(self) -> None:
        """Publish nothing."""


def last_known(lake: Lake, known: Known, steps: Sequence[Mapping[str, Any]]) -> Survivors:
    """Return what the steps that are there have kept."""
    if not steps:
        return known.survivors
    return selected(lake, known.survivors.corpus, known.survivors.shards, steps[-1]["selection"])


def values_there(work: Work, flow: FlowEntry, stage: str, survivors: Survivors) -> int:
    """Return how many of these documents have values of the feature that a stage of a flow computes."""
    asked = [feature for step in flow.steps for feature in features_of(step, work.features)]
    named = {f.name: f for f in asked} | work.features | {"tokens": work.tokens}
    feature = named.get(stage.removeprefix("feature "))
    if feature is None or model_of(feature, work.config.models):
        return 0
    key, count = feature_key(feature), 0
    for shard in survivors.shards:
        mask = survivors.mask(shard)
        count += int(mask.sum()) - len(missing_rows(work.lake, key, shard, mask))
    return count
