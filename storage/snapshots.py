"""Snapshots: what a corpus was when a run saw it, as a list of shards.

A snapshot never copies: a changed file makes new shards, its old rows are listed in `excluded.parquet`, and so are
records whose id another record has (the one with the smallest content stays, whatever the order of files). That check
is one out-of-core query a snapshot.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import LakeError
from .fingerprint import TableDigest, fingerprint
from .ingest import FileRecord, IngestOptions, Pack, load_packs, load_shards, stat_of
from .inputs import InputFile
from .lake import Lake, read_json
from .locked_duckdb import lock
from .manifest_shapes import known
from .places import open_to_duckdb
from .publish import temporary_path
from .readers import Map
from .schema import EXCLUDED
from .seen_files import Digested, digest_file
from .shards import Mask, Shard


@dataclass(frozen=True)
class Snapshot:
    """A corpus at one time: its shards, its files, and what became of every record."""

    lake: Lake
    corpus: str
    key: str
    reader: str
    """Name of the options that its files were read with."""
    shards: tuple[Shard, ...]
    files: tuple[FileRecord, ...]
    counts: Mapping[str, int]
    """records = documents + quarantined + excluded, and `repaired` documents, `superseded` rows of no file any more."""

    @cached_property
    def _excluded(self) -> dict[str, Any]:
        table = self.lake.table(self.lake.snapshot(self.corpus, self.key) / "excluded.parquet", ["shard", "row"])
        groups = table.group_by("shard").aggregate([("row", "list")])
        rows = (found.values.to_numpy() for found in groups.column("row_list"))  # never as Python's own numbers
        return dict(zip(groups.column("shard").to_pylist(), rows, strict=True))

    def mask(self, shard: Shard) -> Mask:
        """Say which rows of a shard are documents of this snapshot."""
        mask = np.ones(shard.rows, dtype=np.bool_)
        if shard.digest in self._excluded:
            mask[self._excluded[shard.digest]] = False
        return mask


@dataclass(frozen=True)
class ReadingPlan:
    """Which listed files are known, and which have to be read."""

    reused: tuple[tuple[FileRecord, Pack], ...]
    unread: tuple[InputFile, ...]
    digests: Mapping[str, Digested]
    """Of the files that could not be trusted and may yet be known, by name."""


def plan_reading(
    lake: Lake, corpus: str, files: Sequence[InputFile], options: IngestOptions, rehash: bool = False, map: Map = map
) -> ReadingPlan:
    """Match listed files with what was read before.

    A file whose size, mtime and inode are those of its record is trusted, unless `rehash`; any other that may be known
    is digested, by `map`.
    """
    known: dict[str, list[tuple[FileRecord, Pack]]] = {}
    for pack in load_packs(lake, corpus, options.key):
        for record in pack.files:
            if record.usable:
                known.setdefault(record.name, []).append((record, pack))
    last = newest(lake, corpus)
    latest = {f.name: f for f in last.files} if last else {}
    found: dict[str, tuple[FileRecord, Pack] | None] = {}
    if not rehash:
        found = {f.name: _trusted(f, known.get(f.name, []), latest.get(f.name)) for f in files}
    doubtful = [f for f in files if not found.get(f.name) and _may_be(f, known.get(f.name, []))]
    digests = dict(zip((f.name for f in doubtful), map(digest_file, doubtful), strict=True)) if doubtful else {}
    for file in doubtful:
        found[file.name] = _of_bytes(file, known[file.name], digests[file.name].sha256)
    reused = tuple(pair for file in files if (pair := found.get(file.name)))
    return ReadingPlan(reused, tuple(file for file in files if not found.get(file.name)), digests)


def _trusted(
    file: InputFile, candidates: list[tuple[FileRecord, Pack]], latest: FileRecord | None
) -> tuple[FileRecord, Pack] | None:
    """Find the record of a file by its stat; two readings with one stat and other bytes are told apart by the newest.

    A digest may have found the bytes of an old reading under a new stat, which only the newest snapshot knows.
    """
    if latest and latest.is_still(file):
        same = ((latest, p) for r, p in candidates if (r.sha256, r.below) == (latest.sha256, latest.below))
        if found := next(same, None):
            return found
    still = [(record, pack) for record, pack in candidates if record.is_still(file)]
    return still[0] if len({record.sha256 for record, _ in still}) == 1 else None


def _may_be(file: InputFile, candidates: list[tuple[FileRecord, Pack]]) -> bool:
    return any(record.below == file.below and record.size == file.size for record, _ in candidates)


def _of_bytes(
    file: InputFile, candidates: list[tuple[FileRecord, Pack]], sha256: str
) -> tuple[FileRecord, Pack] | None:
    """Find the record of a file by its bytes."""
    same = ((r, p) for r, p in candidates if r.below == file.below and r.sha256 == sha256)
    return next(((replace(r, **stat_of(file)), p) for r, p in same), None)


def commit_snapshot(
    lake: Lake, corpus: str, files: Iterable[tuple[FileRecord, Pack]], options: IngestOptions
) -> Snapshot:
    """Publish the snapshot that consists of these files; the same files give the same snapshot."""
    live = sorted(files, key=lambda pair: pair[0].name)
    packs = {pack.key: pack for _, pack in live}
    ordered = _in_file_order(packs.values())
    excluded = _superseded(ordered, live)
    n_superseded = excluded.num_rows
    repeated = _repeated_ids(lake, ordered, excluded)
    excluded = pa.concat_tables([excluded, repeated]).combine_chunks()
    records = [record for record, _ in live]
    counts = _counts(records, repeated.num_rows, n_superseded)
    digest = TableDigest(EXCLUDED)
    digest.update(excluded)
    read = [[f.name, f.sha256, f.documents, f.quarantined] for f in records]
    key = fingerprint([[s.digest for s in ordered], digest.hexdigest(), read])
    snapshot = Snapshot(lake, corpus, key, options.key, tuple(ordered), tuple(records), counts)
    lake.publish_table(lake.snapshot(corpus, key) / "excluded.parquet", excluded)
    lake.publish_json(
        lake.snapshot(corpus, key) / "manifest.json",
        _manifest(snapshot, {record.name: pack.key for record, pack in live}),
    )
    lake.publish_json(lake.corpus(corpus) / "newest.json", {"snapshot": key})
    return snapshot


def _in_file_order(packs: Iterable[Pack]) -> list[Shard]:
    """Return each shard once, by its first file, and the shards of a large file in the order of its rows."""
    placed = {s.digest: (s.spans[0].file, i, s.digest, s) for pack in packs for i, s in enumerate(pack.shards)}
    return [entry[3] for entry in sorted(placed.values(), key=lambda entry: entry[:3])]


def _counts(files: list[FileRecord], repeated: int, superseded: int) -> dict[str, int]:
    rows = sum(f.documents for f in files)
    quarantined = sum(f.quarantined for f in files)
    return {
        "records": rows + quarantined,
        "documents": rows - repeated,
        "quarantined": quarantined,
        "excluded": repeated,
        "superseded": superseded,
        "repaired": sum(f.repaired for f in files),
        "files": len(files),
    }


def _manifest(snapshot: Snapshot, packs: dict[str, str]) -> dict[str, Any]:
    shards = [{k: v for k, v in asdict(s).items() if k != "path"} for s in snapshot.shards]
    return {
        "corpus": snapshot.corpus,
        "snapshot": snapshot.key,
        "reader": snapshot.reader,
        "packs": packs,
        "shards": shards,
        "files": [asdict(f) for f in snapshot.files],
        "counts": dict(snapshot.counts),
    }


def load_snapshot(lake: Lake, corpus: str, key: str) -> Snapshot:
    """Return a published snapshot. Raises LakeError where it is damaged or missing."""
    found = read_json(lake.snapshot(corpus, key) / "manifest.json")
    files = tuple(FileRecord(**known(FileRecord, f)) for f in found["files"])
    shards = load_shards(lake, corpus, found["shards"])
    return Snapshot(lake, corpus, key, found["reader"], shards, files, found["counts"])


def newest(lake: Lake, corpus: str) -> Snapshot | None:
    """Return the snapshot that was committed last, or None before the first, or where a file of it was removed."""
    pointer = lake.corpus(corpus) / "newest.json"
    if not pointer.exists():
        return None
    key = read_json(pointer)["snapshot"]
    whole = all((lake.snapshot(corpus, key) / name).exists() for name in ("manifest.json", "excluded.parquet"))
    return load_snapshot(lake, corpus, key) if whole else None


def packs_of(lake: Lake, snapshot: Snapshot) -> dict[str, str]:
    """Return for each file of a snapshot the key of the pack that it was read in."""
    found: dict[str, str] = read_json(lake.snapshot(snapshot.corpus, snapshot.key) / "manifest.json")["packs"]
    return found


def corpora(lake: Lake) -> list[str]:
    """Return the names of all corpora and targets that have a snapshot."""
    root = lake.root / "corpora"
    return sorted(p.parent.relative_to(root).as_posix() for p in root.glob("**/newest.json"))


def _superseded(shards: list[Shard], live: Sequence[tuple[FileRecord, Pack]]) -> pa.Table:
    """List the rows of files that are gone, or were read again since.

    A row is live where any of its shard's packs has it as a row of a live file: two readings of a file that only grew
    may have made the same first shard.
    """
    usable = {(pack.key, record.name) for record, pack in live if record.usable}
    packs = {pack.key: pack for _, pack in live}.values()
    every = ((pack.key, shard, span) for pack in packs for shard in pack.shards for span in shard.spans)
    spans = {(shard.digest, span.start) for key, shard, span in every if (key, span.file) in usable}
    tables = []
    for shard in shards:
        dead = [p for p in shard.spans if (shard.digest, p.start) not in spans]
        if dead:
            row = pa.array([r for p in dead for r in range(p.start, p.start + p.rows)], pa.int64())
            ids = shard.read_column("doc_id").take(row)
            tables.append(_exclusions([shard.digest] * len(row), row, ids, "superseded file", [None] * len(row)))
    return pa.concat_tables([EXCLUDED.empty_table(), *tables])


def _exclusions(shard: Any, row: Any, doc_id: Any, reason: str, ref: Any) -> pa.Table:
    columns = [shard, row, doc_id, [reason] * len(row), ref]
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, f.type) for c, f in zip(columns, EXCLUDED, strict=True)]
    return pa.table(arrays, schema=EXCLUDED)


_REPEATED = """
with rows as (
    select parse_filename(filename, true) as shard, file_row_number as row, doc_id, text_hash, source, meta, file, line
    from read_parquet($files, filename = true, file_row_number = true)
    where doc_key in (select doc_key from read_parquet($files) group by doc_key having count(*) > 1)
), live as (
    select * from rows anti join superseded using (shard, row)
), ordered as (
    select *, row_number() over same as place,
           first_value(file || coalesce(':' || line, '')) over same as stays
    from live window same as (partition by doc_id order by text_hash, source, meta, file, line, shard, row)
)
select shard, row, doc_id, stays from ordered where place > 1 order by shard, row
"""


def _repeated_ids(lake: Lake, shards: Sequence[Shard], superseded: pa.Table) -> pa.Table:
    """List every record whose id belongs to another record, with a bounded memory."""
    if not shards:
        return EXCLUDED.empty_table()
    spill = temporary_path(lake.scratch, "spill")
    try:
        with duckdb.connect(config={**lake.memory.query_config, "temp_directory": str(spill)}) as connection:
            open_to_duckdb(connection, lake.root)
            lock(connection, lake, {shard.path.parent for shard in shards})  # a plan looks at those of another lake
            connection.register("superseded", superseded.select(["shard", "row"]))
            found = connection.sql(_REPEATED, params={"files": [str(s.path) for s in shards]}).to_arrow_table()
    except duckdb.Error as error:
        raise LakeError(
            f"the shards cannot be searched for repeated ids: {error}; `tamis repair` mends damage"
        ) from error
    finally:
        shutil.rmtree(spill, ignore_errors=True)
    columns = [found.column(c).combine_chunks() for c in ("shard", "row", "doc_id", "stays")]
    shard, row, doc_id, stays = (pc.cast(c, f) for c, f in zip(columns, _TYPES, strict=True))
    return _exclusions(shard, row, doc_id, "repeated id", stays)


_TYPES = (pa.string(), pa.int64(), pa.string(), pa.string())
