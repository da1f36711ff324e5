"""The stage that turns raw files into a snapshot, and the target sets with their held-out part."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import numpy as np

from ..selectors.keyed import stream_key, uniform
from ..storage.errors import InputError
from ..storage.ingest import FileRecord, IngestOptions, Pack, first_bad, plan_packs, read_pack, refuse
from ..storage.inputs import InputFile, list_inputs
from ..storage.lake import Lake
from ..storage.readers import VANISHED, ReadOptions
from ..storage.references import snapshots_of
from ..storage.seen_files import seen_table
from ..storage.shards import ROW_GROUP_BYTES, Mask, Shard
from ..storage.snapshots import ReadingPlan, Snapshot, commit_snapshot, load_snapshot, newest, plan_reading
from ..storage.survivors import Survivors
from .config import Files, TargetSet
from .engine import Threads
from .room import TEXT_PACKED
from .runs import Stage
from .work import Work

PACKED = {".gz", ".gzip", ".zst", ".zstd", ".parquet"}


def target_corpus(name: str) -> str:
    """Return the name under which a target set lies in the lake."""
    return f"targets/{name}"


def ingest_options(entry: Files) -> IngestOptions:
    """Return how the files of an entry are read."""
    read = ReadOptions(
        text=entry.fields.text, id=entry.fields.id, source=entry.fields.source, format=entry.format, file_id=entry.id,
        max_record_bytes=entry.max_record_bytes, max_ratio=entry.max_ratio,
        max_unpacked_bytes=entry.max_unpacked_bytes,
    )  # fmt: skip
    row_group = min(ROW_GROUP_BYTES, entry.shard_bytes)
    return IngestOptions(read, entry.on_bad, entry.shard_bytes, row_group)


def ingest(work: Work, corpus: str, entry: Files) -> Snapshot:
    """Read what is new or changed, and commit a snapshot of all files that there are now."""
    if work.mending:
        return load_snapshot(work.lake, corpus, dict(snapshots_of(asdict(work.mending)))[corpus])
    options = ingest_options(entry)
    files = list_inputs(entry.files, work.root)

    def read_new(stage: Stage) -> Snapshot:
        digesting = partial(work.map, f"digest {corpus}")
        with stage.looking():
            plan = plan_reading(work.lake, corpus, files, options, entry.rehash, digesting)
        work.log.seen(corpus, seen_table(files, plan.digests, plan.unread))
        _refuse_known(work, corpus, plan, options)
        work.expect(stage, _shard_bytes(plan.unread))
        fresh = _read(work, corpus, plan, options)
        stage.computed, stage.reused = len(fresh), len(plan.reused)
        last = None if fresh else unchanged(work.lake, corpus, files, options)
        if last and {f.name: f.sha256 for f in last.files} == {f.name: f.sha256 for f, _ in plan.reused}:
            return last
        return commit_snapshot(work.lake, corpus, [*plan.reused, *fresh], options)

    snapshot = work.stage(f"ingest {corpus}", read_new)
    if missing := [file.name for file in snapshot.files if not file.usable]:
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        work.log.warn(
            f"{len(missing):,} files of {corpus} could not be read to the end ({names}): none of their documents is in "
            "it; the next run reads them again"
        )
    return snapshot


def _shard_bytes(unread: Sequence[InputFile]) -> float:
    """Return what shards of these files take, about: what is compressed stays as large."""
    packed = sum(file.size for file in unread if file.path.suffix in PACKED)
    return packed + TEXT_PACKED * (sum(file.size for file in unread) - packed)


def _read(work: Work, corpus: str, plan: ReadingPlan, options: IngestOptions) -> list[tuple[FileRecord, Pack]]:
    """Read packs side by side, and where there are fewer than workers, each with several threads."""
    name, packs = f"ingest {corpus}", plan_packs(plan.unread)
    digests = {file: digest.sha256 for file, digest in plan.digests.items()}
    ahead = int(work.lake.memory.row_groups_ahead * work.engine.share(len(packs), name))
    with work.engine.inner_map() as inner:

        def read(pack: list[InputFile]) -> list[tuple[FileRecord, Pack]]:
            done = read_pack(work.lake, corpus, pack, options, inner, ahead, digests)
            return [(record, done) for record in done.files]

        fresh = [pair for pairs in work.map(name, read, packs) for pair in pairs]
    _refuse_unshared(work, corpus, packs, fresh)
    return fresh


def _refuse_unshared(
    work: Work, corpus: str, packs: list[list[InputFile]], fresh: list[tuple[FileRecord, Pack]]
) -> None:
    """Stop where a worker did not find a file that is here. Raises InputError: else all of it would be quarantined."""
    here = {file.name: file.path for files in packs for file in files}
    for record, pack in () if isinstance(work.engine, Threads) else fresh:
        bad = None if record.usable else first_bad(work.lake, corpus, pack, record.name)
        if bad and bad.reason == VANISHED and here[record.name].exists():
            raise InputError(
                f'{record.name}: a worker of the cluster does not see "{here[record.name]}"; the raw files of a run on '
                "Ray lie on storage that all machines share, under the same path"
            )


def _refuse_known(work: Work, corpus: str, plan: ReadingPlan, options: IngestOptions) -> None:
    """Stop at a bad record that an earlier run put aside, where this one says `on_bad: fail`. Raises InputError."""
    for record, pack in plan.reused if options.on_bad == "fail" else ():
        if record.quarantined and (bad := first_bad(work.lake, corpus, pack, record.name)):
            refuse(bad, options)


def unchanged(lake: Lake, corpus: str, files: list[InputFile], options: IngestOptions) -> Snapshot | None:
    """Return the newest snapshot where it was read with these options from exactly these files, by their stat alone."""
    last = newest(lake, corpus)
    if last is None or last.reader != options.key or len(last.files) != len(files):
        return None
    by_name = {f.name: f for f in last.files}
    same = all(f.name in by_name and by_name[f.name].usable and by_name[f.name].is_still(f) for f in files)
    return last if same else None


def visible_target(snapshot: Snapshot, entry: TargetSet, name: str) -> Survivors:
    """Return the documents of a target that selectors may see: all but the held-out share, which is keyed by text."""
    everything = Survivors.of(snapshot)
    if not entry.holdout:
        return everything
    key = stream_key(0, name, "holdout")  # not the flow's seed: a text is held out for good

    def seen(shard: Shard) -> Mask:
        hashes = np.frombuffer(b"".join(h[:8] for h in shard.read_column("text_hash").to_pylist()), dtype="<u8")
        mask: Mask = uniform(hashes.astype(np.uint64), key) >= entry.holdout
        return mask

    return everything.narrowed(seen)
