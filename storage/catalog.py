"""The catalogue: DuckDB tables and views over everything in the lake, made again at will.

In DuckDB one open reader blocks a writer and one writer all readers. So the file is never written in place: it is built
beside and renamed over the old one, and whoever has that open keeps it. Small facts are tables; per-document data stays
in Parquet and appears as views over explicit lists of files (a glob over 20,000 files would cost 2 s a query), typed
and empty while there is nothing.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from .catalog_mixtures import MIXTURES, PARTS, corpora_of, draw_files, mixture_rows, part_rows
from .catalog_models import MODELS, OF_ITS_MODEL, curve_files, model_rows
from .catalog_rounds import OF_ITS_CHOICE, OF_ITS_ROUND, ROUNDS, SCORES, choice_files, round_files
from .catalog_rs2 import round_views
from .draws import DRAW
from .errors import LakeError
from .lake import Lake, process_alive, read_json
from .publish import HOST, publishing
from .schema import CHOSEN_IN_ROUND, DOCUMENT, EXCLUDED, QUARANTINE, ROUND, SELECTION
from .snapshots import Snapshot, corpora, newest, packs_of
from .trained_models import CURVE

_DUCKDB_TYPES = {
    pa.string(): "VARCHAR", pa.large_string(): "VARCHAR", pa.int64(): "BIGINT", pa.int32(): "INTEGER",
    pa.uint64(): "UBIGINT", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN", pa.binary(): "BLOB", pa.binary(16): "BLOB",
}  # fmt: skip

_TOKENS = pa.schema([("row", pa.int64()), ("n_tokens", pa.int64())])

_ROWS = pa.schema([("row", pa.int64())])

_TABLES = {
    "corpora": "corpus VARCHAR, kind VARCHAR, snapshot VARCHAR, records BIGINT, documents BIGINT, quarantined BIGINT, "
    "excluded BIGINT, repaired BIGINT, files BIGINT, shards BIGINT, bytes BIGINT",
    "files": "corpus VARCHAR, file VARCHAR, size BIGINT, sha256 VARCHAR, documents BIGINT, quarantined BIGINT, "
    "repaired BIGINT",
    "shards": "corpus VARCHAR, shard VARCHAR, rows BIGINT, bytes BIGINT, path VARCHAR",
    "features": "feature VARCHAR, key VARCHAR, version BIGINT, parameters VARCHAR, shards BIGINT",
    "runs": "run VARCHAR, flow VARCHAR, status VARCHAR, exit_code INTEGER, started TIMESTAMPTZ, finished TIMESTAMPTZ, "
    "corpus VARCHAR, snapshot VARCHAR, tokenizer VARCHAR, warnings VARCHAR[]",
    "steps": "run VARCHAR, position INTEGER, step VARCHAR, kind VARCHAR, selection VARCHAR, entered BIGINT, "
    "kept BIGINT, tokens_entered BIGINT, tokens_kept BIGINT, bytes_kept BIGINT, reasons VARCHAR, "
    "health VARCHAR, deciding BOOLEAN",
    "models": MODELS,
    "mixtures": MIXTURES,
    "mixture_parts": PARTS,
}


_CLUSTERS = (
    "STRUCT(cluster BIGINT, documents BIGINT, tokens BIGINT, chosen BIGINT, tokens_chosen BIGINT, "
    "mean_distance DOUBLE, x DOUBLE, y DOUBLE, sources STRUCT(source VARCHAR, documents BIGINT, share DOUBLE)[], "
    'nearest STRUCT(doc_id VARCHAR, distance DOUBLE, "text" VARCHAR)[])[]'
)

BUILDS_AT_MOST = 5
_RUN_COLUMNS = (
    "run", "flow", "status", "exit_code", "started", "finished", "corpus", "snapshot", "tokenizer", "warnings",
)  # fmt: skip


def build_catalog(lake: Lake) -> None:
    """Build the catalogue from the manifests in the lake, and publish it whole.

    Where another run ended meanwhile it is built again: an older view of the lake must not be the last one published.
    """
    for _ in range(BUILDS_AT_MOST):
        seen = _runs_seen(lake)
        with publishing(lake.catalog, lake.scratch) as temporary:
            try:
                with duckdb.connect(str(temporary)) as connection:
                    fill_catalog(connection, lake)
            except duckdb.Error as error:
                first_line = str(error).splitlines()[0]
                raise LakeError(
                    f"no catalogue can be made ({first_line}); `tamis verify` says what is damaged"
                ) from error
            temporary.with_name(temporary.name + ".wal").unlink(missing_ok=True)
        if _runs_seen(lake) == seen:
            return


def _runs_seen(lake: Lake) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in (lake.root / "runs").glob("*/run.json"))


def fill_catalog(connection: Any, lake: Lake) -> None:
    """Create all tables and views on a connection."""
    snapshots = [s for name in corpora(lake) if (s := newest(lake, name))]
    runs = [r for p in sorted((lake.root / "runs").glob("*/run.json")) if (r := _run(p))]
    for name, columns in _TABLES.items():
        connection.execute(f"create table {name} ({columns})")
    for name, rows in _rows(lake, snapshots, runs).items():
        _insert(connection, name, rows)
    _document_views(connection, lake, snapshots, runs)
    _result_views(connection, lake)
    round_views(connection, lake, runs)


def _insert(connection: Any, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows through Arrow: row by row, a million files would take minutes."""
    if rows:
        columns = [pa.array(column) for column in zip(*rows, strict=True)]
        connection.register("fresh", pa.table(columns, names=[str(i) for i in range(len(columns))]))
        connection.execute(f"insert into {table} select * from fresh")
        connection.unregister("fresh")


def _run(path: Path) -> dict[str, Any] | None:
    """Return a run's record; one whose process is gone was interrupted. A damaged one is for `tamis verify` to name."""
    try:
        found: dict[str, Any] = read_json(path)
    except LakeError:
        return None
    gone = found["status"] == "running" and not process_alive(found["pid"], found.get("host", HOST))
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
        n_shards = sum(1 for p in path.parent.iterdir() if p.is_dir())
        rows["features"].append((f["feature"], path.parent.name, f["version"], json.dumps(f["parameters"]), n_shards))
    for r in runs:
        rows["runs"].append(tuple(r[column] for column in _RUN_COLUMNS))
        rows["steps"] += _step_rows(r)
        rows["models"] += model_rows(lake, r)
    return rows | {"mixtures": mixture_rows(lake), "mixture_parts": part_rows(lake)}


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


def _document_views(connection: Any, lake: Lake, snapshots: list[Snapshot], runs: list[dict[str, Any]]) -> None:
    """Create `documents` (with the newest run's tokens), `text`, `targets`, `excluded`, `quarantine`."""
    pools = [s for s in snapshots if not s.corpus.startswith("targets/")]
    shards = [x for s in pools for x in s.shards]
    counted = (r for r in runs if r["tokens_key"])
    tokens = {corpus: r["tokens_key"] for r in counted for corpus in corpora_of(r)}  # of the newest run over each
    connection.execute("create table corpus_tokens (corpus VARCHAR, key VARCHAR)")
    _insert(connection, "corpus_tokens", list(tokens.items()))
    parts = [p for key in sorted(set(tokens.values())) for p in _parquet(lake.feature(key).glob("*/*.parquet"))]
    excluded = [lake.snapshot(s.corpus, s.key) / "excluded.parquet" for s in pools]
    _view(connection, "document_rows", [x.path for x in shards], DOCUMENT, _OF_ITS_SHARD)
    _view(connection, "token_rows", parts, _TOKENS, _BELOW_ITS_SHARD)
    _view(connection, "excluded", excluded, EXCLUDED, _OF_ITS_SNAPSHOT)
    connection.execute("""
        create view live_rows as
        select d.* from document_rows d
        anti join excluded e on d.corpus = e.corpus and d.shard = e.shard and d.row = e.row""")
    connection.execute("""
        create view documents as
        select l.corpus, l.doc_id, l.source, l.n_bytes, t.n_tokens, l.meta, l.file, f.sha256 as file_sha256, l.line,
               l.repaired, l.shard, l.row, l.doc_key, l.text_hash
        from live_rows l
        left join corpus_tokens c on l.corpus = c.corpus
        left join token_rows t on c.key = t.key and l.shard = t.shard and l.row = t.row
        left join files f on l.corpus = f.corpus and l.file = f.file""")
    connection.execute("create view text as select corpus, doc_id, text, shard, row from live_rows")
    wanted = [x.path for s in snapshots if s not in pools for x in s.shards]
    _view(connection, "target_rows", wanted, DOCUMENT, _OF_ITS_SHARD)
    connection.execute(
        "create view targets as select corpus as target, doc_id, text, source, meta, file, line from target_rows"
    )
    packs = [(s.corpus, file, key) for s in snapshots for file, key in packs_of(lake, s).items()]
    quarantined = sorted({p for corpus, _, key in packs if (p := lake.quarantine(corpus, key)).exists()})
    connection.execute("create table packs (corpus VARCHAR, file VARCHAR, pack VARCHAR)")
    _insert(connection, "packs", packs)
    _view(connection, "quarantine_rows", quarantined, QUARANTINE, _OF_ITS_PACK)
    connection.execute("""
        create view quarantine as
        select p.corpus, q.file, q.line, q.reason, q.raw
        from quarantine_rows q join packs p on q.pack = p.pack and q.file = p.file""")


def _result_views(connection: Any, lake: Lake) -> None:
    """`selection_steps` (a row a document, run and step), `selections` (the deciding one), `scores`, `rounds`."""
    files = [
        p
        for m in sorted((lake.root / "selections").glob("*/manifest.json"))
        for p in _parquet(m.parent.glob("*.parquet"))
    ]
    _view(connection, "selection_rows", files, SELECTION)
    connection.execute("""
        create view selection_steps as
        select s.run, s.position, s.deciding, r.* from selection_rows r join steps s on r.selection = s.selection""")
    connection.execute("""
        create view selections as
        select * exclude (position, deciding) from selection_steps where deciding or not kept""")
    _view(connection, "round_rows", round_files(lake), ROUND, OF_ITS_ROUND)
    _view(connection, "chosen_rows", choice_files(lake), CHOSEN_IN_ROUND, OF_ITS_CHOICE)
    connection.execute(f"create view rounds as {ROUNDS}")
    connection.execute(f"create view scores as {SCORES}")
    parts = _parquet((lake.root / "features").glob("*/*/*.parquet"))
    _view(connection, "measured_rows", parts, _ROWS, _BELOW_ITS_SHARD)
    connection.execute("""
        create view measured as
        select f.feature, m.key, m.shard, m.row from measured_rows m join features f using (key)""")
    _view(connection, "mixture_rows", draw_files(lake), DRAW)
    _view(connection, "training", curve_files(lake), CURVE, OF_ITS_MODEL)
    _cluster_view(connection, lake)


def _cluster_view(connection: Any, lake: Lake) -> None:
    """`clusters`: a row a run, clustered step and cluster."""
    found = sorted(lake.clusters("x").parent.glob("*/clusters.json"))
    source = f"(select null::VARCHAR as selection, null::{_CLUSTERS} as clusters where false)"
    if found:
        listed = ", ".join(f"'{_quoted(path)}'" for path in found)
        source = f"""read_json([{listed}], format = 'unstructured', maximum_object_size = {1 << 30},
                     columns = {{selection: 'VARCHAR', clusters: '{_CLUSTERS}'}})"""
    connection.execute(f"""
        create view clusters as
        select s.run, s.position, s.step, c.* exclude (selection)
        from (select selection, unnest(clusters, max_depth := 2) from {source}) c join steps s using (selection)""")


def _parquet(paths: Iterable[Path]) -> list[Path]:
    return sorted(p for p in paths if p.exists())


def _view(connection: Any, name: str, files: list[Path], schema: pa.Schema, added: str = "") -> None:
    """Create a view over files, typed and empty where there are none; `added` are columns made of a file's name."""
    columns = ", ".join(f.name for f in schema)
    if files:
        listed = ", ".join(f"'{_quoted(f)}'" for f in files)
        source = f"read_parquet([{listed}], filename = true, file_row_number = true)"
    else:
        typed = ", ".join(f"null::{_DUCKDB_TYPES[f.type]} as {f.name}" for f in schema)
        source = f"(select {typed}, null::VARCHAR as filename, null::BIGINT as file_row_number where false)"
    connection.execute(f"create view {name} as select {added}{columns} from {source}")


_OF_ITS_SHARD = "parse_path(filename)[-3] as corpus, parse_filename(filename, true) as shard, file_row_number as row, "
_BELOW_ITS_SHARD = "parse_path(filename)[-3] as key, parse_path(filename)[-2] as shard, "
_OF_ITS_SNAPSHOT = "parse_path(filename)[-4] as corpus, "
_OF_ITS_PACK = "parse_filename(filename, true) as pack, "


def connect(lake: Lake) -> Any:
    """Open the catalogue for reading. Raises LakeError where there is none.

    It is attached to a database of its own in memory: DuckDB shares one open file among all connections of a process,
    so an older reader would hide what was published since. A lake that was moved gets its views in memory, because
    those in the file name the old place.
    """
    if not lake.catalog.exists():
        raise LakeError(f'"{lake.root}" has no catalogue yet; `tamis catalog rebuild` makes it')
    connection = duckdb.connect()
    connection.execute(f"attach '{_quoted(lake.catalog)}' as catalog (read_only)")
    connection.execute("use catalog")
    here = f"{lake.root}{os.sep}"
    if connection.execute("select 1 from shards where not starts_with(path, ?) limit 1", [here]).fetchall():
        connection.execute("use memory")
        fill_catalog(connection, lake)
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


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
