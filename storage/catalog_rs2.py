"""The rounds of `rs2` in the catalogue: `rs2_rounds`, a row a run, step, round and group, and the macro `rs2_round`.

A round is not stored: `from rs2_round(run, step, round)` computes it from the keys of the documents and the marks that
the selection's manifest states (`selectors/rounds.py` says what they mean): 4 million documents a second and core for
each mark, and most rounds have two.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa

from .lake import Lake, read_json

_MARK = pa.struct([("key", pa.uint64()), ("place", pa.int64()), ("doc_id", pa.string())])
_SPAN = pa.struct([("start", _MARK), ("stop", _MARK), ("within", pa.list_(_MARK)), ("without", pa.list_(_MARK))])
_PLAN = pa.schema(
    [
        ("selection", pa.string()), ("round", pa.int64()), ("cut_group", pa.string()), ("documents", pa.int64()),
        ("weight", pa.int64()), ("shuffle", pa.uint64()), ("spans", pa.list_(_SPAN)),
    ]
)  # fmt: skip

_ROWS = "selection, corpus, doc_id, doc_key, shard, row, n_tokens, cut_group"
_NO_ROWS = (
    "select null::VARCHAR as selection, null::VARCHAR as corpus, null::VARCHAR as doc_id, null::UBIGINT as doc_key, "
    "null::VARCHAR as shard, null::BIGINT as row, null::BIGINT as n_tokens, null::VARCHAR as cut_group where false"
)
# `mix64` of selectors/keyed.py; products of 64 bits need 128, and DuckDB refuses those that overflow.
_MACROS = (
    "low_bits(x) as (x & 18446744073709551615::UHUGEINT)",
    "shift_xor(x, n) as xor(x, x >> n)",
    "mix64(x) as shift_xor(low_bits(shift_xor(low_bits(shift_xor(x::UHUGEINT, 30) * 13787848793156543929::UHUGEINT), "
    "27) * 10723151780598845931::UHUGEINT), 31)::UBIGINT",
    "keyed_place(doc_key, k) as 4503599627370496 - (mix64(xor(doc_key, k)) >> 12)::BIGINT",
    "before_mark(doc_key, id, mark) as keyed_place(doc_key, mark.key) < mark.place "
    "or keyed_place(doc_key, mark.key) = mark.place and coalesce(id < mark.doc_id, false)",
    "before_all(doc_key, id, marks) as len(list_filter(marks, lambda mark: not before_mark(doc_key, id, mark))) = 0",
)
_ROUND = """
    create macro rs2_round(of_run, of_step, of_round) as table
    select r.corpus, r.doc_id, r.shard, r.row, r.n_tokens,
           row_number() over (order by keyed_place(r.doc_key, p.shuffle), r.doc_id) as position
    from steps s join rs2_rows r using (selection) join (
        select selection, cut_group, shuffle, unnest(spans) as span from rs2_plan where round = of_round
    ) p on p.selection = r.selection and p.cut_group = r.cut_group
    where s.run = of_run and s.step = of_step
      and (p.span.stop is null or before_mark(r.doc_key, r.doc_id, p.span.stop))
      and (p.span.start is null or not before_mark(r.doc_key, r.doc_id, p.span.start))
      and before_all(r.doc_key, r.doc_id, p.span.within)
      and (len(p.span.without) = 0 or not before_all(r.doc_key, r.doc_id, p.span.without))"""


def round_views(connection: Any, lake: Lake, runs: list[dict[str, Any]]) -> None:
    """Create them for the selections of these runs that are in rounds."""
    names = sorted({s["selection"] for run in runs for s in run["steps"] if s.get("selector") == "rs2"})
    found = [
        (lake.selection(name), path) for name in names if (path := lake.selection(name) / "manifest.json").exists()
    ]
    rows = [row for folder, path in found for row in _plan_rows(folder.name, read_json(path)["rounds"])]
    connection.register("fresh", pa.Table.from_pylist(rows, schema=_PLAN))
    connection.execute("create table rs2_plan as select * from fresh")
    connection.unregister("fresh")
    files = [f for folder, _ in found for f in sorted(folder.glob("*.parquet"))]
    source = f"select {_ROWS} from read_parquet([{_listed(files)}]) where kept" if files else _NO_ROWS
    connection.execute(f"create view rs2_rows as {source}")
    connection.execute("""
        create view rs2_rounds as
        select s.run, s.step, p.round, p.cut_group, p.documents, p.weight
        from steps s join rs2_plan p using (selection)""")
    for macro in _MACROS:
        connection.execute(f"create macro {macro}")
    connection.execute(_ROUND)


def _plan_rows(selection: str, rule: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for every round and group of a rule, with keys in the place of orders."""

    def mark(stated: list[Any] | None) -> dict[str, Any] | None:
        return {"key": rule["orders"][stated[0]], "place": stated[1], "doc_id": stated[2]} if stated else None

    def span(stated: dict[str, Any]) -> dict[str, Any]:
        ends = {name: mark(stated.get(name)) for name in ("start", "stop")}
        return ends | {name: [mark(one) for one in stated.get(name, [])] for name in ("within", "without")}

    return [
        {
            "selection": selection, "round": number, "cut_group": group["name"], "documents": one["documents"],
            "weight": one["weight"], "shuffle": shuffle, "spans": [span(stated) for stated in one["spans"]],
        }
        for group in rule["groups"]
        for number, (one, shuffle) in enumerate(zip(group["rounds"], rule["shuffles"], strict=True))
    ]  # fmt: skip


def _listed(files: list[Path]) -> str:
    return ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
