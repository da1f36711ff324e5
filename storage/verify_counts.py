"""What manifests say of the rows that they name, compared with the rows."""

from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import LakeError
from .lake import Lake
from .places import parquet_source
from .published import read_table, readable_jsons

Found = Iterator[tuple[Path, str]]


def counts(lake: Lake, damaged: Set[str]) -> Found:
    """Yield each file that does not have the rows, tokens or sums that are said of it, and what is wrong.

    What is damaged or cannot be read is passed over: it is named elsewhere.
    """
    shards = {p.stem: p for p in (lake.root / "corpora").glob("**/shards/*.parquet")}
    for look, pattern in _LOOKS.items():
        for path, found in _manifests(lake, pattern):
            if str(path) in damaged:
                continue
            with suppress(KeyError, TypeError, ValueError, AttributeError):  # damaged, and named as that
                yield from look(lake, path, found)
    for part in sorted((lake.root / "features").glob("*/*/*.parquet")):
        if (rows := _column(part, "row")) is not None and (shard := shards.get(part.parent.name)):
            last, n = pc.max(rows).as_py(), _n_rows(shard)
            if n is not None and last is not None and last >= n:
                yield part, f"has a value for row {last:,} of a shard of {n:,} rows"
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        yield from _scores(lake)


def _snapshots(lake: Lake, path: Path, found: Any) -> Found:
    said = found["counts"]
    files = found["files"]
    n = sum(f["documents"] for f in files) - said["excluded"]
    if n != said["documents"] or sum(f["quarantined"] for f in files) != said["quarantined"]:
        yield path, f"says {said['documents']:,} documents, its files sum to {n:,}"
    excluded = _n_rows(path.with_name("excluded.parquet"))
    wanted = said["excluded"] + said["superseded"]
    if excluded is not None and excluded != wanted:
        yield path.with_name("excluded.parquet"), f"has {excluded:,} rows, its snapshot says {wanted:,}"


def _packs(lake: Lake, path: Path, found: Any) -> Found:
    corpus = path.parent.parent.relative_to(lake.root / "corpora").as_posix()
    quarantine = lake.quarantine(corpus, found["key"])
    rows, said = _n_rows(quarantine), sum(f["quarantined"] for f in found["files"])
    if rows is not None and rows != said:
        yield quarantine, f"has {rows:,} rows, its pack says {said:,}"
    for shard in found["shards"]:
        rows = _n_rows(lake.shard(corpus, shard["digest"]))
        if rows is not None and rows != shard["rows"]:
            yield lake.shard(corpus, shard["digest"]), f"has {rows:,} rows, its pack says {shard['rows']:,}"


def _selections(lake: Lake, path: Path, found: Any) -> Found:
    tables = [_columns(path.with_name(f"{s}.parquet"), ["kept", "n_tokens"]) for s in found["shards"]]
    if any(table is None for table in tables):
        return
    table = pa.concat_tables(tables) if tables else None
    kept = table.filter(table.column("kept")) if table else None
    for name, n in {
        "entered": table.num_rows if table else 0, "kept": kept.num_rows if kept else 0,
        "tokens_entered": _sum(table), "tokens_kept": _sum(kept),
    }.items():  # fmt: skip
        if found[name] != n:
            yield path, f"says {name.replace('_', ' ')} {found[name]:,}, its rows sum to {n:,}"
            break


def _draws(lake: Lake, path: Path, found: Any) -> Found:
    for shard, said in found["shards"].items():
        file = path.parent / f"{shard}.parquet"
        rows = _n_rows(file)
        if rows is not None and rows != said:
            yield file, f"has {rows:,} rows, its draw says {said:,}"


def _mixtures(lake: Lake, path: Path, found: Any) -> Found:
    for name in ("rows", "tokens", "bytes"):
        n = sum(file.get(name, 0) for file in found["files"])
        if n != found[name]:
            yield path, f"says {found[name]:,} {name}, its files sum to {n:,}"
    for entry in found["files"]:
        if entry["file"].endswith(".parquet") and "rows" in entry:
            rows = _n_rows(path.with_name(entry["file"]))
            if rows is not None and rows != entry["rows"]:
                yield path.with_name(entry["file"]), f"has {rows:,} rows, the manifest says {entry['rows']:,}"


def _scores(lake: Lake) -> Found:
    """Compare the scores of each step with what the step before it kept."""
    kept = {p.parent.name: found for p, found in _manifests(lake, "selections/*/manifest.json")}
    for _, run in _manifests(lake, "runs/*/run.json"):
        for before, step in zip(run["steps"], run["steps"][1:], strict=False):
            scores, manifest = (step.get("fit") or {}).get("scores"), kept.get(before["selection"])
            names = manifest["shards"].values() if scores and manifest else ()
            files = [lake.root / "scores" / str(scores) / f"{name}.parquet" for name in {*names}]
            rows = [_n_rows(file) for file in files]
            if not files or len(files) < len(names) or None in rows:  # shards without documents share a name
                continue
            if (n := sum(filter(None, rows))) != step["entered"]:
                yield files[0].parent, f"has scores of {n:,} documents, {step['entered']:,} were to be scored"


def _manifests(lake: Lake, pattern: str) -> Iterator[tuple[Path, Any]]:
    return readable_jsons(sorted(lake.root.glob(pattern)))


def _n_rows(path: Path) -> int | None:
    try:
        with pq.ParquetFile(parquet_source(path)) as parquet:
            return int(parquet.metadata.num_rows)
    except (OSError, pa.ArrowException):
        return None


def _columns(path: Path, names: list[str]) -> pa.Table | None:
    try:
        return read_table(path, names)
    except LakeError:
        return None


def _column(path: Path, name: str) -> Any:
    table = _columns(path, [name])
    return None if table is None else table.column(0)


def _sum(table: pa.Table | None) -> int:
    return 0 if table is None else pc.sum(table.column("n_tokens")).as_py() or 0


_LOOKS: dict[Callable[[Lake, Path, Any], Found], str] = {
    _snapshots: "corpora/**/snapshots/*/manifest.json",
    _packs: "corpora/**/packs/*.json",
    _selections: "selections/*/manifest.json",
    _draws: "draws/*/manifest.json",
    _mixtures: "mixtures/*/*/manifest.json",
}
