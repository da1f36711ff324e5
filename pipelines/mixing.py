"""A mixture, from what its flows chose to the shards that a training reads."""

from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from .. import __version__
from ..features.base import Feature
from ..storage.cards import mixture_card
from ..storage.draws import load_draw
from ..storage.errors import ConfigError, LakeError
from ..storage.export import written_mixture
from ..storage.fingerprint import fingerprint
from ..storage.inputs import list_inputs
from ..storage.selections import load_selection
from ..storage.shards import ROW_GROUP_BYTES
from ..storage.snapshots import Snapshot, load_snapshot
from ..storage.survivors import Survivors
from .aux_models import model_of
from .config import MixtureEntry
from .flow_checks import check_flow, check_outputs, known
from .flows import finished_run
from .forms import form_of
from .ingesting import ingest
from .loading import Loaded
from .measuring import measure, tokens_column
from .mixture_draw import draw
from .mixture_entries import PartEntry
from .mixture_order import SCORE, Ordered, order_expression
from .mixture_parts import MixturePart, Pool, make_part
from .mixture_shortfall import inherited, inherited_alarms, unmet
from .mixture_texts import repeated_texts
from .outputs import Output
from .room import left_to_write
from .runs import RunRecord, Stage, load_run
from .step_entries import TrainStep
from .work import Work

VERSION = 2
"""Raised when the same entry over the same documents draws others."""
_RECORDED = ("draw", "budget", "asked", "achieved", "documents", "copies", "rule", "parts", "origins")


def check_mixture(loaded: Loaded, name: str, features: Mapping[str, Feature]) -> MixtureEntry:
    """Return the mixture of that name, checked as far as that needs no work. Raises ConfigError."""
    config = loaded.config
    entry = known("mixture", name, config.mixtures)
    for part in entry.parts:
        if part.corpus is not None:
            corpus = known(f"mixtures.{name}: part {part.title!r}: corpus", part.corpus, config.corpora)
            list_inputs(corpus.files, loaded.root)
        if part.flow is not None:
            known(f"mixtures.{name}: part {part.title!r}: flow", part.flow, config.flows)
            flow = check_flow(loaded, part.flow, features)
            if all(isinstance(step, TrainStep) for step in flow.steps):
                raise ConfigError(f"mixtures.{name}: part {part.title!r}: no step of its flow chooses documents")
    _check_order(loaded, name, entry, features)
    if any(output.format == "ids" for output in entry.outputs):
        raise ConfigError(f"mixtures.{name}: `format: ids` is of a flow; the ids of a mixture are in `mixture_rows`")
    check_outputs(loaded, entry.outputs)
    return entry


def _check_order(loaded: Loaded, name: str, entry: MixtureEntry, features: Mapping[str, Feature]) -> None:
    if entry.order.by == SCORE and all(part.flow is None for part in entry.parts):
        raise ConfigError(f"mixtures.{name}: order: by is 'score', but no part is a flow; expected an SQL expression")
    found = order_expression(name, entry.order, features)
    for alias in found.aliases if found else ():
        if model := model_of(features[alias], loaded.config.models):
            raise ConfigError(
                f"mixtures.{name}: order: by asks for losses of the model {model!r}, which a flow trains; expected "
                "`by: score` of a flow that chose by them, or a feature with the folder of a model"
            )


def finished_flow(work: Work, flow: str) -> RunRecord | None:
    """Return a finished run of a flow over the present files, None where there is none that the lake still has."""
    run = finished_run(work, flow, work.config.flows[flow])
    record = load_run(work.lake, run) if run else None
    return record if record and load_selection(work.lake, record.steps[-1]["selection"]) else None


def mix(work: Work, name: str, entry: MixtureEntry, runs: Mapping[str, RunRecord]) -> None:
    """Draw and write a mixture; `runs` are the finished runs of its flows. What the lake has is not made again."""
    snapshots = _snapshots(work, entry, runs)
    for snapshot in snapshots.values():
        measure(work, Survivors.of(snapshot), tokens_column(work))
    parts = [_part(work, part, snapshots, runs) for part in entry.parts]
    manifest = _drawn(work, name, entry, parts)
    record = work.log.record
    record.tokenizer, record.tokens_key = work.config.tokenizer, tokens_column(work).key
    record.mixture = {
        "name": name, "corpora": {corpus: s.key for corpus, s in snapshots.items()},
        "runs": {flow: run.run for flow, run in runs.items()}, **{key: manifest[key] for key in _RECORDED},
    }  # fmt: skip
    for warning in (*inherited(runs), *unmet(entry, manifest)):
        work.log.warn(warning)
    for alarm in inherited_alarms(runs):
        work.log.alarm(alarm)
    ordered = Ordered(work, name, entry.order, manifest, {corpus: s.shards for corpus, s in snapshots.items()})
    ordered.measure()
    for output in entry.outputs:
        write = partial(_write, work, name, output, ordered, manifest)
        record.outputs.append(work.stage(f"write {output.format}", write))
    if unordered := record.outputs[0]["unordered"]:
        have_none = f"{unordered:,} of {manifest['copies']:,} documents have no number"
        work.log.warn(f"order by {entry.order.by}: {have_none} and stand last")


def _snapshots(work: Work, entry: MixtureEntry, runs: Mapping[str, RunRecord]) -> dict[str, Snapshot]:
    """Return the snapshot of each corpus: the flows' own, or of what files there are now."""
    found: dict[str, Snapshot] = {}
    for part in entry.parts:
        if part.flow is not None:
            run = runs[part.flow]
            snapshot = load_snapshot(work.lake, run.corpus, run.snapshot)
        else:
            assert part.corpus is not None  # PartEntry has one of both
            if part.corpus in found:
                continue
            snapshot = ingest(work, part.corpus, work.config.corpora[part.corpus])
            if bad := snapshot.counts["quarantined"]:
                work.log.warn(f"{bad:,} records of {part.corpus} could not be read; `tamis sql 'from quarantine'`")
        if found.setdefault(snapshot.corpus, snapshot).key != snapshot.key:
            raise LakeError(
                f"the files of the corpus {snapshot.corpus!r} changed while the flows of this mixture ran; "
                "the same command takes up what is new"
            )
    return found


def _part(work: Work, part: PartEntry, snapshots: Mapping[str, Snapshot], runs: Mapping[str, RunRecord]) -> MixturePart:
    if part.flow is None:
        return make_part(work.lake, part, snapshots[part.corpus or ""], None)
    run = runs[part.flow]
    return make_part(work.lake, part, snapshots[run.corpus], run.steps[-1]["selection"])


def _drawn(work: Work, name: str, entry: MixtureEntry, parts: list[MixturePart]) -> dict[str, Any]:
    """Return the manifest of the draw; make it where the lake does not have it."""
    recipe = {
        "version": VERSION, "mixture": name, "seed": work.config.seed, "tokens": tokens_column(work).key,
        **entry.model_dump(include={"budget", "weights", "per", "redistribute", "dedup"}),
        "parts": [
            {**p.entry.model_dump(include={"sources", "weight", "max_epochs"}), "title": p.title,
             "corpus": p.survivors.corpus, "documents": p.recipe}
            for p in parts
        ],
    }  # fmt: skip
    key = fingerprint(recipe)
    if found := load_draw(work.lake, key):
        work.stage(f"draw {name}", lambda stage: stage.reuse(1))
        return found
    pool = Pool(parts)
    texts = repeated_texts(work, name, pool) if entry.dedup == "text" else nullcontext(pool.repeats)
    with texts as repeats:
        drawing = partial(draw, work, name, entry, Pool(parts, repeats), key, recipe)
        return work.stage(f"draw {name}", drawing)


def _write(
    work: Work, name: str, output: Output, ordered: Ordered, drawn: Mapping[str, Any], stage: Stage
) -> dict[str, Any]:
    """Write one form of the mixture, unless the lake has it; return its manifest."""
    form = form_of(work, output, of_parts=True)
    key = fingerprint({"draw": drawn["draw"], "order": ordered.recipe(), **form.recipe})
    folder = work.lake.mixture(name, key)
    if found := written_mixture(folder):
        stage.reused = 1
        return found
    stage.computed = 1
    work.expect(stage, *left_to_write(form.room(drawn["bytes"]), folder))
    ordered = replace(ordered, unordered=0)
    about = {
        "mixture": name, "key": key, "format": output.format, "run": work.log.record.run, "tamis": __version__,
        "seed": work.config.seed, "tokenizer": work.config.tokenizer, "order": ordered.recipe(),
        **{name: drawn[name] for name in ("draw", "rule", "budget", "asked", "achieved", "parts", "origins")},
    }  # fmt: skip
    # Closed: where a disk is full the sorted texts go at once, not when an error is forgotten that still holds them.
    with closing(ordered.tables(form.columns, min(ROW_GROUP_BYTES, output.shard_bytes))) as tables:
        manifest, composition = form.publish(folder, map(form.counted, tables), about, {"parts": drawn["parts"]})
    manifest["unordered"] = ordered.unordered
    page = mixture_card(manifest, drawn["sources"], work.log.record.alarms, composition.licences)
    work.lake.publish_bytes(folder / "card.md", page.encode())
    work.lake.publish_json(folder / "manifest.json", manifest)
    return manifest
