"""Read every artefact again and compare it with what was published: what is damaged, and what repairs it.

Of every file the digest was noted when it was published (`sums`), so a flipped bit is found in any of them. Shards,
tables, states, models and mixtures also carry digests of their content, which is all there is in an object store and of
what an older tamis published. Manifests are compared with what they name and count (`verify_counts`).
"""

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .checkpoints import check_checkpoint
from .documents import text_hashes
from .errors import LakeError
from .fingerprint import TableDigest, file_sha256
from .lake import Lake, read_json
from .model_files import model_digest
from .places import parquet_source, presence
from .proxies import read_proxy
from .publish import DIGEST_FIELD
from .published import readable_jsons
from .references import References
from .schema import DOCUMENT
from .shards import DIGESTED, Shard
from .snapshots import corpora, newest, packs_of
from .state import check_state
from .sums import FOLDER
from .sweeping import held
from .verify_counts import counts
from .verify_sums import Noted

REPAIR = "`tamis repair`"
READ, AGAIN = f"{REPAIR} reads the raw files again", f"{REPAIR} computes it again"
_REPAIRS = {
    "corpora": READ, "quarantine": READ, "draws": f"{REPAIR} draws again", "mixtures": f"{REPAIR} writes it again",
    "models": f"{REPAIR} trains it again", "plans": f"{REPAIR} removes it; `tamis plan` makes it again",
    "proxies": f"{REPAIR} removes it; the next `tamis compare --proxy` measures it again",
    "training": f"{REPAIR} removes it; the training begins again",
    "catalog.duckdb": "`tamis catalog rebuild`, or `tamis repair`", FOLDER: f"{REPAIR} makes it again",
}  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """One artefact that is not what was published."""

    file: str
    problem: str
    repair: str


def verify(lake: Lake) -> Iterator[Damage]:
    """Yield what is damaged or missing, as it is found, each file once."""
    named = set[str]()  # what a damaged manifest says is not looked at
    noted = Noted(lake)
    looks = (
        _named(lake, noted.published()), _artefacts(lake, named), _missing(lake, named), _named(lake, noted.absent()),
        _named(lake, counts(lake, named)),
    )  # fmt: skip
    for look in looks:
        for damage in look:
            if damage.file not in named:
                named.add(damage.file)
                yield damage


def repair_of(lake: Lake, path: Path) -> str:
    """Return what repairs a file of the lake."""
    if is_told_once(path.relative_to(lake.root).as_posix()):
        return f"nothing: no other file tells it; {REPAIR[:-1]} --yes` gives it up"
    return _REPAIRS.get(path.relative_to(lake.root).parts[0], AGAIN)


def is_told_once(name: str) -> bool:
    """Say whether a file tells of a run what nothing else does."""
    return name.startswith("runs/") and (name.endswith(("/run.json", "/log.jsonl")) or "/inputs/" in name)


def _artefacts(lake: Lake, named: Set[str]) -> Iterator[Damage]:
    """Yield what does not have the digest that it carries, or is missing of the newest snapshots."""
    for corpus in corpora(lake):
        pointer = lake.corpus(corpus) / "newest.json"
        if str(pointer) not in named:
            yield from _guarded(pointer, READ, partial(_corpus, lake, corpus))
    for folder in ("features", "states", "scores", "selections", "clusters", "models", "rounds", "draws", "quarantine"):
        repair = _REPAIRS.get(folder, AGAIN)
        for path in sorted((lake.root / folder).glob("**/*.parquet")):
            yield from _guarded(path, repair, partial(_table, path, repair))
    for path in sorted((lake.root / "states").glob("**/*.safetensors")):
        yield from _guarded(path, AGAIN, partial(_state, path))
    for pattern, check in _MANIFESTS:
        for path in sorted(p for p in lake.root.glob(pattern) if str(p) not in named):
            repair = repair_of(lake, path)
            yield from _guarded(path, repair, partial(check, path, repair))


def _missing(lake: Lake, named: Set[str]) -> Iterator[Damage]:
    """Yield what finished runs decided by and wrote and what is not there: `tamis clean` leaves no such run."""
    there, seen = held(lake, {"mixtures"}), set[str]()
    paths = [path for path in sorted((lake.root / "runs").glob("*/run.json")) if str(path) not in named]
    records = [r for _, r in readable_jsons(paths) if r.get("status") == "done"]
    references = References(lake, records, there)
    for run in records:
        try:
            wanted = references.decisions(run).paths
        except (LakeError, KeyError, ValueError, TypeError):  # of a manifest that is named elsewhere
            continue
        written = {f"mixtures/{o['mixture']}/{o['key']}" for o in run.get("outputs") or ()}
        wanted = wanted | {path for path in written if there.below(path)}  # one whose folder was removed was given up
        for path in sorted(wanted - seen):
            seen.add(path)
            name = path if path.endswith((".parquet", ".json")) else f"{path}/manifest.json"
            if path.startswith(("selections/", "draws/", "corpora/", "mixtures/")) and name not in there.files:
                problem = f"is missing, and run {run['run']} refers to it"
                yield Damage(str(lake.root / name), problem, repair_of(lake, lake.root / name))


def _named(lake: Lake, found: Iterable[tuple[Path, str]]) -> Iterator[Damage]:
    """Say of each file what repairs it."""
    for path, problem in found:
        yield Damage(str(path), problem, repair_of(lake, path))


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
            yield from _guarded(shard.path, READ, partial(_shard, shard))
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
                yield Damage(str(path), f"a text in row group {group} does not have its hash", READ)
            found.update(table.drop_columns("text"))
            n += table.num_rows
    if n != shard.rows:
        yield Damage(str(path), f"has {n:,} rows, its snapshot says {shard.rows:,}", READ)
    elif found.hexdigest() != shard.digest:
        yield Damage(str(path), "its content does not have the digest that is its name", READ)


def _json(path: Path, repair: str) -> Iterator[Damage]:
    read_json(path)
    yield from ()


def _state(path: Path) -> Iterator[Damage]:
    check_state(path)
    yield from ()


def _checkpoint(path: Path, repair: str) -> Iterator[Damage]:
    check_checkpoint(path)
    yield from ()


def _proxy(path: Path, repair: str) -> Iterator[Damage]:
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


def _selection(manifest: Path, repair: str) -> Iterator[Damage]:
    found = read_json(manifest)
    there = presence(manifest.parent)
    for shard in found["shards"]:
        if not there(manifest.parent / f"{shard}.parquet"):
            yield Damage(str(manifest.parent / f"{shard}.parquet"), "is missing", repair)


def _mixture(manifest: Path, repair: str) -> Iterator[Damage]:
    for entry in read_json(manifest)["files"]:
        path = manifest.parent / entry["file"]
        if not path.exists():
            yield Damage(str(path), "is missing", repair)
        elif file_sha256(path) != entry["sha256"]:
            yield Damage(str(path), "does not have the SHA-256 of the manifest", repair)


def _model(record: Path, repair: str) -> Iterator[Damage]:
    folder = record.parent / "model"
    if not folder.is_dir() or model_digest(folder) != read_json(record)["digest"]:
        yield Damage(str(folder), "does not have the digest of training.json", repair)


_MANIFESTS: tuple[tuple[str, Callable[[Path, str], Iterator[Damage]]], ...] = (
    ("corpora/**/packs/*.json", _json),
    ("corpora/**/snapshots/*/manifest.json", _json),
    ("runs/*/run.json", _json),
    ("runs/*/uses.json", _json),
    ("runs/finished/*.json", _json),
    ("states/*/kept.json", _json),
    ("features/*/feature.json", _json),
    ("runs/*/diff.json", _json),
    ("runs/*/diff.parquet", _table),
    ("runs/*/inputs/**/*.parquet", _table),
    ("clusters/*/*/clusters.json", _json),
    ("models/*/training.json", _model),
    ("training/*/checkpoints/*.json", _checkpoint),
    ("proxies/*.json", _proxy),
    ("selections/*/uses.json", _json),
    ("selections/*/manifest.json", _selection),
    ("draws/*/manifest.json", _selection),
    ("mixtures/*/*/manifest.json", _mixture),
    ("plans/*.json", _json),
)
