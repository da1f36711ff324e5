"""What a finished run chose, found again: for another form of the same mixture."""

from collections.abc import Collection
from dataclasses import replace

from ..storage.errors import ConfigError, LakeError
from ..storage.lake import Lake
from ..storage.plugins import nearest
from ..storage.selections import load_selection
from ..storage.snapshots import load_snapshot
from ..storage.survivors import selected
from .exporting import Chosen
from .loading import Loaded, load_config
from .runs import RunRecord, load_runs


def chosen_by(lake: Lake, name: str, flows: Collection[str] = ()) -> Chosen:
    """Return what the newest finished run of a flow, or the run whose id begins or ends so, chose.

    One of `flows` is a flow, whatever ids there are.

    Raises ConfigError where there is no such run, LakeError where what it chose is not whole.
    """
    runs = [r for r in load_runs(lake) if r.status == "done" and r.steps]
    found = [r for r in runs if r.flow == name]
    if not found and name not in flows:
        found = [r for r in runs if r.run.startswith(name) or r.run.endswith(name)]
    if not found:
        raise ConfigError(
            f"no finished run {name!r} in {str(lake.root)!r}{nearest(name, sorted({r.flow for r in runs}))}"
        )
    run, selection = found[-1], str(found[-1].steps[-1]["selection"])
    manifest = load_selection(lake, selection)
    if manifest is None:
        raise LakeError(f"what run {run.run} chose is not whole; `tamis run {run.flow}` makes it again")
    shards = load_snapshot(lake, run.corpus, run.snapshot).shards
    return Chosen(run.flow, run, selected(lake, run.corpus, shards, selection), selection)


def as_configured(loaded: Loaded, lake: Lake, run: RunRecord, overrides: list[str] | None) -> Loaded:
    """Return the configuration that a run had, with these overrides, over the folder and the lake of this one."""
    found = load_config(lake.run(run.run) / "config.yaml", overrides)
    return replace(found, root=loaded.root, config=found.config.model_copy(update={"lake": str(loaded.lake)}))
