"""A flow, from raw files to mixtures, in plain functions; Prefect wraps them elsewhere.

`curate` does the work, stage by stage. Each stage goes through `Work.stage`, and that is where Prefect makes a task of
it.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from ..storage.errors import ConfigError
from ..storage.file_changes import file_changes
from ..storage.fingerprint import fingerprint
from ..storage.inputs import list_inputs
from ..storage.lake import read_json
from ..storage.snapshots import Snapshot, newest
from ..storage.survivors import Survivors, selected
from .alarm_limits import limits_of
from .alarms import alarms, unmet
from .aux_models import model_of, planned, with_models
from .aux_training import train_model
from .config import Corpus, Files, FlowEntry
from .decontaminating import run_decontaminate
from .deduplicating import run_dedup
from .diff_notes import note_diff
from .exporting import Chosen, export
from .filtering import run_filter
from .flow_checks import features_of, target_names, wanted_names
from .ingesting import ingest, ingest_options, target_corpus, unchanged, visible_target
from .measuring import feature_key, measure, tokens_column
from .parents import states_before, states_of
from .selecting import run_select
from .step_entries import DecontaminateStep, DedupStep, FilterStep, TrainStep
from .work import Trained, Work

NOT_COMPUTED_WITH: dict[str, Any] = {
    "engine": True, "alarms": True, "schedule": True, "steps": {"__all__": {"alarms", "refit"}}
}  # fmt: skip
"""What a flow says and no artefact depends on: of `refit`, what it came to is asked."""


class TargetParts(NamedTuple):
    """A target set as a snapshot, and the documents of it that selectors may see."""

    whole: Snapshot
    visible: Survivors


def nothing_new(work: Work, name: str, flow: FlowEntry) -> bool:
    """Say whether a run of this very flow over the present files was finished.

    Then all that is left is to read manifests, which needs no Prefect.
    """
    return finished_run(work, name, flow) is not None


def finished_run(work: Work, name: str, flow: FlowEntry) -> str | None:
    """Return a finished run of this very flow, where the raw files are those of the newest snapshots; else None.

    With `rehash` that is not known before their bytes are digested.
    """
    config = work.config
    entries: dict[str, Files] = {flow.corpus: config.corpora[flow.corpus]}
    entries |= {target_corpus(n): config.targets[n] for n in target_names(config, flow)}
    found = {}
    for corpus, entry in entries.items():
        if entry.rehash:
            return None
        last = unchanged(work.lake, corpus, list_inputs(entry.files, work.root), ingest_options(entry))
        if last is None:
            return None
        found[corpus] = last.key
    before = states_before(work.lake, name, flow.steps)
    path = work.lake.root / "runs" / "finished" / f"{flow_fingerprint(work, name, flow, found, before)}.json"
    return str(read_json(path)["run"]) if path.exists() else None


def flow_fingerprint(
    work: Work, name: str, flow: FlowEntry, snapshots: dict[str, str], states: Mapping[str, Any]
) -> str:
    """Name what a flow computes over these snapshots; `states` are those that steps have from history."""
    history = {"states": dict(states)} if states else {}
    return fingerprint(
        history
        | {
            "flow": flow.model_dump(exclude=NOT_COMPUTED_WITH),
            "targets": {n: work.config.targets[n].holdout for n in target_names(work.config, flow)},
            "features": _features_used(work, flow),
            "tokens": tokens_column(work).key,
            "seed": work.config.seed,
            "snapshots": snapshots,
            "name": name,
        }
    )


def _features_used(work: Work, flow: FlowEntry) -> list[str]:
    """Return what names the features that a flow asks for, with their models and files.

    The models that it trains are among them, without the documents, which the steps and snapshots name.
    """
    config, keys = work.config, set()
    for feature in (f for step in flow.steps for f in features_of(step, work.features)):
        name = model_of(feature, config.models)
        keys.add(
            feature_key(feature) if name is None else fingerprint([feature.name, feature.version, asdict(feature)])
        )
    models = [one for step in flow.steps for one in planned(config, work.root, step, ())]
    return sorted({*keys, *(fingerprint({"name": one.name, "model": one.recipe()}) for one in models)})


def curate(work: Work, name: str, flow: FlowEntry) -> None:
    """Do everything that the flow says; what the lake has already is not done again."""
    work = replace(work, flow=name)
    record = work.log.record
    entry = work.config.corpora[flow.corpus]
    snapshot = ingest_corpus(work, flow.corpus, entry)
    work.show()
    targets = {target: _target(work, target) for target in target_names(work.config, flow)}
    _refuse_invisible({target: targets[target] for target in wanted_names(work.config, flow)})
    corpus = survivors = Survivors.of(snapshot)
    record.tokenizer, record.tokens_key = work.config.tokenizer, tokens_column(work).key
    measure(work, corpus, tokens_column(work))
    manifest: dict[str, Any] = {}
    visible = {target: parts.visible for target, parts in targets.items()}
    trained: dict[str, Trained] = {}
    with_folders = work
    for step in flow.steps:
        if isinstance(step, TrainStep):
            for one in planned(work.config, work.root, step, trained):
                trained[one.name] = train_model(work, one, survivors, visible, trained)
            folders = {name: found.folder for name, found in trained.items()}
            with_folders = replace(work, features=with_models(work.features, folders), models=trained)
            continue
        manifest = _run_step(with_folders, step, survivors, corpus, targets)
        record.steps.append(_summary(step, manifest))
        _sound_alarms(work, flow, step, manifest)
        survivors = selected(work.lake, corpus.corpus, corpus.shards, manifest["selection"])
    if flow.outputs:
        chosen = Chosen(name, work.mending or record, survivors, manifest["selection"])
        record.outputs = export(work, chosen, flow.outputs)
    snapshots = {flow.corpus: snapshot.key} | {target_corpus(n): t["snapshot"] for n, t in record.targets.items()}
    states = states_of(record.steps, flow.steps)
    record.fingerprint = flow_fingerprint(work, name, flow, snapshots, states)
    if record.flow == name:
        note_diff(work, flow)
    finished = work.lake.root / "runs" / "finished" / f"{record.fingerprint}.json"
    if not work.mending or not finished.exists():  # a later run may have come to the same
        work.lake.publish_json(finished, {"run": record.run})


def ingest_corpus(work: Work, corpus: str, entry: Corpus) -> Snapshot:
    """Ingest the pool and note in the run's record what became of its records."""
    record = work.log.record
    before = newest(work.lake, corpus)
    snapshot = ingest(work, corpus, entry)
    record.files[corpus] = file_changes(before, snapshot)
    record.corpus, record.snapshot, record.counts = corpus, snapshot.key, dict(snapshot.counts)
    if bad := snapshot.counts["quarantined"]:
        work.log.warn(f"{bad:,} records of {corpus} could not be read; `tamis sql 'from quarantine'` lists them")
    return snapshot


def _target(work: Work, name: str) -> TargetParts:
    """Ingest a target set."""
    entry, corpus = work.config.targets[name], target_corpus(name)
    before = newest(work.lake, corpus)
    snapshot = ingest(work, corpus, entry)
    work.log.record.files[corpus] = file_changes(before, snapshot)
    if snapshot.counts["quarantined"]:
        work.log.warn(f"{snapshot.counts['quarantined']:,} records of the target {name} could not be read")
    visible = visible_target(snapshot, entry, name)
    work.log.record.targets[name] = {
        "snapshot": snapshot.key, "documents": snapshot.counts["documents"], "visible": visible.n_documents,
    }  # fmt: skip
    return TargetParts(snapshot, visible)


def _refuse_invisible(targets: Mapping[str, TargetParts]) -> None:
    for name, target in targets.items():
        if target.visible.n_documents == 0:
            raise ConfigError(
                f"target {name!r} has no document that a selector may see; give it files, or a smaller `holdout`"
            )


def _run_step(
    work: Work, step: Any, survivors: Survivors, corpus: Survivors, targets: dict[str, TargetParts]
) -> dict[str, Any]:
    if isinstance(step, FilterStep):
        return run_filter(work, step, survivors)
    if isinstance(step, DedupStep):
        return run_dedup(work, step, survivors)
    if isinstance(step, DecontaminateStep):
        return run_decontaminate(work, step, survivors, {n: targets[n].whole for n in step.decontaminate})
    return run_select(work, step, survivors, corpus, {name: parts.visible for name, parts in targets.items()})


def _summary(step: Any, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a run's record keeps of a step."""
    kept = ("kind", "selection", "entered", "kept", "bytes_kept", "tokens_entered", "tokens_kept", "reasons",
            "selector", "budget", "cuts", "shortfall", "health", "clusters", "rounds", "action",
            "unprotected", "fit")  # fmt: skip
    return {"name": step.name, **{k: manifest[k] for k in kept if k in manifest}}


def _sound_alarms(work: Work, flow: FlowEntry, step: Any, manifest: dict[str, Any]) -> None:
    """Warn of what a step was asked for and could not do, and note its alarms; they are told while the run goes on."""
    for found in unmet(step.name, manifest):
        work.log.warn(found.text)
    limits = limits_of(work.config.alarms, flow.alarms, step.alarms)
    for alarm in alarms(work.log.record.run, step.name, manifest, limits):
        work.log.alarm(alarm)
        work.reporter.say(f"alarm: {alarm.text} [{alarm.name}]")
