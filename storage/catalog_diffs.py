"""The diffs of runs in the catalogue: `diffs`, `diff_sources` and `diff_scores` are tables, `diff_documents` a view."""

from typing import Any

from .lake import Lake, readable_jsons

DIFFS = (
    "run VARCHAR, previous VARCHAR, corpus VARCHAR, corpus_then BIGINT, corpus_now BIGINT, corpus_new BIGINT, "
    "corpus_gone BIGINT, corpus_changed BIGINT, documents_then BIGINT, documents_now BIGINT, documents_kept BIGINT, "
    "documents_in BIGINT, documents_out BIGINT, documents_changed BIGINT, tokens_then BIGINT, tokens_now BIGINT, "
    "tokens_kept BIGINT, tokens_in BIGINT, tokens_out BIGINT"
)
SOURCES = (
    "run VARCHAR, source VARCHAR, documents_then BIGINT, documents_now BIGINT, tokens_then BIGINT, tokens_now BIGINT"
)
SCORES = (
    "run VARCHAR, step VARCHAR, comparable BOOLEAN, psi DOUBLE, ks DOUBLE, psi_new DOUBLE, ks_new DOUBLE, "
    "scored_then BIGINT, scored_now BIGINT, scored_new BIGINT, nan_then DOUBLE, nan_now DOUBLE, nan_new DOUBLE"
)
TABLES = {"diffs": DIFFS, "diff_sources": SOURCES, "diff_scores": SCORES}
_OF_CORPUS = ("then", "now", "new", "gone", "changed")


def diff_rows(lake: Lake, runs: list[dict[str, Any]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of the three tables. A damaged diff is for `tamis verify` to name."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    paths = sorted((lake.root / "runs").glob("*/diff.json"))
    wholes = {path.parent.name: diff for path, diff in readable_jsons(paths)}
    for run in runs:
        name = run["run"]
        whole = wholes.get(name, {})
        found = whole or run.get("diff") or {}
        if "documents" not in found:
            continue
        documents, tokens = found["documents"], found["tokens"]
        counts = [documents[n] for n in ("then", "now", "kept")], [tokens[n] for n in ("then", "now", "kept")]
        sums = [[sum(n[way].values()) for way in ("in", "out")] for n in (documents, tokens)]
        corpus = [found["corpus_documents"][n] for n in _OF_CORPUS]
        rows["diffs"].append(
            (name, found["previous"], run["corpus"], *corpus, *counts[0], *sums[0], documents["changed"], *counts[1],
             *sums[1])
        )  # fmt: skip
        columns = ("source", "documents_then", "documents_now", "tokens_then", "tokens_now")
        rows["diff_sources"] += [(name, *(row[c] for c in columns)) for row in whole.get("sources", ())]
        rows["diff_scores"] += [_score_row(name, row) for row in whole.get("scores", ())]
    return rows


def _score_row(run: str, row: dict[str, Any]) -> tuple[Any, ...]:
    measures = [row[which][name] for which in ("all", "new") for name in ("psi", "ks")]
    shares = [row[what][when] for what in ("scored", "nan") for when in ("then", "now", "new")]
    return (run, row["step"], row["comparable"], *measures, *shares)


def diff_files(lake: Lake) -> list[Any]:
    """Return the files that hold the documents of diffs."""
    return sorted((lake.root / "runs").glob("*/diff.parquet"))


OF_ITS_RUN = "parse_path(filename)[-2] as run, "
