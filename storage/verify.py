"""Read every artefact again and compare it with its name: what is damaged, and what repairs it.

Shards are named by their content and every other file of data carries its digest, so damage of a single bit in them is
found without anything to compare with. Manifests are read, and what they name must be there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .documents import text_hashes
from .errors import LakeError
from .fingerprint import TableDigest, file_sha256
from .lake import Lake, read_json
from .model_files import model_digest
from .places import parquet_source, presence
from .proxies import REPAIR, read_proxy
from .publish import DIGEST_FIELD
from .published import readable_jsons
from .references import References
from .schema import DOCUMENT
from .shards import DIGESTED, Shard
from .snapshots import corpora, newest, packs_of
from .state import check_state
from .sweeping import held

AGAIN = "remove it; the next `tamis run` computes it again"
DRAWN = "remove its folder; the next `tamis mix` draws again"
READ = "the next run reads the raw files again"
COMPARED = "remove it; `tamis diff` compares the runs again"
UNREAD = f"remove it; {READ}"


@dataclass(frozen=True)
class Damage:
    """One artefact that is not what its name says."""

    file: str
    problem: str
    repair: str


def verify(lake: Lake) -> Iterator[Damage]:
    """Yield what is damaged or missing, as it is found."""
    named = set()
    for damage in _artefacts(lake):
        named.add(damage.file)
        yield damage
    yield from (damage for damage in _missing(lake) if damage.file not in named)


def _artefacts(lake: Lake) -> Iterator[Damage]:
    """Yield what is damaged, or missing of the newest snapshots."""
    for corpus in corpora(lake):
        pointer = lake.corpus(corpus) / "newest.json"
        yield from _guarded(pointer, UNREAD, partial(_corpus, lake, corpus))
    computed = ("features", "states", "scores", "selections", "clusters", "models", "rounds")
    repairs = {**dict.fromkeys(computed, AGAIN), "draws": DRAWN, "quarantine": UNREAD}
    for folder, repair in repairs.items():
        for path in sorted((lake.root / folder).glob("**/*.parquet")):
            yield from _guarded(path, repair, partial(_table, path, repair))
    for path in sorted((lake.root / "states").glob("**/*.safetensors")):
        yield from _guarded(path, AGAIN, partial(_state, path))
    for pattern, repair, check in _MANIFESTS:
        for path in sorted(lake.root.glob(pattern)):
            yield from _guarded(path, repair, partial(check, path))


def _missing(lake: Lake) -> Iterator[Damage]:
    """Yield what finished runs decided by and what is not there: `tamis clean` leaves no such run."""
    there, seen = held(lake), set[str]()
    paths = sorted((lake.root / "runs").glob("*/run.json"))
    records = [r for _, r in readable_jsons(paths) if r.get("status") == "done"]  # damaged ones are named elsewhere
    references = References(lake, records, there)
    for run in records:
        for path in sorted(references.decisions(run).paths - seen):
            seen.add(path)
            name = path if path.endswith((".parquet", ".json")) else f"{path}/manifest.json"
            if path.startswith(("selections/", "draws/", "corpora/")) and name not in there.files:
                yield Damage(
                    str(lake.root / name),
                    f"is missing, and run {run['run']} refers to it",
                    f"`tamis run {run['flow']}`",
                )


def _guarded(path: Path, repair: str, check: Callable[[], Iterator[Damage]]) -> Iterator[Damage]:
    """Turn what cannot even be read into damage."""
    try:
        yield from check()
    except (LakeError, pa.ArrowException, OSError, KeyError, ValueError) as error:
        yield Damage(str(path), f"cannot be read: {str(error).splitlines()[0][:200]}", repair)


def _corpus(lake: Lake, corpus: str) -> Iterator[Damage]:
    snapshot = newest(lake, corpus)
    if snapshot is None:
        return
    there = presence(lake.corpus(corpus) / "shards")
    for shard in snapshot.shards:
        if not there(shard.path):
            yield Damage(str(shard.path), "is missing", READ)
        else:
            yield from _guarded(shard.path, UNREAD, partial(_shard, shard))
    packs = packs_of(lake, snapshot)
    for pack in sorted({packs[f.name] for f in snapshot.files if f.quarantined}):
        if not lake.quarantine(corpus, pack).exists():
            yield Damage(str(lake.quarantine(corpus, pack)), "is missing", READ)
    excluded = lake.snapshot(corpus, snapshot.key) / "excluded.parquet"
    yield from _guarded(excluded, AGAIN, partial(_table, excluded, AGAIN))


def _shard(shard: Shard) -> Iterator[Damage]:
    """Compare the texts with their hashes, and everything else with the shard's name."""
    path = shard.path
    found = TableDigest(DIGESTED)
    n = 0
    with pq.ParquetFile(parquet_source(path)) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group).cast(DOCUMENT).combine_chunks()
            text = table.column("text").chunk(0)
            if text_hashes(text) != table.column("text_hash").to_pylist():
                yield Damage(str(path), f"a text in row group {group} does not have its hash", UNREAD)
            found.update(table.drop_columns("text"))
            n += table.num_rows
    if n != shard.rows:
        yield Damage(str(path), f"has {n:,} rows, its snapshot says {shard.rows:,}", UNREAD)
    elif found.hexdigest() != shard.digest:
        yield Damage(str(path), "its content does not have the digest that is its name", UNREAD)


def _json(path: Path) -> Iterator[Damage]:
    read_json(path)
    yield from ()


def _state(path: Path) -> Iterator[Damage]:
    check_state(path)
    yield from ()


def _proxy(path: Path) -> Iterator[Damage]:
    read_proxy(path)
    yield from ()


def _table(path: Path, repair: str) -> Iterator[Damage]:
    with pq.ParquetFile(parquet_source(path)) as parquet:
        table = parquet.read()
        written = (parquet.metadata.metadata or {}).get(DIGEST_FIELD, b"").decode()  # `read_table` does not show it
    digest = TableDigest(table.schema)
    digest.update(table)
    if digest.hexdigest() != written:
        yield Damage(str(path), "its content does not have the digest in its footer", repair)


def _selection(manifest: Path) -> Iterator[Damage]:
    found = read_json(manifest)
    there = presence(manifest.parent)
    for shard in found["shards"]:
        if not there(manifest.parent / f"{shard}.parquet"):
            yield Damage(str(manifest.parent / f"{shard}.parquet"), "is missing", "remove its folder; " + AGAIN)


def _mixture(manifest: Path) -> Iterator[Damage]:
    for entry in read_json(manifest)["files"]:
        path = manifest.parent / entry["file"]
        if not path.exists():
            yield Damage(str(path), "is missing", "remove the mixture's folder; the next `tamis run` writes it again")
        elif file_sha256(path) != entry["sha256"]:
            yield Damage(str(path), "does not have the SHA-256 of the manifest",
                         "remove the mixture's folder; the next `tamis run` writes it again")  # fmt: skip


def _model(record: Path) -> Iterator[Damage]:
    folder = record.parent / "model"
    if not folder.is_dir() or model_digest(folder) != read_json(record)["digest"]:
        yield Damage(str(folder), "does not have the digest of training.json",
                     "remove the model's folder; the next `tamis run` trains it again")  # fmt: skip


_MANIFESTS: tuple[tuple[str, str, Callable[[Path], Iterator[Damage]]], ...] = (
    ("runs/*/run.json", "remove its folder; the results of the run stay", _json),
    ("states/*/kept.json", AGAIN, _json),
    ("runs/*/diff.json", COMPARED, _json),
    ("runs/*/diff.parquet", COMPARED, partial(_table, repair=COMPARED)),
    ("clusters/*/*/clusters.json", AGAIN, _json),
    ("models/*/training.json", "remove its folder; the next `tamis run` trains the model again", _model),
    ("proxies/*.json", REPAIR, _proxy),
    ("selections/*/manifest.json", AGAIN, _selection),
    ("draws/*/manifest.json", DRAWN, _selection),
    ("mixtures/*/*/manifest.json", AGAIN, _mixture),
    ("plans/*.json", "remove it; `tamis plan` makes it again", _json),
)
