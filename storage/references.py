"""What lies in a lake, and what refers to what: said here once, for `tamis clean` and `tamis verify`.

An artefact is a file or folder of the lake, named by its path below the root. A run refers to its snapshots,
selections, draw and models, which its record names, and to the features, states and scores that its steps used: runs
and selections note them as they come to them (`Lake.used`). A selection does, because one that is there is not computed
again, and then nobody asks for its features. A snapshot refers to packs, and these to shards and quarantine.

`decisions` are what `tamis explain` needs to say why a document is in or out; `whole` is what the run computed beside.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .errors import LakeError
from .fingerprint import fingerprint
from .lake import USES, Lake, read_json, read_jsons
from .listings import Listing
from .places import is_local
from .published import readable_jsons
from .snapshots import corpora, load_snapshot, newest, packs_of
from .survivors import Survivors

Run = Mapping[str, Any]
"""A run's record, as `run.json` has it."""


class Kind(NamedTuple):
    """A kind of artefact."""

    name: str
    pattern: str
    """Of its files or folders, below the root."""
    first: str = ""
    """The file that goes before all others, because it says that they are there."""
    last: str = ""
    """The file that goes after all others, because it says what they are."""

    def step(self, file: str) -> int:
        """Return when a file of it goes: before most others, with them, or after them."""
        return {self.first: -1, self.last: 1, "": 0}.get(file.rpartition("/")[2], 0)


KINDS = (
    Kind("runs", "runs/finished/*.json"),
    Kind("runs", "runs/[0-9]*", "run.json"),
    Kind("plans", "plans/*.json"),
    Kind("proxies", "proxies/*.json"),
    Kind("draws", "draws/*", "manifest.json"),
    Kind("clusters", "clusters/*/*", "clusters.json"),
    Kind("rounds", "rounds/*"),
    Kind("selections", "selections/*", "manifest.json"),
    Kind("scores", "scores/*"),
    Kind("summaries", "states/*/????????????????????????????????.safetensors"),
    Kind("states", "states/*"),
    Kind("models", "models/*", "training.json"),
    Kind("training", "training/*"),
    Kind("features", "features/*/*/"),
    Kind("features", "features/*", last="feature.json"),
    Kind("snapshots", "corpora/**/snapshots/*", "manifest.json"),
    Kind("packs", "corpora/**/packs/*.json"),
    Kind("quarantine", "quarantine/**/*.parquet"),
    Kind("shards", "corpora/**/shards/*.parquet"),
)
"""In the order in which they can be removed: what refers to others before what it refers to. Mixtures are none of them:
nothing removes these."""
_SUMMARY = re.compile(r"(states/[^/]+)/([0-9a-f]{32})\.safetensors")
_PART = re.compile(r"(features/[^/]+)/([^/]+)")


@dataclass
class Needed:
    """The artefacts that some runs refer to, and how far that is known."""

    paths: set[str] = field(default_factory=set)
    shards: set[str] = field(default_factory=set)
    """Whose feature values are wanted."""
    documents: set[str] = field(default_factory=set)
    """Names of the rows of a shard that a step saw: whose summaries are wanted; and of all rows that one saw."""
    unknown: list[str] = field(default_factory=list)
    """Selections of an older tamis, which does not say what they used: nothing of a kind that they may use can go."""

    def has(self, path: str) -> bool:
        """Say whether an artefact is among them."""
        if found := _SUMMARY.fullmatch(path):
            return self._used(found[1]) and (found[2] in self.documents or bool(self.unknown))
        if found := _PART.fullmatch(path):
            return self._used(found[1]) and found[2] in self.shards
        return path in self.paths or self._used(path)

    def _used(self, path: str) -> bool:
        return path in self.paths or (bool(self.unknown) and path.partition("/")[0] in USES)

    def __ior__(self, other: "Needed") -> "Needed":
        self.paths |= other.paths
        self.shards |= other.shards
        self.documents |= other.documents
        self.unknown += other.unknown
        return self


class References:
    """What the runs and snapshots of a lake refer to; manifests are read once, from a store many at a time."""

    def __init__(self, lake: Lake, runs: Iterable[Run], there: Listing) -> None:
        self._lake = lake
        self._there = there
        self._manifests: dict[str, Any] = {}
        self._runs = {run["run"]: run for run in runs}
        self.snapshot = cache(self._snapshot)
        self._selection = cache(self._of_selection)
        self._seen = cache(self._documents)

    def newest(self) -> Needed:
        """Return what the newest snapshot of every corpus refers to, and itself."""
        found = Needed()
        for corpus in corpora(self._lake):
            if snapshot := newest(self._lake, corpus):
                found |= self.snapshot(corpus, snapshot.key)
        return found

    def decisions(self, run: Run) -> Needed:
        """Return a run and what decides about its documents: snapshots, selections and draw, of its flows too."""
        found = Needed(paths={f"runs/{run['run']}"})
        for corpus, key in snapshots_of(run):
            found.paths |= self.snapshot(corpus, key).paths
        for step in run["steps"]:
            found.paths |= self._selected(step["selection"])
        if draw := (run.get("mixture") or {}).get("draw"):
            found.paths.add(f"draws/{draw}")
        for flow in self._flows(run):
            found |= self.decisions(flow)
        return found

    def whole(self, run: Run) -> Needed:
        """Return all that a run refers to."""
        found = self.decisions(run)
        found.paths |= set(self._uses(f"runs/{run['run']}") or ())
        found.paths |= {f"models/{model['key']}" for model in run.get("models") or ()}
        found.paths |= {f"features/{run['tokens_key']}"} if run.get("tokens_key") else set()
        for corpus, key in snapshots_of(run):
            found |= self.snapshot(corpus, key)
            found.documents |= self._seen(corpus, key)
        for step in run["steps"]:
            found |= self._selection(step["selection"])
        for flow in self._flows(run):
            found |= self.whole(flow)
        return found

    def published(self) -> Needed:
        """Return what explains the documents of the mixtures that lie in the lake."""
        found = Needed()
        for manifest in read_jsons(sorted((self._lake.root / "mixtures").glob("*/*/manifest.json"))):
            if draw := manifest.get("draw"):
                found.paths.add(f"draws/{draw}")
            if run := self._runs.get(manifest["run"]):
                found |= self.decisions(run)
        return found

    def _flows(self, run: Run) -> list[Run]:
        names = ((run.get("mixture") or {}).get("runs") or {}).values()
        return [self._runs[name] for name in names if name in self._runs]

    def _snapshot(self, corpus: str, key: str) -> Needed:
        folder = self._lake.snapshot(corpus, key)
        found = Needed(paths={self._name(folder)})
        if f"{self._name(folder)}/manifest.json" not in self._there.files:
            return found
        snapshot = load_snapshot(self._lake, corpus, key)
        found.shards = {shard.digest for shard in snapshot.shards}
        found.paths |= {self._name(shard.path) for shard in snapshot.shards}
        for pack in set(packs_of(self._lake, snapshot).values()):
            found.paths |= self.pack(corpus, pack)
        return found

    def of(self, path: str) -> Needed:
        """Return what a snapshot, pack or selection refers to, and itself."""
        folder, _, name = path.rpartition("/")
        corpus = folder.removeprefix("corpora/").rpartition("/")[0]
        if folder == "selections":
            return self._selection(name)
        if folder.endswith("/packs"):
            return Needed(paths=self.pack(corpus, name.removesuffix(".json")))
        return self.snapshot(corpus, name)

    def pack(self, corpus: str, key: str) -> set[str]:
        """Return a pack, and the shards and quarantine of its files."""
        path = self._lake.pack(corpus, key)
        shards = (self._read(self._name(path), "corpora/**/packs/*.json") or {}).get("shards", ())
        files = [path, self._lake.quarantine(corpus, key), *(self._lake.shard(corpus, s["digest"]) for s in shards)]
        return {self._name(file) for file in files}

    def _selected(self, key: str) -> set[str]:
        """Return a selection, its rounds and its clusters."""
        return {f"selections/{key}", f"rounds/{key}", self._name(self._lake.clusters(key))}

    def _of_selection(self, key: str) -> Needed:
        folder, found = f"selections/{key}", Needed(paths=self._selected(key))
        if manifest := self._read(f"{folder}/manifest.json", "selections/*/manifest.json"):
            digests = manifest["shards"]
            found.documents = {*digests.values(), fingerprint(sorted(digests.values()))}
            uses = self._uses(folder)
            found.paths |= set(uses or ())
            found.unknown = [folder] if uses is None else []
        return found

    def _uses(self, folder: str) -> list[str] | None:
        found: list[str] | None = self._read(f"{folder}/uses.json", f"{folder.partition('/')[0]}/*/uses.json")
        return found

    def _read(self, name: str, like: str) -> Any | None:
        """Return a manifest, None where it is not there; all of a store that are like it are read with it.

        Raises LakeError where it is damaged.
        """
        if name not in self._there.files:
            return None
        if name not in self._manifests:
            names = [name] if is_local(self._lake.root) else list(self._there.glob(like))
            found = readable_jsons([self._lake.root / other for other in names])
            self._manifests |= {self._name(path): content for path, content in found}
        if name not in self._manifests:
            return read_json(self._lake.root / name)  # it says what is damaged
        return self._manifests[name]

    def _documents(self, corpus: str, key: str) -> set[str]:
        """Return the names of a snapshot's documents, by shard and as a whole."""
        try:
            survivors = Survivors.of(load_snapshot(self._lake, corpus, key))
            return {*survivors.digests.values(), survivors.digest}
        except LakeError:
            return set()

    def _name(self, path: Path) -> str:
        return path.relative_to(self._lake.root).as_posix()


def snapshots_of(run: Run) -> Iterator[tuple[str, str]]:
    """Yield corpus and key of each snapshot that a run saw."""
    if run.get("snapshot"):
        yield run["corpus"], run["snapshot"]
    yield from ((f"targets/{name}", found["snapshot"]) for name, found in (run.get("targets") or {}).items())
    yield from ((run.get("mixture") or {}).get("corpora") or {}).items()
