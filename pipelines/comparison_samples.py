"""Documents that only one of the compared choices has, drawn at random, with what made their score.

Shown is the part of the text around what moved the score most, with the passages marked, and what the other runs said
of the same document.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..selectors.keyed import stream_key, uniform
from ..selectors.reasons import Reason
from .comparison_choices import Choices
from .comparison_documents import Documents
from .comparison_runs import ComparedRun, ComparedRuns
from .comparison_scores import Scores
from .reasons import reasons

SHOWN_CHARACTERS, PART_CHARACTERS, PARTS = 700, 60, 8
_BEFORE = 120


@dataclass(frozen=True)
class _Only:
    """What only one choice has, and the documents that are shown of it."""

    run: ComparedRun
    whole: Documents
    shown: Documents


def only_in(runs: ComparedRuns, choices: Choices, scores: Scores, n: int) -> list[dict[str, Any]]:
    """Return for each run up to `n` of the documents that no other choice has."""
    found = []
    for run in runs.runs:
        mine = choices.equal[run.name]
        others = [choices.whole[other.name].places for other in runs.runs if other is not run]
        alone = ~np.isin(mine.places, np.concatenate([*others, np.empty(0, np.int64)]))
        whole = mine.taken(alone)
        u = uniform(whole.doc_key, stream_key(0, "compare", "only"))
        found.append(_Only(run, whole, whole.taken(np.argsort(u, kind="stable")[:n])))
    return [
        {
            "name": only.run.name, "documents": len(only.whole), "tokens": only.whole.tokens,
            "shown": _shown(runs, only, scores),
        }
        for only in found
    ]  # fmt: skip


def _shown(runs: ComparedRuns, only: _Only, scores: Scores) -> list[dict[str, Any]]:
    shards = runs.snapshot.shards
    places = [
        (shards[i].digest, row) for i, row in zip(only.shown.shard.tolist(), only.shown.row.tolist(), strict=True)
    ]
    why = reasons(runs.lake, only.run.record, only.run.step["name"], places, most=PARTS)
    documents = _documents(runs, only.shown)
    verdicts = {run.name: _verdicts(runs, run, only.shown) for run in runs.runs}
    return [
        _one(document, reason, only.run, {name: said[i] for name, said in verdicts.items()}, scores)
        for i, (document, reason) in enumerate(zip(documents, why, strict=True))
    ]


def _one(
    document: Mapping[str, Any], reason: Reason | None, run: ComparedRun,
    verdicts: Mapping[str, Mapping[str, Any] | None], scores: Scores,
) -> dict[str, Any]:  # fmt: skip
    score = (verdicts[run.name] or {}).get("score")
    start, end = window(document["text"], reason.marks if reason else ())
    marks = [(max(a, start) - start, min(b, end) - start, w) for a, b, w in reason.marks] if reason else []
    return {
        **{name: document[name] for name in ("doc_id", "source", "file", "line", "tokens")},
        "text": document["text"][start:end],
        "cut_before": start > 0,
        "cut_after": end < len(document["text"]),
        "marks": sorted((a, b, float(f"{w:.4g}")) for a, b, w in marks if a < b),
        "score": score,
        "percentile": None if score is None else scores.percentile(run.name, score),
        "about": reason.about if reason else "",
        "parts": [_part(part) for part in reason.parts[:PARTS]] if reason else [],
        "others": [{"name": n, "said": _said(n, found, scores)} for n, found in verdicts.items() if n != run.name],
    }


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    text = str(part.get("text") or part.get("doc_id") or "")
    weight = part.get("weight")
    return {
        "text": text if len(text) <= PART_CHARACTERS else f"{text[:PART_CHARACTERS]}…",
        "weight": None if weight is None else float(f"{weight:.4g}"),
    }


def window(text: str, marks: Sequence[tuple[int, int, float]]) -> tuple[int, int]:
    """Return the part of a text that is shown: that with the largest weights, or the beginning."""
    if len(text) <= SHOWN_CHARACTERS or not marks:
        return 0, min(len(text), SHOWN_CHARACTERS)
    starts = sorted({max(0, min(a - _BEFORE, len(text) - SHOWN_CHARACTERS)) for a, _, _ in marks} | {0})
    best = max(starts, key=lambda s: (sum(abs(w) for a, b, w in marks if s <= a and b <= s + SHOWN_CHARACTERS), -s))
    return best, best + SHOWN_CHARACTERS


def _documents(runs: ComparedRuns, documents: Documents) -> list[dict[str, Any]]:
    """Return the shown columns of some documents."""
    found: list[dict[str, Any]] = []
    columns = ["doc_id", "source", "file", "line", "text"]
    for place in np.unique(documents.shard).tolist():
        shard, rows = runs.snapshot.shards[place], documents.of_shard(place)
        for group, (start, n) in enumerate(shard.row_groups):
            inside = rows[(rows >= start) & (rows < start + n)]
            if inside.size:
                found += shard.read_group(group, columns).take(pa.array(inside - start)).to_pylist()
    return [one | {"tokens": n} for one, n in zip(found, documents.n_tokens.tolist(), strict=True)]


def _verdicts(runs: ComparedRuns, run: ComparedRun, documents: Documents) -> list[dict[str, Any] | None]:
    """Return what each step of a run said last of the documents, None where it never saw them."""
    found: list[dict[str, Any] | None] = []
    for place in np.unique(documents.shard).tolist():
        rows = documents.of_shard(place)
        said: dict[int, dict[str, Any]] = {}
        for step in run.record.steps:
            path = runs.lake.selection(step["selection"]) / f"{runs.snapshot.shards[place].digest}.parquet"
            if path.exists():
                table = runs.lake.table(path, ["row", "kept", "score", "rank", "reason", "ref", "step"])
                here = table.filter(pa.array(np.isin(table.column("row").to_numpy(), rows)))
                said |= {one["row"]: one for one in here.to_pylist()}
        found += [said.get(row) for row in rows.tolist()]
    return found


def _said(name: str, found: Mapping[str, Any] | None, scores: Scores) -> str:
    if found is None:
        return "did not see it"
    said = "chose it" if found["kept"] else f"{found['step']}: {found['reason']}"
    if found["score"] is not None and not found["kept"]:
        said += f", score higher than {scores.percentile(name, found['score']):.0f}%"
    return said
