"""Why a document is in or out: what every step that saw it decided, and where it came from.

The answer is read from the catalogue and the records of the runs; nothing is computed again. A token of an exported
mixture leads to its document through the export's own files, so that part needs no lake.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..storage.catalog import connect
from ..storage.errors import ConfigError
from ..storage.exported_tokens import ExportedTokens
from ..storage.lake import Lake
from .runs import RunRecord, load_runs

TEXT_SHOWN = 300
TOKENS_AROUND = 24
IDS_COMPARED = 5_000_000
"""In a lake with more documents an unknown id is not compared with those that there are."""
_DECIDED = "run, step, position, kept, reason, ref, score, rank, multiplicity"


def explain(
    lake: Lake, doc_id: str, *, corpus: str | None = None, run: str | None = None, runs: Collection[str] | None = None
) -> dict[str, Any]:
    """Return where the documents of that id came from, what each step decided, newest run first, and their mixtures.

    `run` is the id of a run, a part of it or a flow, `runs` are whole ids; default: all. Raises ConfigError where there
    is no such document or run.
    """
    records = {r.run: r for r in load_runs(lake)}
    wanted = [name for name, r in records.items() if _is_meant(r, run) and (runs is None or name in runs)]
    if run is not None and not wanted:
        raise ConfigError(f"no run {run!r}; `tamis status` lists them")
    with connect(lake) as connection:
        documents = _rows(
            connection,
            f"""select d.corpus, d.doc_id, d.source, d.n_bytes, d.n_tokens, d.file, d.file_sha256, d.line, d.repaired,
                       d.shard, d.row, d.meta, left(t.text, {TEXT_SHOWN}) as text
                from documents d join text t using (corpus, doc_id, shard, row)
                where d.doc_id = $1 order by d.corpus""",
            [doc_id],
        )
        excluded = _rows(connection, "select corpus, reason, ref from excluded where doc_id = $1", [doc_id])
        decided = _rows(
            connection,
            f"select corpus, {_DECIDED} from selection_steps where doc_id = $1 and list_contains($2, run)"
            "order by run desc, position",
            [doc_id, wanted],
        )
        mixtures = _rows(
            connection,
            """select distinct r.corpus, r.mixture, r.draw, r.part, r.multiplicity
               from mixture_rows r semi join mixtures using (draw) where r.doc_id = $1""",
            [doc_id],
        )
        documents, excluded, decided, mixtures = (
            [row for row in rows if corpus in (None, row["corpus"])]
            for rows in (documents, excluded, decided, mixtures)
        )
        if not documents and not excluded and not decided:
            raise ConfigError(f"no document {doc_id!r} in {str(lake.root)!r}{_nearest(connection, doc_id)}")
        found: list[dict[str, Any]] = []
        for one in decided:
            if not found or found[-1]["run"] != one["run"]:
                found.append(_run(records[one["run"]]))
            found[-1]["steps"].append(_step(connection, records[one["run"]], one))
    return {"doc_id": doc_id, "documents": documents, "excluded": excluded, "runs": found, "mixtures": mixtures}


def _is_meant(record: RunRecord, name: str | None) -> bool:
    return name is None or name in record.run or name == record.flow


def _run(record: RunRecord) -> dict[str, Any]:
    return {"run": record.run, "flow": record.flow, "status": record.status, "corpus": record.corpus,
            "started": record.started, "steps": []}  # fmt: skip


def _step(connection: Any, record: RunRecord, decided: dict[str, Any]) -> dict[str, Any]:
    """Return what one step decided, and the cut by which it did."""
    step = record.steps[decided["position"]]
    said = {name: decided[name] for name in ("step", "kept", "reason", "ref", "score", "rank", "multiplicity")}
    said |= {"kind": step["kind"], "by": step.get("selector"), "entered": step["entered"], "of_them_kept": step["kept"]}
    if step.get("cuts") and decided["score"] is not None:
        groups = [group for cut in step["cuts"].values() for group in cut["groups"]]
        query = """select min(score) filter (where kept), max(score) filter (where not kept)
                   from selection_steps where run = $1 and step = $2 and not isnan(score)"""
        lowest, highest = connection.execute(query, [record.run, decided["step"]]).fetchone()
        said["cut"] = {
            "budget": step.get("budget"), "groups": len(groups), "ranked": sum(g["n_eligible"] for g in groups),
            "lowest_kept_score": lowest, "highest_dropped_score": highest,
        }  # fmt: skip
    return said


def _nearest(connection: Any, doc_id: str) -> str:
    (n,) = connection.execute("select sum(documents) from corpora where kind = 'pool'").fetchone()
    if (n or 0) > IDS_COMPARED:
        return ""
    query = "select doc_id from documents order by jaro_winkler_similarity(doc_id, $1) desc, doc_id limit 1"
    found = connection.execute(query, [doc_id]).fetchone()
    return f"; did you mean {found[0]!r}?" if found else ""


def _rows(connection: Any, query: str, parameters: list[Any]) -> list[dict[str, Any]]:
    found = connection.execute(query, parameters)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def explain_token(lake: Lake | None, folder: Path, position: int) -> dict[str, Any]:
    """Return the token at a position of an exported mixture, what stands around it, and its document's explanation.

    Without a lake, or where the lake does not know the document, `explanation` is None: the raw file and line are the
    export's own. Raises ConfigError where the folder has no tokens, or not so many.
    """
    tokens = ExportedTokens(folder)
    (span,) = tokens.locate([position]).to_pylist()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    offset, last = span["offset"], span["length"] - 1  # the last is the end token
    n_before, n_after = min(offset, TOKENS_AROUND), max(0, min(TOKENS_AROUND, last - offset - 1))
    before = tokens.read(position - n_before, n_before).tolist() if n_before else []
    after = tokens.read(position + 1, n_after).tolist() if n_after else []
    number = int(tokens.read(position, 1)[0])
    said = {
        "export": str(folder), "mixture": tokens.manifest["mixture"], "run": tokens.manifest["run"],
        "token": {"id": number, "text": tokenizer.decode([number], skip_special_tokens=False), "end": offset == last},
        "before": tokenizer.decode(before, skip_special_tokens=False),
        "after": tokenizer.decode(after, skip_special_tokens=False), **span,
    }  # fmt: skip
    return {**said, "explanation": lake and _explained(lake, tokens.manifest["run"], span)}


def _explained(lake: Lake, run: str, span: dict[str, Any]) -> dict[str, Any] | None:
    """Return the explanation of a document in the run that an export was written by; of a mixture, in its flows'."""
    record = next((r for r in load_runs(lake) if r.run == run), None)
    if record is None:
        return None
    runs = record.mixture["runs"].values() if record.mixture else [run]
    try:
        return explain(lake, span["doc_id"], corpus=span["corpus"], runs=[*runs])
    except ConfigError:
        return None
