"""The shards, packs, snapshots and quarantine of a corpus, read again from raw files that are what they were.

Damaged shards lie where they were: what is read is published over them. Damaged manifests would mislead, so they have
been set aside. A raw file that changed or is gone cannot give its shards again, and that is said; what the others of
its snapshot gave is mended all the same.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from ..storage.errors import LakeError, TamisError
from ..storage.fingerprint import file_sha256
from ..storage.ingest import FileRecord, IngestOptions, Pack, load_packs, load_shards, pack_json, plan_packs, read_pack
from ..storage.inputs import InputFile, list_inputs
from ..storage.lake import Lake, readable_jsons
from ..storage.publish import publish_link
from ..storage.references import snapshots_of
from ..storage.snapshots import commit_snapshot
from .config import Config, Files
from .ingesting import ingest_options, target_corpus
from .runs import RunRecord


def mend_corpus(
    lake: Lake, corpus: str, entries: Collection[tuple[Files, Any]], runs: Collection[RunRecord],
    damaged: Collection[str],
) -> Iterator[str]:  # fmt: skip
    """Bring back what is missing or damaged of a corpus; yield what cannot be.

    `entries` are how configurations read it and the folders that their paths are below; `damaged` are names of files.
    """
    mending = _Corpus(lake, corpus, {ingest_options(e).key: (e, root) for e, root in entries}, frozenset(damaged))
    wanted = {key for run in runs for name, key in snapshots_of(asdict(run)) if name == corpus}
    wanted |= {path.parent.name for path in (lake.corpus(corpus) / "snapshots").glob("*/manifest.json")}
    newest = mending.newest(runs)
    failed: dict[str, list[str]] = {}
    for key in sorted(wanted | ({newest} if newest else set())):
        for problem in mending.snapshot(key):
            failed.setdefault(problem, []).append(key)
    for problem, keys in failed.items():
        yield f"snapshot {', '.join(keys)} of {corpus}: {problem}"
    pointer = lake.corpus(corpus) / "newest.json"
    if newest and (mending.is_lost(pointer) or mending.moved):
        lake.publish_json(pointer, {"snapshot": newest})


def entries_of(configs: Mapping[Any, Config], corpus: str) -> list[tuple[Files, Any]]:
    """Return how configurations, by a root each, read a corpus or target."""
    found = []
    for (root, _), config in configs.items():
        named: dict[str, Files] = {**config.corpora, **{target_corpus(n): t for n, t in config.targets.items()}}
        if corpus in named:
            found.append((named[corpus], root))
    return found


class _Corpus:
    """One corpus, and how its files are read."""

    def __init__(self, lake: Lake, corpus: str, entries: dict[str, tuple[Files, Any]], damaged: frozenset[str]) -> None:
        self._lake, self._corpus, self._entries, self._damaged = lake, corpus, entries, damaged
        self._packs = {
            path.stem: found for path, found in readable_jsons(sorted((lake.corpus(corpus) / "packs").glob("*.json")))
        }
        self._read: set[str] = set()
        self.moved = False
        """Whether a snapshot was committed, so that the newest is another."""

    def is_lost(self, path: Any) -> bool:
        """Say whether a file is not there, or not what was published."""
        return not path.exists() or path.relative_to(self._lake.root).as_posix() in self._damaged

    def newest(self, runs: Collection[RunRecord]) -> str | None:
        """Return the key of the newest snapshot; where that is lost, the one that the newest run saw."""
        pointer = self._lake.corpus(self._corpus) / "newest.json"
        if not self.is_lost(pointer):
            return next((str(found["snapshot"]) for _, found in readable_jsons([pointer])), None)
        seen = [key for run in runs for name, key in snapshots_of(asdict(run)) if name == self._corpus]
        return seen[-1] if seen else None

    def snapshot(self, key: str) -> Iterator[str]:
        """Bring back a snapshot and all that it refers to; yield what cannot be, once for each cause."""
        folder = self._lake.snapshot(self._corpus, key)
        manifest = folder / "manifest.json"
        found = None if self.is_lost(manifest) else next((f for _, f in readable_jsons([manifest])), None)
        if found is None:
            yield from self._tried(lambda: self._commit_present(key))
            return
        files = {f["name"]: FileRecord(**f) for f in found["files"]}
        problems: list[str] = []
        for pack in sorted(set(found["packs"].values())):
            of_it = [files[name] for name, of in found["packs"].items() if of == pack]
            problems += self._tried(partial(self._pack, pack, found["reader"], of_it))
        if not problems and self.is_lost(folder / "excluded.parquet"):
            problems += self._tried(lambda: self._commit_again(key, found, files))
        yield from dict.fromkeys(problems)

    def _tried(self, mend: Callable[[], object]) -> list[str]:
        """Do one thing; return why it could not be done, if so."""
        try:
            mend()
        except (TamisError, OSError) as error:
            return [str(error)]
        return []

    def _commit_again(self, key: str, found: Any, files: Mapping[str, FileRecord]) -> None:
        packs = {p.key: p for p in load_packs(self._lake, self._corpus, found["reader"])}
        pairs = [(files[name], packs[pack]) for name, pack in found["packs"].items()]
        self._commit(key, pairs, self._options(found["reader"]))

    def _pack(self, key: str, reader: str, files: list[FileRecord]) -> None:
        """Read the files of a pack again where anything of it is lost."""
        known = self._packs.get(key)
        if known is not None:
            files = [FileRecord(**f) for f in known["files"]]
            lost = [s for s in load_shards(self._lake, self._corpus, known["shards"]) if self.is_lost(s.path)]
            quarantine = self._lake.quarantine(self._corpus, key)
            is_whole = not lost and not (any(f.quarantined for f in files) and self.is_lost(quarantine))
            if is_whole:
                return
        if key in self._read:
            return
        options = self._options(reader)
        listed = self._unchanged([f for f in files if f.usable], reader)
        done = read_pack(self._lake, self._corpus, listed, replace(options, on_bad="quarantine"))
        self._read.add(key)
        if known is not None and {s["digest"] for s in known["shards"]} - {s.digest for s in done.shards}:
            raise LakeError("its raw files make other shards now")
        if done.key != key:  # their times moved
            self._rename(done, key, files)

    def _rename(self, done: Pack, key: str, files: list[FileRecord]) -> None:
        """Publish a pack under the name by which snapshots know it."""
        lake, corpus = self._lake, self._corpus
        source = lake.quarantine(corpus, done.key)
        if source.exists():
            publish_link(lake.quarantine(corpus, key), source, lake.scratch)
        lake.publish_json(lake.pack(corpus, key), pack_json(Pack(key, done.reader, tuple(files), done.shards)))

    def _unchanged(self, files: list[FileRecord], reader: str) -> list[InputFile]:
        """Return the raw files as they lie there. Raises LakeError where one of them changed or is gone."""
        entry, root = self._entries[reader]
        listed = {file.name: file for file in list_inputs(entry.files, root)}
        for file in files:
            now = listed.get(file.name)
            if now is None:
                raise LakeError(f'the raw file "{file.name}" is gone, and what was read of it with it')
            if not file.is_still(now) and (now.size != file.size or file_sha256(now.path) != file.sha256):
                raise LakeError(f'the raw file "{file.name}" changed, so what was read of it cannot be had again')
        return [listed[file.name] for file in files]

    def _options(self, reader: str) -> IngestOptions:
        if reader not in self._entries:
            raise LakeError("no configuration says how its files were read; name one with --config")
        return ingest_options(self._entries[reader][0])

    def _commit_present(self, key: str) -> None:
        """Make a snapshot again whose manifest is lost: that of the present files it has to be, of those of one reader.

        Raises LakeError where it is none of them.
        """
        for reader, (entry, root) in self._entries.items():
            options = ingest_options(entry)
            files = list_inputs(entry.files, root)
            pairs: list[tuple[FileRecord, Pack]] = []
            for pack in load_packs(self._lake, self._corpus, reader):
                pairs += [(f, pack) for f in pack.files if any(f.name == now.name and f.is_still(now) for now in files)]
            missing = [now for now in files if now.name not in {f.name for f, _ in pairs}]
            for group in plan_packs(missing):
                done = read_pack(self._lake, self._corpus, group, options)
                pairs += [(f, done) for f in done.files]
            if self._commit(key, list({f.name: (f, pack) for f, pack in pairs}.values()), options):
                return
        raise LakeError("its manifest is lost, and the raw files that there are now make another snapshot")

    def _commit(self, key: str, pairs: list[tuple[FileRecord, Pack]], options: IngestOptions) -> bool:
        self.moved = True
        return commit_snapshot(self._lake, self._corpus, pairs, options).key == key
