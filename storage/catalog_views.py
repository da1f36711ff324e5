"""The catalogue's views over what lies in Parquet: documents, and what steps, rounds, mixtures and trainings left."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from .catalog_diffs import OF_ITS_RUN, diff_files
from .catalog_mixtures import corpora_of, draw_files
from .catalog_models import OF_ITS_MODEL, curve_files
from .catalog_rounds import OF_ITS_CHOICE, OF_ITS_ROUND, ROUNDS, SCORES, choice_files, round_files
from .diffs import CHANGE
from .draws import DRAW
from .lake import Lake
from .places import is_local, presence
from .schema import CHOSEN_IN_ROUND, DOCUMENT, EXCLUDED, QUARANTINE, ROUND, SELECTION
from .snapshots import Snapshot, packs_of
from .trained_models import CURVE

_DUCKDB_TYPES = {
    pa.string(): "VARCHAR", pa.large_string(): "VARCHAR", pa.int64(): "BIGINT", pa.int32(): "INTEGER",
    pa.uint64(): "UBIGINT", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN", pa.binary(): "BLOB", pa.binary(16): "BLOB",
}  # fmt: skip

_TOKENS = pa.schema([("row", pa.int64()), ("n_tokens", pa.int64())])

_ROWS = pa.schema([("row", pa.int64())])

_CLUSTERS = (
    "STRUCT(cluster BIGINT, documents BIGINT, tokens BIGINT, chosen BIGINT, tokens_chosen BIGINT, "
    "mean_distance DOUBLE, x DOUBLE, y DOUBLE, sources STRUCT(source VARCHAR, documents BIGINT, share DOUBLE)[], "
    'nearest STRUCT(doc_id VARCHAR, distance DOUBLE, "text" VARCHAR)[])[]'
)


def insert(connection: Any, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows through Arrow: row by row, a million files would take minutes."""
    if rows:
        columns = [pa.array(column) for column in zip(*rows, strict=True)]
        connection.register("fresh", pa.table(columns, names=[str(i) for i in range(len(columns))]))
        connection.execute(f"insert into {table} select * from fresh")
        connection.unregister("fresh")


def document_views(connection: Any, lake: Lake, snapshots: list[Snapshot], runs: list[dict[str, Any]]) -> None:
    """Create `documents` (with the newest run's tokens), `text`, `targets`, `excluded`, `quarantine`."""
    pools = [s for s in snapshots if not s.corpus.startswith("targets/")]
    shards = [x for s in pools for x in s.shards]
    counted = (r for r in runs if r["tokens_key"])
    tokens = {corpus: r["tokens_key"] for r in counted for corpus in corpora_of(r)}  # of the newest run over each
    connection.execute("create table corpus_tokens (corpus VARCHAR, key VARCHAR)")
    insert(connection, "corpus_tokens", list(tokens.items()))
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
    there = presence(lake.root / "quarantine")
    quarantined = sorted({p for corpus, _, key in packs if there(p := lake.quarantine(corpus, key))})
    connection.execute("create table packs (corpus VARCHAR, file VARCHAR, pack VARCHAR)")
    insert(connection, "packs", packs)
    _view(connection, "quarantine_rows", quarantined, QUARANTINE, _OF_ITS_PACK)
    connection.execute("""
        create view quarantine as
        select p.corpus, q.file, q.line, q.reason, q.raw
        from quarantine_rows q join packs p on q.pack = p.pack and q.file = p.file""")


def result_views(connection: Any, lake: Lake) -> None:
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
    _view(connection, "diff_documents", diff_files(lake), CHANGE, OF_ITS_RUN)
    _view(connection, "training", curve_files(lake), CURVE, OF_ITS_MODEL)
    _cluster_view(connection, lake)


def _cluster_view(connection: Any, lake: Lake) -> None:
    """`clusters`: a row a run, clustered step and cluster."""
    found = sorted(lake.clusters("x").parent.glob("*/clusters.json"))
    source = f"(select null::VARCHAR as selection, null::{_CLUSTERS} as clusters where false)"
    if found:
        listed = ", ".join(f"'{quoted(path)}'" for path in found)
        source = f"""read_json([{listed}], format = 'unstructured', maximum_object_size = {1 << 30},
                     columns = {{selection: 'VARCHAR', clusters: '{_CLUSTERS}'}})"""
    connection.execute(f"""
        create view clusters as
        select s.run, s.position, s.step, c.* exclude (selection)
        from (select selection, unnest(clusters, max_depth := 2) from {source}) c join steps s using (selection)""")


def _parquet(paths: Iterable[Path]) -> list[Path]:
    return sorted(p for p in paths if not is_local(p) or p.exists())


def _view(connection: Any, name: str, files: list[Path], schema: pa.Schema, added: str = "") -> None:
    """Create a view over files, typed and empty where there are none; `added` are columns made of a file's name."""
    columns = ", ".join(f.name for f in schema)
    if files:
        listed = ", ".join(f"'{quoted(f)}'" for f in files)
        source = f"read_parquet([{listed}], filename = true, file_row_number = true)"
    else:
        typed = ", ".join(f"null::{_DUCKDB_TYPES[f.type]} as {f.name}" for f in schema)
        source = f"(select {typed}, null::VARCHAR as filename, null::BIGINT as file_row_number where false)"
    connection.execute(f"create view {name} as select {added}{columns} from {source}")


_OF_ITS_SHARD = "parse_path(filename)[-3] as corpus, parse_filename(filename, true) as shard, file_row_number as row, "
_BELOW_ITS_SHARD = "parse_path(filename)[-3] as key, parse_path(filename)[-2] as shard, "
_OF_ITS_SNAPSHOT = "parse_path(filename)[-4] as corpus, "
_OF_ITS_PACK = "parse_filename(filename, true) as pack, "


def quoted(path: Path) -> str:
    """Return a path as it stands inside quotes in SQL."""
    return str(path).replace("'", "''")
