"""What a damaged file concerns: the manifest that says that it is there, and the runs that made or used it.

Files are named by their paths below the lake's root.
"""

from collections.abc import Collection
from dataclasses import asdict

from ..storage.errors import TamisError
from ..storage.lake import Lake
from ..storage.publish import MARKER
from ..storage.references import References
from ..storage.sweeping import held
from .mending import can_be_repeated, is_made_by
from .pool_summaries import KEPT, SAMPLE, SUMMARY
from .runs import RunRecord

OF_THE_RAW = ("corpora/", "quarantine/")
ON_DEMAND = ("plans/", "proxies/", "training/")
"""What nothing refers to: it is made again when somebody asks."""
_BESIDE_A_STATE = (KEPT, SAMPLE, SUMMARY)


def manifest_of(name: str) -> str | None:
    """Return the file that says that this one is there, or is it itself; None where none does."""
    folder, _, file = name.rpartition("/")
    top, key = name.split("/")[0], "/".join(name.split("/")[1:2])
    return {
        "selections": f"selections/{key}/manifest.json",
        "rounds": f"selections/{key}/manifest.json",
        "clusters": None if file.endswith(".png") else f"{folder}/clusters.json",
        "states": f"{folder}/state.safetensors" if file in _BESIDE_A_STATE else None,
        "models": f"models/{key}/training.json", "draws": f"draws/{key}/manifest.json",
        "mixtures": f"{folder}/manifest.json",
    }.get(top)  # fmt: skip


def to_remove(lake: Lake, names: Collection[str]) -> list[str]:
    """Return the files that have to go before something makes them again: manifests, then what is damaged.

    What was read of raw files stays, because it is published over; but for manifests, which would mislead.
    """
    manifests = [manifest for name in names if (manifest := manifest_of(name))]
    gone = [name for name in names if not name.startswith(OF_THE_RAW) or name.endswith(".json")]
    return [name for name in dict.fromkeys([*manifests, *gone]) if name != MARKER and (lake.root / name).is_file()]


def concerned(lake: Lake, runs: Collection[RunRecord], names: Collection[str]) -> list[RunRecord]:
    """Return the finished runs that made or used any of these files, or may have, oldest first."""
    names = [n for n in names if not n.startswith((*ON_DEMAND, "catalog.duckdb"))]
    paths = {_artefact(name) for name in names}
    references = References(lake, [asdict(run) for run in runs], held(lake))
    found = []
    for run in filter(can_be_repeated, runs) if names else ():
        try:
            needed = references.whole(asdict(run))
            lost = [f"selections/{s['selection']}" for s in run.steps] + [f"runs/{run.run}"]
            mine = any(needed.has(path) for path in paths) or any(n.startswith(tuple(lost)) for n in names)
        except (TamisError, KeyError, TypeError, ValueError):
            mine = True
        if mine or is_made_by(run, names) or any(name.startswith("runs/finished/") for name in names):
            found.append(run)
    return found


def exported_of(runs: Collection[RunRecord], names: Collection[str]) -> list[str]:
    """Return the files of mixtures of no run that can be done again: those of `tamis export` and `tamis replay`."""
    makers = list(filter(can_be_repeated, runs))
    return [n for n in names if n.startswith("mixtures/") and not any(is_made_by(run, [n]) for run in makers)]


def _artefact(name: str) -> str:
    """Return the artefact that a file belongs to, as `references` names it."""
    parts = name.split("/")
    if parts[0] == "features":
        return "/".join(parts[:3]) if len(parts) > 3 else "/".join(parts[:2])
    if parts[0] == "states" and parts[2].endswith(".safetensors") and len(parts[2]) > 40:
        return name
    if parts[0] == "clusters":
        return "/".join(parts[:3])
    if "snapshots" in parts:
        return "/".join(parts[: parts.index("snapshots") + 2])
    return name if parts[0] in ("corpora", "quarantine") else "/".join(parts[:2])


def is_config(name: str) -> bool:
    """Say whether a file is the configuration of a run, which its record has too."""
    return name.startswith("runs/") and name.endswith("/config.yaml")
