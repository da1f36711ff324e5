"""A finished run, done again in its own place over its own snapshots: what the lake lost of it comes back.

Everything looks for what is there first, so nothing is computed that is whole. No run is recorded: what was is the
record still. A run of a flow, of a mixture and of a training can be done again; an export asked for outputs that no
configuration names, and has to be asked for again.
"""

from collections.abc import Collection
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from ..storage.errors import ConfigError, LakeError, TamisError
from ..storage.lake import Lake
from .engine import Threads
from .flow_checks import training_flow
from .flows import curate
from .loading import Loaded, resolved_config
from .memory_entry import budget_of, workers_within
from .mixing import mix
from .news import news
from .plugins import make_feature, make_tokens
from .progress import Reporter
from .run_report import REPORT, run_report
from .runs import RunRecord, Unrecorded, load_run
from .work import Work

MIX, TRAIN = "mix ", "train-aux "
_ASKED = ("export ", "replay ", "ingest ")
"""Runs that only their own command can repeat; what an ingestion read is read again without it."""


class _Again(Unrecorded):
    """The log of a run that is done again."""

    def __init__(self, run: RunRecord) -> None:
        super().__init__()
        self.record = RunRecord(run.run, run.flow, run.config, started=run.started, plan=run.plan)


def mend_run(lake: Lake, run: RunRecord, root: Path, reporter: Reporter) -> None:
    """Bring back what a finished run made; `root` is the folder that the paths of its configuration are below.

    Raises TamisError where that cannot be: a file of the configuration is gone, a snapshot is not whole, or the run
    comes out otherwise now.
    """
    loaded = Loaded(resolved_config(run.config), root, run.config)
    config = loaded.config
    features = {alias: make_feature(alias, entry, root) for alias, entry in config.features.items()}
    log, memory = _Again(run), budget_of(config.memory)
    with closing(Threads(workers_within(memory, None, reporter))) as engine:
        work = Work(
            replace(lake, used=set(), memory=memory), config, root, features, make_tokens(config.tokenizer, root),
            engine, log, reporter, mending=run,
        )  # fmt: skip
        if run.flow in config.flows:
            curate(work, run.flow, config.flows[run.flow])
        elif run.flow.startswith(MIX):
            name = run.flow.removeprefix(MIX)
            runs = {flow: _run(lake, found) for flow, found in run.mixture["runs"].items()}
            mix(work, name, config.mixtures[name], runs)
        elif run.flow.startswith(TRAIN):
            name, entry = training_flow(config, run.flow.removeprefix(TRAIN), None)
            curate(work, name, entry)
        else:
            raise LakeError(f"`tamis {run.flow}` has to be asked for again")
    if _came_to(log.record) != _came_to(run):
        raise LakeError(f"run {run.run} comes out otherwise now: its results were kept as far as they are there")
    if not (lake.run(run.run) / "uses.json").exists():
        work.lake.publish_uses(lake.run(run.run))


def mend_pages(lake: Lake, run: RunRecord) -> None:
    """Bring back what is said of a run in other words than its record's."""
    folder = lake.run(run.run)
    if not (folder / "config.yaml").exists() and run.config:
        lake.publish_bytes(folder / "config.yaml", run.config.encode())
    if run.status != "running" and not (folder / REPORT).exists():
        try:
            page = run_report(run, news(lake, run))
        except TamisError:
            page = run_report(run, None)
        lake.publish_bytes(folder / REPORT, page.encode())


def root_of(lake: Lake, loaded: Loaded | None, run: RunRecord) -> Path:
    """Return the folder that the paths of a run's configuration are below: that of the present one, or the lake's.

    Raises ConfigError where neither is known.
    """
    if loaded is not None:
        return loaded.root
    said = Path(resolved_config(run.config).lake)
    parts = [part for part in said.parts if part != "."]
    if said.is_absolute() or not parts or lake.root.parts[-len(parts) :] != tuple(parts):
        raise ConfigError(f"which folder the files of run {run.run} are below is not known; name its --config")
    return Path(*lake.root.parts[: -len(parts)])


def can_be_repeated(run: RunRecord) -> bool:
    """Say whether a run's record tells all that it takes to do it again."""
    return run.status == "done" and not run.flow.startswith(_ASKED)


def is_made_by(run: RunRecord, names: Collection[str]) -> bool:
    """Say whether one of the lake's files is a mixture of a run."""
    outputs = tuple(f"mixtures/{o['mixture']}/{o['key']}/" for o in run.outputs)
    return any(name.startswith(outputs) for name in names) if outputs else False


def _run(lake: Lake, run: str) -> RunRecord:
    found = load_run(lake, run)
    if found is None:
        raise LakeError(f"the record of run {run}, of which the mixture is made, is not there")
    return found


def _came_to(run: RunRecord) -> object:
    record = asdict(run)
    return (
        [(s["name"], s["selection"], s["kept"]) for s in record["steps"]], [m["key"] for m in record["models"]],
        [(o["mixture"], o["key"]) for o in record["outputs"]], record["mixture"].get("draw"),
    )  # fmt: skip
