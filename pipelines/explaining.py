"""Why a document is in or out: what every step that saw it decided, and where it came from.

The answer is read from the lake: the catalogue, the records of the runs, and what their steps left; nothing is fitted
or scored again.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..storage.catalog import connect
from ..storage.errors import ConfigError
from ..storage.lake import Lake
from .explained_steps import Wanted, explain_step
from .opened_runs import OpenedRun
from .opened_steps import OpenedStep
from .runs import RunRecord, load_runs

TEXT_SHOWN = 300
IDS_COMPARED = 5_000_000
"""In a lake with more documents an unknown id is not compared with those that there are."""
Record = tuple[str, str, int]
"""Corpus, shard and row of a record in the lake."""


def explain(
    lake: Lake | Path | str, doc_id: str, *, corpus: str | None = None, run: str | None = None,
    runs: Collection[str] | None = None, reasons: Wanted = "none",
) -> dict[str, Any]:  # fmt: skip
    """Return where the documents of that id came from, what each step decided, newest run first, and their mixtures.

    `run` is the id of a run, a part of it or a flow, `runs` are whole ids; default: all. A step has `rules` or `reads`
    (the values that decided), `cut` (`cut_places`), `stays` (what `ref` names), `gone` (what the lake has no more), and
    where `reasons` are wanted `why`, a `selectors.reasons.Reason`. Raises ConfigError where there is no such document
    or run.
    """
    lake = lake if isinstance(lake, Lake) else Lake.open(lake)
    if not is_unicode(doc_id):
        raise ConfigError(
            f"no document {doc_id!r} in {str(lake.root)!r}: ids are Unicode, and this has a lone surrogate"
        )
    with Explainer(lake, run, runs, reasons) as explainer:
        found = explainer.of(doc_id, corpus=corpus)
        if not any(found[name] for name in ("documents", "excluded", "runs")):
            raise ConfigError(f"no document {doc_id!r} in {str(lake.root)!r}{explainer.nearest(doc_id)}")
    return found


class Explainer:
    """Explain documents of a lake, its catalogue and runs opened once; a context manager."""

    def __init__(
        self, lake: Lake, run: str | None = None, runs: Collection[str] | None = None, reasons: Wanted = "none"
    ) -> None:
        self._lake, self._reasons = lake, reasons
        records = {r.run: r for r in load_runs(lake)}
        meant = {name: r for name, r in records.items() if _is_meant(r, run) and (runs is None or name in runs)}
        if run is not None and not meant:
            raise ConfigError(f"no run {run!r}; `tamis status` lists them")
        self._runs = {name: OpenedRun(lake, record) for name, record in meant.items()}
        self._steps: dict[tuple[str, str], OpenedStep] = {}
        self._said: dict[tuple[str, str, str, int], dict[str, Any]] = {}

    def __enter__(self) -> "Explainer":
        self._connection = connect(self._lake)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def runs(self) -> dict[str, OpenedRun]:
        """The runs that are meant, by id, oldest first."""
        return self._runs

    def of(self, doc_id: str, *, corpus: str | None = None, record: Record | None = None) -> dict[str, Any]:
        """Return the explanation of the documents of an id, or of one record of it; its lists may be empty."""

        def mine(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            rows = [row for row in rows if corpus in (None, row["corpus"])]
            return [row for row in rows if record in (None, (row["corpus"], row["shard"], row["row"]))]

        documents = self.rows(
            f"""select d.corpus, d.doc_id, d.source, d.n_bytes, d.n_tokens, d.file, d.file_sha256, d.line, d.repaired,
                       d.shard, d.row, d.meta, left(t.text, {TEXT_SHOWN}) as text
                from documents d join text t using (corpus, doc_id, shard, row)
                where d.doc_id = $1 order by d.corpus""",
            [doc_id],
        )
        excluded = self.rows(
            f"""select e.corpus, e.reason, e.ref, d.file, d.line, e.shard, e.row, left(d.text, {TEXT_SHOWN}) as text
                from excluded e join document_rows d using (corpus, shard, row)
                where e.doc_id = $1 order by e.corpus, d.file, d.line""",
            [doc_id],
        )
        decided = self.rows(
            """select corpus, doc_id, shard, row, run, step, position, kept, reason, ref, score, rank, multiplicity
               from selection_steps where doc_id = $1 and list_contains($2, run) order by run desc, position""",
            [doc_id, [*self._runs]],
        )
        mixtures = self.rows(
            """select distinct r.corpus, r.mixture, r.draw, r.part, r.multiplicity, r.shard, r.row
               from mixture_rows r semi join mixtures using (draw) where r.doc_id = $1""",
            [doc_id],
        )
        found: list[dict[str, Any]] = []
        for one in mine(decided):
            if not found or found[-1]["run"] != one["run"]:
                found.append(_run(self._runs[one["run"]].record))
            found[-1]["steps"].append(self._told(one))
        in_mixtures = [{k: v for k, v in row.items() if k not in ("shard", "row")} for row in mine(mixtures)]
        return {
            "doc_id": doc_id, "documents": mine(documents), "excluded": mine(excluded), "runs": found,
            "mixtures": in_mixtures,
        }  # fmt: skip

    def _told(self, decided: dict[str, Any]) -> dict[str, Any]:
        """Return what a step did with a document; of runs that share the step's result, what the first of them says."""
        opened = self._runs[decided["run"]]
        step = opened.record.steps[decided["position"]]
        mine = (step["selection"], step["name"])
        if mine not in self._steps:
            self._steps[mine] = OpenedStep(opened, step["name"])
        place = (*mine, decided["shard"], decided["row"])
        if place not in self._said:
            self._said[place] = explain_step(self._steps[mine], decided, self.rows, self._reasons)
        return self._said[place]

    def nearest(self, doc_id: str) -> str:
        """Return the end of an error message: the nearest id there is, or where an unread record has it."""
        for row in self.rows("select file, line, raw from quarantine", []):
            if doc_id.encode() in row["raw"]:
                place = row["file"] if row["line"] is None else f"{row['file']}:{row['line']}"
                return f"; a record that could not be read has it: `tamis explain --at {place}`"
        (n,) = self._connection.execute("select sum(documents) from corpora where kind = 'pool'").fetchone()
        if (n or 0) > IDS_COMPARED:
            return ""
        query = "select doc_id from documents order by jaro_winkler_similarity(doc_id, $1) desc, doc_id limit 1"
        found = self.rows(query, [doc_id])
        return f"; did you mean {found[0]['doc_id']!r}?" if found else ""

    def rows(self, query: str, parameters: list[Any]) -> list[dict[str, Any]]:
        """Ask the catalogue; a dictionary a row."""
        found = self._connection.execute(query, parameters)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def is_unicode(text: str) -> bool:
    """Say whether a text can be asked for: a lone surrogate, which bytes beyond UTF-8 in an argument become, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_meant(record: RunRecord, name: str | None) -> bool:
    return name is None or name in record.run or name == record.flow


def _run(record: RunRecord) -> dict[str, Any]:
    return {"run": record.run, "flow": record.flow, "status": record.status, "corpus": record.corpus,
            "started": record.started, "steps": []}  # fmt: skip
