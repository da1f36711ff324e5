"""From raw files to shards: what is read again, what is reused, what is accounted for.

Files are read in *packs*: a large file alone, small ones together. A pack's record is published after its shards, so a
run that was killed reads only the packs again that were in flight. A file whose size, mtime and inode are those of its
record (in a store: size, time and ETag) is trusted; any other is digested, and read only where its bytes are new
(`snapshots.plan_reading`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import pyarrow.compute as pc

from .disks import writing
from .documents import IdMaker
from .errors import InputError
from .fingerprint import file_sha256, fingerprint
from .inputs import InputFile
from .lake import Lake, read_jsons
from .manifest_shapes import known
from .places import presence
from .quarantine import QuarantineWriter
from .readers import BadRecord, Map, ReadOptions, change_since, read_records
from .schema import QUARANTINE
from .shards import ROW_GROUP_BYTES, SHARD_BYTES, Shard, ShardWriter, Span

READER_VERSION = 1
UNREAD = "cannot be read: it was read once, and could not be for its digest"
SMALL_FILE_BYTES = 1 << 20


@dataclass(frozen=True)
class IngestOptions:
    """How the files of one corpus are read."""

    read: ReadOptions = field(default_factory=ReadOptions)
    on_bad: Literal["quarantine", "fail"] = "quarantine"
    shard_bytes: int = SHARD_BYTES
    row_group_bytes: int = ROW_GROUP_BYTES

    @property
    def key(self) -> str:
        """Name of everything that decides what a file's bytes become."""
        recipe = {"version": READER_VERSION, **asdict(self)}
        del recipe["on_bad"]
        for limit in ("max_ratio", "max_unpacked_bytes"):  # younger than the lakes whose files are not read again
            if recipe["read"][limit] == getattr(ReadOptions, limit):
                del recipe["read"][limit]
        return fingerprint(recipe)


@dataclass(frozen=True)
class FileRecord:
    """One input file as it was read, and what became of its records."""

    name: str
    below: str
    size: int
    mtime_ns: int
    inode: int
    sha256: str
    documents: int
    quarantined: int
    repaired: int
    usable: bool = True
    """False: it vanished, changed or could not be opened; its rows count for nothing and it is read again next time."""
    etag: str = ""

    def is_still(self, file: InputFile) -> bool:
        """Say whether a listed file can be trusted to be this one without reading it."""
        return all(getattr(self, name) == value for name, value in stat_of(file).items())


@dataclass(frozen=True)
class Pack:
    """Files that were read together and the shards that they made."""

    key: str
    reader: str
    files: tuple[FileRecord, ...]
    shards: tuple[Shard, ...]


def plan_packs(files: Iterable[InputFile]) -> list[list[InputFile]]:
    """Group files (sorted by name) into packs: small ones together up to one shard's worth, any other alone."""
    packs: list[list[InputFile]] = []
    small: list[InputFile] = []
    n_bytes = 0
    for file in files:
        if file.size >= SMALL_FILE_BYTES:
            packs.append([file])
            continue
        if small and n_bytes + file.size > SHARD_BYTES // 2:
            packs.append(small)
            small, n_bytes = [], 0
        small.append(file)
        n_bytes += file.size
    return [*packs, small] if small else packs


def read_pack(
    lake: Lake, corpus: str, files: list[InputFile], options: IngestOptions, map: Map = map, ahead: int = 0,
    digests: Mapping[str, str] | None = None,
) -> Pack:  # fmt: skip
    """Read files into published shards and quarantine, publish the pack's record and return it.

    `map` may parse on several threads, and `ahead` row groups may wait for being written meanwhile; the pack is the
    same. `digests` are those that are known, by file: bytes that changed under an unchanged stat make another pack.
    Raises InputError at the first bad record where the options say `on_bad: fail`.
    """
    known = [digests[file.name] for file in files if file.name in digests] if digests else []
    key = fingerprint([corpus, options.key, [f.as_listed() for f in files], *known])
    with (
        writing(lake.corpus(corpus) / "shards", lake.scratch),
        ShardWriter(lake, corpus, options.shard_bytes, options.row_group_bytes, ahead) as writer,
        QuarantineWriter(lake.quarantine(corpus, key), lake.scratch) as quarantine,
    ):
        records = [_read_file(writer, quarantine, file, options, map, bool(ahead)) for file in files]
        shards = writer.finish()
        quarantine.finish()
    pack = Pack(key, options.key, tuple(records), tuple(shards))
    lake.publish_json(lake.pack(corpus, key), pack_json(pack))
    return pack


def _read_file(
    writer: ShardWriter, quarantine: QuarantineWriter, file: InputFile, options: IngestOptions, map: Map, threads: bool
) -> FileRecord:
    """Send a file's documents and bad records to their writers; return its record."""
    ids = IdMaker(file.below)
    documents = repaired = quarantined = 0
    usable = True
    sha256 = _digest(file, beside=threads and file.size >= SMALL_FILE_BYTES)
    for item in read_records(file, options.read, map):
        if isinstance(item, BadRecord):
            refuse(item, options)
            quarantine.add(item)
            quarantined += 1
            usable = usable and not _passing(item)
            continue
        documents += item.num_rows
        repaired += int(pc.sum(item.column("repaired")).as_py() or 0)
        writer.add(file, item, ids)
    digest = sha256()  # it may end after the reader, and then the file may have changed in between
    if usable and (changed := change_since(file) or ("" if digest else UNREAD)):
        usable = False
        quarantine.add(BadRecord(file.name, None, changed, b""))
        quarantined += 1
    documents, repaired = (documents, repaired) if usable else (0, 0)
    return FileRecord(
        **stat_of(file), sha256=digest, documents=documents, quarantined=quarantined, repaired=repaired, usable=usable
    )


def _digest(file: InputFile, *, beside: bool) -> Callable[[], str]:
    """Digest a file, `beside` on a thread of its own; return what gives the digest, empty where there is no file."""

    def found() -> str:
        try:
            return file_sha256(file.path)
        except OSError:
            return ""  # the reader says what is wrong

    if not beside:
        return partial(str, found())
    thread = ThreadPoolExecutor(1, thread_name_prefix="tamis-digest")
    digest = thread.submit(found)
    thread.shutdown(wait=False)
    return digest.result


def stat_of(file: InputFile) -> dict[str, Any]:
    """Return what identifies a listed file without reading it."""
    names = ("name", "below", "size", "mtime_ns", "inode", "etag")
    return {name: getattr(file, name) for name in names}


def refuse(bad: BadRecord, options: IngestOptions) -> None:
    """Stop at a bad record where the options say so. Raises InputError that names the place."""
    if options.on_bad == "fail":
        place = bad.file if bad.line is None else f"{bad.file} line {bad.line:,}"
        raise InputError(f"{place}: {bad.reason}. Fix the file, or set `on_bad: quarantine` to put such records aside.")


def _passing(bad: BadRecord) -> bool:
    """Say whether the reason may be gone at the next reading."""
    return bad.line is None and bad.reason.startswith(("changed while", "vanished", "cannot be read"))


def first_bad(lake: Lake, corpus: str, pack: Pack, file: str) -> BadRecord | None:
    """Return the first record of a file that was quarantined when its pack was read."""
    path = lake.quarantine(corpus, pack.key)
    table = lake.table(path) if path.exists() else QUARANTINE.empty_table()
    rows = table.filter(pc.equal(table.column("file"), file)).slice(0, 1).to_pylist()
    return BadRecord(**rows[0]) if rows else None


def pack_json(pack: Pack) -> dict[str, Any]:
    """Return a pack as JSON types."""
    shards = [{k: v for k, v in asdict(s).items() if k != "path"} for s in pack.shards]
    return {**asdict(pack), "shards": shards}


def load_packs(lake: Lake, corpus: str, reader: str) -> Iterator[Pack]:
    """Yield the packs that were read with the options named `reader`, and of which everything is still there."""
    paths = sorted((lake.corpus(corpus) / "packs").glob("*.json"))
    shard_there = presence(lake.corpus(corpus) / "shards")
    quarantine_there = presence(lake.quarantine(corpus, "").parent)
    for found in read_jsons(paths):
        if found["reader"] != reader:
            continue
        files = tuple(FileRecord(**known(FileRecord, f)) for f in found["files"])
        pack = Pack(found["key"], reader, files, load_shards(lake, corpus, found["shards"]))
        is_whole = all(shard_there(shard.path) for shard in pack.shards)
        if any(file.quarantined for file in files):
            is_whole = is_whole and quarantine_there(lake.quarantine(corpus, pack.key))
        if is_whole:
            yield pack


def load_shards(lake: Lake, corpus: str, found: list[dict[str, Any]]) -> tuple[Shard, ...]:
    """Return shards from their JSON form."""
    return tuple(
        Shard(
            s["digest"],
            s["rows"],
            s["n_bytes"],
            tuple(Span(**known(Span, p)) for p in s["spans"]),
            lake.shard(corpus, s["digest"]),
        )
        for s in found
    )
