"""The keyed sample that a plan is made on: documents by the number of their *text*, so that copies come together.

A sample by id would miss nearly all copies (of a pair both are in 1% of the documents once in ten thousand), and
everything after a deduplication would be planned ten times too large where there are ten copies. So the corpus is
looked through once: row groups that are in the lake, raw files that are not. Of more than `RAW_LOOKED_AT` bytes of raw
files, or `TEXT_LOOKED_AT` of text in the lake, a keyed part is looked through, spread over all files, and copies
outside it are not seen. The sample lies on disk, by its numbers, so that a trial takes any range of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.keyed import stream_key, uniform
from ..storage.documents import IdMaker, doc_key, text_hashes
from ..storage.fingerprint import fingerprint
from ..storage.ingest import FileRecord, IngestOptions, Pack, pack_json, stat_of
from ..storage.inputs import InputFile
from ..storage.lake import Lake
from ..storage.raw_slices import is_cut_through, slice_file
from ..storage.readers import BadRecord, read_records
from ..storage.schema import RECORD
from ..storage.shards import Shard, ShardWriter
from ..storage.shuffle import MOST_PARTITIONS, Shuffle
from ..storage.snapshots import Snapshot, commit_snapshot
from ..storage.survivors import Survivors
from .work import Work

SAMPLED_BYTES = 192 << 20
"""Text of the sample at most."""
RAW_LOOKED_AT, TEXT_LOOKED_AT = 1 << 30, 4 << 30
SLICE_BYTES = 1 << 20
"""Of a raw file at least so much is looked at, if any."""
SAMPLED = pa.schema([*RECORD, pa.field("file", pa.string()), pa.field("number", pa.float64())])
_PARTITIONS = min(64, MOST_PARTITIONS)
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Amount:
    """How much a step has before it."""

    documents: float = 0
    bytes: float = 0
    tokens: float = 0


@dataclass(frozen=True)
class Known:
    """What of the corpus is in the lake, and which files are not."""

    survivors: Survivors
    unread: tuple[InputFile, ...]

    @property
    def amount(self) -> Amount:
        """Documents and bytes that are in the lake."""
        shards, documents = self.survivors.shards, self.survivors.n_documents
        rows, n_bytes = sum(s.rows for s in shards), sum(s.n_bytes for s in shards)
        return Amount(documents, n_bytes * documents / max(1, rows))


@dataclass(frozen=True)
class Sample:
    """Documents with the smallest numbers, and what the look through the corpus found."""

    shuffle: Shuffle
    key: int
    limit: float
    """Every text that was looked at and has a number below it is in."""
    whole: Amount
    """Documents and bytes of the corpus, exact where all of it was looked at."""
    quarantined: float
    looked_at: float
    """Share of the corpus, by bytes."""
    text_a_byte: float
    """Text in a byte of the raw files."""
    n_bytes: int
    """Of the sample."""

    def rows(self, low: float, high: float) -> pa.Table:
        """Return the documents with a number from `low` on and below `high`, file after file."""
        first, last = (int(x / self.limit * _PARTITIONS) for x in (low, high))
        tables = [self.shuffle.partition(n) for n in range(first, min(last, _PARTITIONS - 1) + 1)]
        table = pa.concat_tables([SAMPLED.empty_table(), *tables])
        number = table.column("number").to_numpy()
        table = table.filter(pa.array((number >= low) & (number < high)))
        return table.sort_by([("file", "ascending"), ("line", "ascending"), ("number", "ascending")])


def look(
    work: Work, known: Known, options: IngestOptions, scratch: Path, shuffle: Shuffle, text_a_byte: float
) -> Sample:
    """Look through a corpus and fill `shuffle` with its sample; `text_a_byte` is what raw files were found to hold."""
    key = stream_key(work.config.seed, "plan", "texts")
    shards, raw = (
        _shards(known.survivors, key),
        _slices(known.unread, RAW_LOOKED_AT, SLICE_BYTES, scratch, options, key),
    )
    seen_text = sum(shard.n_bytes for shard in shards) + text_a_byte * sum(file.size for file in raw)
    limit = min(1.0, SAMPLED_BYTES / max(1.0, seen_text))
    items = [(shard, group) for shard in shards for group in range(len(shard.row_groups))]
    found_known, found_raw = _Found(limit, key), _Found(limit, key)
    with work.engine.inner_map() as inner:
        for found in work.map("look at the lake", lambda i: found_known.of_group(known.survivors, *i), items):
            found_known.add(found, shuffle)
        for found in work.map("look at raw files", lambda f: found_raw.of_file(f, options, inner), raw):
            found_raw.add(found, shuffle)
    shuffle.close()
    n_raw = sum(file.size for file in known.unread)
    scale = n_raw / max(1, sum(file.size for file in raw))
    is_cut = sum(file.path.parent == scratch and is_cut_through(file) for file in raw)
    there = known.amount
    whole = Amount(there.documents + scale * found_raw.documents, there.bytes + scale * found_raw.n_bytes)
    seen = found_known.n_bytes + found_raw.n_bytes
    looked_at = min(1.0, seen / whole.bytes if whole.bytes else 1 / max(1.0, scale))
    return Sample(
        shuffle, key, limit, whole, scale * max(0, found_raw.bad - is_cut), looked_at, text_a_byte,
        found_known.kept_bytes + found_raw.kept_bytes,
    )  # fmt: skip


@dataclass
class _Found:
    """What one kind of source holds."""

    limit: float
    key: int
    documents: int = 0
    n_bytes: int = 0
    bad: int = 0
    kept_bytes: int = 0

    def of_group(self, survivors: Survivors, shard: Shard, group: int) -> tuple[int, int, int, list[pa.Table]]:
        """Return documents, bytes, bad records and the sample of a row group."""
        start, n = shard.row_groups[group]
        inside = survivors.mask(shard)[start : start + n]
        about = shard.read_group(group, ["text_hash", "n_bytes"])
        number = _numbers(about.column("text_hash").to_pylist(), self.key)
        wanted = pa.array(inside & (number < self.limit))
        kept = []
        if pc.any(wanted).as_py():
            batch = shard.read_group(group, [*RECORD.names, "file"])
            kept = [_sampled(batch, number, batch.column("file"), wanted)]
        return int(inside.sum()), int(about.column("n_bytes").to_numpy()[inside].sum()), 0, kept

    def of_file(self, file: InputFile, options: IngestOptions, inner: Any) -> tuple[int, int, int, list[pa.Table]]:
        """Return the same of a raw file."""
        documents = n_bytes = bad = 0
        kept = []
        for batch in read_records(file, options.read, inner):
            if isinstance(batch, BadRecord):
                bad += 1
                continue
            documents += batch.num_rows
            n_bytes += int(pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0)
            number = _numbers(text_hashes(batch.column("text")), self.key)
            file_names = pa.repeat(pa.scalar(file.name, pa.string()), batch.num_rows)
            kept.append(_sampled(batch, number, file_names, pa.array(number < self.limit)))
        return documents, n_bytes, bad, kept

    def add(self, found: tuple[int, int, int, list[pa.Table]], shuffle: Shuffle) -> None:
        """Count what was found and keep its sample."""
        documents, n_bytes, bad, kept = found
        self.documents += documents
        self.n_bytes += n_bytes
        self.bad += bad
        for table in kept:
            self.kept_bytes += int(pc.sum(pc.binary_length(table.column("text"))).as_py() or 0)
            number = table.column("number").to_numpy()
            shuffle.add(table, np.minimum(number / self.limit * _PARTITIONS, _PARTITIONS - 1).astype(np.int64))


def _numbers(hashes: list[bytes], key: int) -> Numbers:
    return uniform(np.frombuffer(b"".join(h[:8] for h in hashes), "<u8").astype(np.uint64), key)


def _sampled(batch: pa.RecordBatch, number: Numbers, file: pa.Array, wanted: pa.Array) -> pa.Table:
    columns = [*(batch.column(name) for name in RECORD.names), file, pa.array(number)]
    return pa.Table.from_arrays(columns, schema=SAMPLED).filter(wanted)


def _shards(survivors: Survivors, key: int) -> list[Shard]:
    """Return all shards, or as many as may be looked at, by their keys."""
    chosen, n_bytes = [], 0
    for shard in sorted(survivors.shards, key=lambda s: _place(s.digest, key)):
        if n_bytes and n_bytes + shard.n_bytes > TEXT_LOOKED_AT:
            break
        chosen.append(shard)
        n_bytes += shard.n_bytes
    return chosen


def _slices(
    files: Sequence[InputFile], most: int, least: int, folder: Path, options: IngestOptions, key: int
) -> list[InputFile]:
    """Return all files, or slices of a keyed choice of them that have `most` bytes together.

    Each file has its share of them where that is `least` bytes; else it is chosen with the probability that its share
    is of `least`, so that every byte is as likely to be among them.
    """
    total = sum(file.size for file in files)
    if total <= most:
        return list(files)
    chosen = []
    for number, file in enumerate(files):
        share = most * file.size / total
        n_bytes = max(share, min(least, file.size))
        if _place(f"chosen {file.name}", key) < share / max(1.0, n_bytes):
            target = folder / f"{number:06d}-{file.path.name}"
            chosen.append(slice_file(file, int(n_bytes), _place(file.name, key), target, options.read))
    return chosen or [min(files, key=lambda f: _place(f.name, key))]


def raw_slices(
    work: Work, files: Sequence[InputFile], n_bytes: int, folder: Path, options: IngestOptions
) -> list[InputFile]:
    """Return slices of raw files of about `n_bytes` together, for a trial ingestion."""
    return _slices(files, n_bytes, SLICE_BYTES // 4, folder, options, stream_key(work.config.seed, "plan", "slices"))


def _place(name: str, key: int) -> float:
    return float(uniform(np.array([doc_key(name)], np.uint64), key)[0])


def write_sample(
    lake: Lake, corpus: str, sample: Sample, low: float, high: float, files: Sequence[InputFile],
    options: IngestOptions, n_shards: int | None,
) -> Snapshot:  # fmt: skip
    """Commit a part of the sample to a lake as if the raw files held nothing else; return the snapshot.

    With `n_shards` it has about as many whatever its size, so that all workers have something to do; without, it has
    those that an ingestion would make.
    """
    table = sample.rows(low, high)
    n_bytes = int(pc.sum(pc.binary_length(table.column("text"))).as_py() or 0) + table.num_rows * 256
    shard_bytes, row_group_bytes = options.shard_bytes, options.row_group_bytes
    if n_shards is not None:
        shard_bytes = max(1 << 14, min(shard_bytes, -(-n_bytes // n_shards)))
        row_group_bytes = min(row_group_bytes, shard_bytes // 2)
    by_name, documents = {file.name: file for file in files}, {}
    names = table.column("file").to_pylist()
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    with ShardWriter(lake, corpus, shard_bytes, row_group_bytes) as writer:
        for start, stop in pairwise([*starts, len(names)]):
            file, rows = by_name[names[start]], table.slice(start, stop - start).select(RECORD.names)
            documents[file.name] = rows.num_rows
            ids = IdMaker(file.below)
            for batch in _batches(rows):
                writer.add(file, batch, ids)
        shards = writer.finish()
    records = [_record(file, documents.get(file.name, 0)) for file in files]
    key = fingerprint([sample.key, low, high, [shard.digest for shard in shards]])
    pack = Pack(key, options.key, tuple(records), tuple(shards))
    lake.publish_json(lake.pack(corpus, key), pack_json(pack))
    return commit_snapshot(lake, corpus, [(record, pack) for record in records], options)


def _batches(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield rows as batches of some megabytes at most."""
    a_row = max(1, rows.nbytes // max(1, rows.num_rows))
    return iter(rows.combine_chunks().to_batches(max_chunksize=max(1, (4 << 20) // a_row)))


def _record(file: InputFile, documents: int) -> FileRecord:
    return FileRecord(**stat_of(file), sha256="", documents=documents, quarantined=0, repaired=0)
