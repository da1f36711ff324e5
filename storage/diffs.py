"""Which documents two runs over a corpus differ in, and why.

Only shards that differ are compared: one that lies in both snapshots with the same rows has the same documents, and one
of which both runs kept the same rows has no news. What is left is joined by id in DuckDB, which goes to disk
where its share of the memory does not hold it (`storage/memory.py`).
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import LakeError
from .fingerprint import TableDigest
from .lake import Lake
from .locked_duckdb import lock
from .places import open_to_duckdb
from .publish import DIGEST_FIELD, PARQUET, publishing, temporary_path
from .snapshots import Snapshot
from .survivors import Survivors

NEW, CHOSEN, CHANGED = "new in the corpus", "newly chosen", "text"
GONE, DROPPED = "gone from the corpus", "no more chosen"
WHYS = {"in": (NEW, CHOSEN), "out": (GONE, DROPPED), "changed": (CHANGED,)}
ROWS_AT_A_TIME = 122_880

#: One row a document that only one of two runs chose, or that both chose with another text.
CHANGE = pa.schema(
    [
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("change", pa.string(), nullable=False),  # in | out | changed
        pa.field("why", pa.string(), nullable=False),  # see WHYS
        pa.field("text_changed", pa.bool_(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("n_tokens_before", pa.int64()),  # null: not chosen then
        pa.field("n_tokens_now", pa.int64()),
        pa.field("score_before", pa.float64()),
        pa.field("score_now", pa.float64()),
        pa.field("step", pa.string()),  # which dropped it in the run that did not choose it
        pa.field("reason", pa.string()),  # of that step
        pa.field("shard_before", pa.string()),  # null: not in the corpus then
        pa.field("row_before", pa.int64()),
        pa.field("shard_now", pa.string()),
        pa.field("row_now", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Side:
    """A finished run, as a diff sees it."""

    snapshot: Snapshot
    selections: tuple[str, ...]
    """Of its steps, the last one the deciding."""
    kept: Mapping[str, str]
    """Digest of the rows that it kept of each shard."""


class Difference:
    """The documents in which two runs differ; see `differing`."""

    def __init__(self, lake: Lake, connection: Any, before: Side, now: Side) -> None:
        self._lake, self._connection = lake, connection
        self._corpus = now.snapshot.corpus
        then, there = (Survivors.of(side.snapshot).digests for side in (before, now))
        self.unmoved = {shard for shard, digest in there.items() if then.get(shard) == digest}
        """Shards whose documents are the same in both snapshots."""
        self.same = {s for s in self.unmoved if s in now.kept and now.kept[s] == before.kept.get(s)}
        """Those of them of which both runs kept the same."""
        connection.register("unmoved", pa.table({"shard": pa.array(sorted(self.unmoved), pa.string())}))
        for side, name in ((before, "before"), (now, "now")):
            self._documents(side, name)
            self._chosen(side, name)
        connection.execute(_PLACED)
        self._reasons(before, now)
        self._sources()
        connection.execute(_CHANGES)

    def _documents(self, side: Side, name: str) -> None:
        excluded = self._lake.table(
            self._lake.snapshot(side.snapshot.corpus, side.snapshot.key) / "excluded.parquet", ["shard", "row"]
        )
        self._connection.register("excluded", excluded)
        files = [shard.path for shard in side.snapshot.shards if shard.digest not in self.unmoved]
        self._read(f"live_{name}", _LIVE, files, "doc_id varchar, text_hash blob, shard varchar, row bigint")
        self._connection.unregister("excluded")

    def _chosen(self, side: Side, name: str) -> None:
        folder = self._lake.selection(side.selections[-1])
        files = [folder / f"{shard}.parquet" for shard in sorted(set(side.kept) - self.same)]
        columns = "doc_id varchar, shard varchar, row bigint, n_tokens bigint, score double"
        self._read(f"chosen_{name}", _KEPT, files, columns)

    def _reasons(self, before: Side, now: Side) -> None:
        """Find which step dropped the documents that only the other run chose."""
        columns = "doc_id varchar, step varchar, reason varchar"
        for side, name, why in ((before, "before", CHOSEN), (now, "now", DROPPED)):
            query = f"select distinct shard_{name} from placed where why = ?"
            shards = [shard for (shard,) in self._connection.execute(query, [why]).fetchall()]
            paths = [self._lake.selection(key) / f"{shard}.parquet" for key in side.selections for shard in shards]
            there = [path for path in paths if path.exists()]
            self._read(f"reasons_{name}", _REASONS.format(name=name, why=why), there, columns)

    def _sources(self) -> None:
        places = "select distinct coalesce(shard_now, shard_before) from placed"
        shards = [shard for (shard,) in self._connection.execute(places).fetchall()]
        files = [self._lake.shard(self._corpus, shard) for shard in shards]
        self._read("sources", _SOURCES, files, "doc_id varchar, source varchar")

    def _read(self, table: str, query: str, files: Sequence[Path], columns: str) -> None:
        """Make a table of what a query finds in Parquet files; an empty one where there are none."""
        if files:
            self._connection.execute(f"create table {table} as {query}", {"files": [str(path) for path in files]})
        else:
            self._connection.execute(f"create table {table} ({columns})")

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return documents and tokens for each change and reason."""
        rows = self._connection.execute(
            "select change, why, count(*), coalesce(sum(coalesce(n_tokens_now, n_tokens_before)), 0)::bigint "
            "from changes group by all"
        ).fetchall()
        found = {(change, why): {"documents": n, "tokens": tokens} for change, why, n, tokens in rows}
        none = {"documents": 0, "tokens": 0}
        return {change: {why: found.get((change, why), none) for why in whys} for change, whys in WHYS.items()}

    def corpus_counts(self) -> dict[str, int]:
        """Return how many documents of the corpus are new, gone, or have another text."""
        new, gone, changed = self._connection.execute(_OF_THE_CORPUS).fetchone()
        return {"new": new, "gone": gone, "changed": changed}

    def fresh(self, shard: str) -> npt.NDArray[np.int64]:
        """Return the rows of a shard that are new documents, or have a new text."""
        if shard in self.unmoved:
            return np.empty(0, np.int64)
        found = self._connection.execute(_FRESH, [shard]).fetchnumpy()
        return np.asarray(found["row"], np.int64)

    def documents(self) -> pa.RecordBatchReader:
        """Stream rows as CHANGE says."""
        columns = ", ".join(f.name for f in CHANGE if f.name != "corpus")
        query = f"select ?::varchar as corpus, {columns} from changes order by change, why, doc_id"
        batches = self._connection.sql(query, params=[self._corpus]).to_arrow_reader(ROWS_AT_A_TIME)
        return pa.RecordBatchReader.from_batches(CHANGE, (batch.cast(CHANGE) for batch in batches))

    def publish(self, target: Path) -> None:
        """Publish these rows, some at a time, with the digest of them all in the footer."""
        digest = TableDigest(CHANGE)
        digest.update(CHANGE.empty_table())  # where there are no rows, the columns count as they do when read
        with (
            publishing(target, self._lake.scratch) as temporary,
            pq.ParquetWriter(temporary, CHANGE, **PARQUET) as out,
        ):
            for batch in self.documents():
                digest.update(pa.Table.from_batches([batch]))
                out.write_batch(batch)
            out.add_key_value_metadata({DIGEST_FIELD.decode(): digest.hexdigest()})


@contextmanager
def differing(lake: Lake, before: Side, now: Side) -> Iterator[Difference]:
    """Yield the difference of two runs over the same corpus. Raises LakeError where files of a run are gone."""
    spill = temporary_path(lake.scratch, "diff")
    config: Any = {**lake.memory.query_config, "temp_directory": str(spill)}
    spill.mkdir(parents=True)
    try:
        with duckdb.connect(str(spill / "diff.duckdb"), config=config) as connection:
            open_to_duckdb(connection, lake.root)
            lock(connection, lake)
            yield Difference(lake, connection, before, now)
    except duckdb.Error as error:
        raise LakeError(f"the runs cannot be compared: {str(error).splitlines()[0]}") from error
    finally:
        shutil.rmtree(spill, ignore_errors=True)


_LIVE = """
select doc_id, text_hash, parse_filename(filename, true) as shard, file_row_number as row
from read_parquet($files, filename = true, file_row_number = true)
anti join excluded on excluded.shard = parse_filename(filename, true) and excluded.row = file_row_number"""

_KEPT = "select doc_id, shard, row, n_tokens, score from read_parquet($files) where kept"

# Where a document lies that a run did not choose: in the same place if its shard is in both snapshots, else looked up.
_PLACED = f"""
create table placed as
with pairs as (
    select coalesce(n.doc_id, b.doc_id) as doc_id, b.doc_id is not null as was, n.doc_id is not null as stays,
           b.shard as shard_b, b.row as row_b, n.shard as shard_n, n.row as row_n,
           b.n_tokens as n_tokens_before, n.n_tokens as n_tokens_now, b.score as score_before, n.score as score_now
    from chosen_before b full join chosen_now n on b.doc_id = n.doc_id
), looked as (
    select p.*, p.shard_n in (from unmoved) as unmoved_n, p.shard_b in (from unmoved) as unmoved_b,
           lb.shard as shard_lb, lb.row as row_lb, ln.shard as shard_ln, ln.row as row_ln,
           coalesce(lb.text_hash <> ln.text_hash, false) as text_changed
    from pairs p left join live_before lb on p.doc_id = lb.doc_id left join live_now ln on p.doc_id = ln.doc_id
), found as (
    select doc_id, was, stays, text_changed, n_tokens_before, n_tokens_now, score_before, score_now,
           case when was then shard_b when unmoved_n then shard_n else shard_lb end as shard_before,
           case when was then row_b when unmoved_n then row_n else row_lb end as row_before,
           case when stays then shard_n when unmoved_b then shard_b else shard_ln end as shard_now,
           case when stays then row_n when unmoved_b then row_b else row_ln end as row_now
    from looked
)
select *, case when was and stays then 'changed' when stays then 'in' else 'out' end as change,
       case when was and stays then '{CHANGED}'
            when stays then if(shard_before is null, '{NEW}', '{CHOSEN}')
            else if(shard_now is null, '{GONE}', '{DROPPED}') end as why
from found where not (was and stays and not text_changed)"""

_REASONS = """
select p.doc_id, s.step, s.reason
from read_parquet($files) s join placed p on s.shard = p.shard_{name} and s.row = p.row_{name}
where p.why = '{why}' and not s.kept"""

_SOURCES = """
select p.doc_id, s.source
from (
    select parse_filename(filename, true) as shard, file_row_number as row, source
    from read_parquet($files, filename = true, file_row_number = true)
) s join placed p on s.shard = coalesce(p.shard_now, p.shard_before)
    and s.row = if(p.shard_now is null, p.row_before, p.row_now)"""

_CHANGES = """
create table changes as
select p.* exclude (was, stays), s.source, coalesce(n.step, b.step) as step, coalesce(n.reason, b.reason) as reason
from placed p left join sources s on p.doc_id = s.doc_id
left join reasons_now n on p.doc_id = n.doc_id left join reasons_before b on p.doc_id = b.doc_id"""

_OF_THE_CORPUS = """
select count(*) filter (where b.doc_id is null), count(*) filter (where n.doc_id is null),
       count(*) filter (where b.text_hash <> n.text_hash)
from live_before b full join live_now n on b.doc_id = n.doc_id"""

_FRESH = """
select n.row as row from live_now n left join live_before b on n.doc_id = b.doc_id
where n.shard = ? and (b.doc_id is null or b.text_hash <> n.text_hash) order by n.row"""
