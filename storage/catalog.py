"""The catalogue: DuckDB tables and views over everything in the lake, made again at will.

In DuckDB one open reader blocks a writer and one writer all readers. So the file is never written in place: it is built
beside and renamed over the old one, and whoever has that open keeps it. Small facts are tables; per-document data stays
in Parquet and appears as views over explicit lists of files (a glob over 20,000 files would cost 2 s a query), typed
and empty while there is nothing.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from .catalog_diffs import TABLES as DIFF_TABLES
from .catalog_diffs import diff_rows
from .catalog_macros import macros
from .catalog_mixtures import MIXTURES, PARTS, mixture_rows, part_rows
from .catalog_models import MODELS, model_rows
from .catalog_rs2 import round_views
from .catalog_views import document_views, insert, quoted, result_views
from .errors import LakeError
from .lake import LOG, Lake, read_json, readable_jsons
from .locked_duckdb import lock
from .places import local, open_to_duckdb, versions
from .processes import Process
from .publish import publishing
from .snapshots import Snapshot, corpora, newest
from .sweeping import lease_of

_TABLES = {
    "corpora": "corpus VARCHAR, kind VARCHAR, snapshot VARCHAR, records BIGINT, documents BIGINT, quarantined BIGINT, "
    "excluded BIGINT, repaired BIGINT, files BIGINT, shards BIGINT, bytes BIGINT",
    "files": "corpus VARCHAR, file VARCHAR, size BIGINT, sha256 VARCHAR, documents BIGINT, quarantined BIGINT, "
    "repaired BIGINT",
    "shards": "corpus VARCHAR, shard VARCHAR, rows BIGINT, bytes BIGINT, path VARCHAR",
    "features": "feature VARCHAR, key VARCHAR, version BIGINT, parameters VARCHAR, shards BIGINT",
    "runs": "run VARCHAR, flow VARCHAR, status VARCHAR, exit_code INTEGER, started TIMESTAMPTZ, finished TIMESTAMPTZ, "
    "corpus VARCHAR, snapshot VARCHAR, tokenizer VARCHAR, warnings VARCHAR[], scheduled BOOLEAN",
    "stages": "run VARCHAR, position INTEGER, stage VARCHAR, computed BIGINT, reused BIGINT, documents BIGINT, "
    "seconds DOUBLE, bytes BIGINT",
    "steps": "run VARCHAR, position INTEGER, step VARCHAR, kind VARCHAR, selection VARCHAR, entered BIGINT, "
    "kept BIGINT, tokens_entered BIGINT, tokens_kept BIGINT, bytes_kept BIGINT, reasons VARCHAR, "
    "health VARCHAR, deciding BOOLEAN",
    "alarms": "run VARCHAR, step VARCHAR, name VARCHAR, value DOUBLE, threshold DOUBLE, message VARCHAR",
    "models": MODELS,
    "mixtures": MIXTURES,
    "mixture_parts": PARTS,
    **DIFF_TABLES,
}


BUILDS_AT_MOST = 5
_RUN_COLUMNS = (
    "run", "flow", "status", "exit_code", "started", "finished", "corpus", "snapshot", "tokenizer", "warnings",
)  # fmt: skip
_STAGE_COLUMNS = ("computed", "reused", "documents", "seconds", "bytes")
_ALARM_COLUMNS = ("step", "name", "value", "threshold", "message")


def build_catalog(lake: Lake) -> None:
    """Build the catalogue from the manifests in the lake, and publish it whole.

    Where another run ended meanwhile it is built again: an older view of the lake must not be the last one published.
    """
    lake = replace(lake, used=set())  # looking at everything is no use of it
    for _ in range(BUILDS_AT_MOST):
        seen = _runs_seen(lake)
        with publishing(lake.catalog, lake.scratch) as temporary:
            try:
                with duckdb.connect(str(temporary)) as connection:
                    open_to_duckdb(connection, lake.root)
                    lock(connection, lake)
                    fill_catalog(connection, lake)
                    connection.execute("checkpoint")  # which `close` does too, and is silent where the disk is full
            except duckdb.Error as error:
                first_line = str(error).splitlines()[0]
                raise LakeError(
                    f"no catalogue can be made ({first_line}); `tamis repair` mends what is damaged"
                ) from error
            finally:
                temporary.with_name(temporary.name + ".wal").unlink(missing_ok=True)
        if _runs_seen(lake) == seen:
            return


def _runs_seen(lake: Lake) -> list[tuple[str, str]]:
    return versions(lake.root / "runs", "*/run.json")


def fill_catalog(connection: Any, lake: Lake) -> None:
    """Create all tables and views on a connection."""
    snapshots = [s for name in corpora(lake) if (s := newest(lake, name))]
    records = readable_jsons(sorted((lake.root / "runs").glob("*/run.json")))  # `tamis verify` names damaged ones
    runs = [_run(path, record) for path, record in records]
    for name, columns in _TABLES.items():
        connection.execute(f"create table {name} ({columns})")
    for name, rows in _rows(lake, snapshots, runs).items():
        insert(connection, name, rows)
    document_views(connection, lake, snapshots, runs)
    result_views(connection, lake)
    round_views(connection, lake, runs)
    macros(connection)


def _run(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Return a run's record; one whose process is gone was interrupted."""
    gone = found["status"] == "running" and Process.of(found).runs(path.with_name(LOG)) is False
    return found | {"status": "interrupted"} if gone else found


def _rows(lake: Lake, snapshots: list[Snapshot], runs: list[dict[str, Any]]) -> dict[str, list[tuple[Any, ...]]]:
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _TABLES}
    for s in snapshots:
        c, name = s.counts, s.corpus
        kind = "target" if name.startswith("targets/") else "pool"
        counts = [c[k] for k in ("records", "documents", "quarantined", "excluded", "repaired", "files")]
        rows["corpora"].append((name, kind, s.key, *counts, len(s.shards), sum(x.n_bytes for x in s.shards)))
        rows["files"] += [(name, f.name, f.size, f.sha256, f.documents, f.quarantined, f.repaired) for f in s.files]
        rows["shards"] += [(name, x.digest, x.rows, x.n_bytes, str(x.path)) for x in s.shards]
    for path in sorted((lake.root / "features").glob("*/feature.json")):
        f = read_json(path)
        n_shards = sum(1 for p in path.parent.iterdir() if p != path)
        rows["features"].append((f["feature"], path.parent.name, f["version"], json.dumps(f["parameters"]), n_shards))
    for r in runs:
        rows["runs"].append((*(r[column] for column in _RUN_COLUMNS), r.get("prefect", {}).get("scheduled", False)))
        rows["stages"] += [
            (r["run"], i, s["name"], *(s.get(c) for c in _STAGE_COLUMNS)) for i, s in enumerate(r["stages"])
        ]
        rows["steps"] += _step_rows(r)
        rows["alarms"] += [(r["run"], *(a[c] for c in _ALARM_COLUMNS)) for a in r.get("alarms", ())]
        rows["models"] += model_rows(lake, r)
    return rows | {"mixtures": mixture_rows(lake), "mixture_parts": part_rows(lake)} | diff_rows(lake, runs)


def _step_rows(run: dict[str, Any]) -> list[tuple[Any, ...]]:
    columns = ("name", "kind", "selection", "entered", "kept", "tokens_entered", "tokens_kept", "bytes_kept")
    last = len(run["steps"]) - 1 if run["status"] == "done" else None  # an unfinished run has decided nothing
    return [
        (
            run["run"],
            i,
            *(s[c] for c in columns),
            json.dumps(s["reasons"]),
            json.dumps(s.get("health") or {}),
            i == last,
        )
        for i, s in enumerate(run["steps"])
    ]


def connect(lake: Lake) -> Any:
    """Open the catalogue for reading. Raises LakeError where there is none.

    It is attached to a database of its own in memory: DuckDB shares one open file among all connections of a process,
    so an older reader would hide what was published since. A lake that was moved gets its views in memory, because
    those in the file name the old place; and so does one that is being cleaned, or was until somebody killed that.
    Nothing but the lake can be read through it.
    """
    if not lake.catalog.exists():
        raise LakeError(f'"{lake.root}" has no catalogue yet; `tamis catalog rebuild` makes it')
    connection = duckdb.connect()
    open_to_duckdb(connection, lake.root)
    connection.execute(f"attach '{quoted(local(lake.catalog))}' as catalog (read_only)")
    connection.execute("use catalog")
    here = str(lake.root / "x").removesuffix("x")
    moved = connection.execute("select 1 from shards where not starts_with(path, ?) limit 1", [here]).fetchall()
    if moved or lease_of(lake).exists():
        connection.execute("use memory")
        fill_catalog(connection, lake)
    lock(connection, lake)
    return connection


def reads_only(connection: Any, query: str) -> bool:
    """Say whether a text is one statement that changes nothing, neither the catalogue nor files."""
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        return False
    if statements[0].type == duckdb.StatementType.EXPLAIN:  # explain analyze runs what it explains
        explained = re.fullmatch(r"\s*explain\s+(?:analyze\s+)?(.*)", query, re.IGNORECASE | re.DOTALL)
        return explained is not None and reads_only(connection, explained[1])
    return bool(statements[0].type == duckdb.StatementType.SELECT)
