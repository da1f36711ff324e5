"""What one step did with one document: the values it read, its score among the others, the cut, the reason, the rest.

Everything is read from the lake. Where files were removed, what they would have said is said to be missing, in `gone`.
"""

from collections.abc import Callable
from typing import Any, Literal

from ..selectors.registry import REGISTRY as SELECTORS
from ..selectors.shared_words import shared_words
from ..storage.errors import TamisError
from ..storage.publish import json_ready
from .cut_places import budget_of, cut_of
from .opened_steps import OpenedStep, Place
from .read_values import rules_of, selector_values, shortened
from .reasons import step_reasons

PARTS = 10
Wanted = Literal["none", "quick", "all"]
"""Which reasons: quick ones are those for which no model has to be run."""
Rows = Callable[[str, list[Any]], list[dict[str, Any]]]
"""Ask the catalogue."""


def explain_step(step: OpenedStep, decided: dict[str, Any], rows: Rows, reasons: Wanted) -> dict[str, Any]:
    """Return what a step decided about a document; `decided` is its row of `selection_steps`."""
    place: Place = (decided["shard"], decided["row"])
    names = ("step", "kept", "reason", "ref", "score", "rank", "multiplicity", "shard", "row")
    said = {name: decided[name] for name in names}
    said |= {"kind": step.record["kind"], "by": step.record.get("selector"), "selection": step.record["selection"]}
    said |= {"entered": step.record["entered"], "of_them_kept": step.record["kept"], "gone": []}
    if step.record["kind"] == "dedup":
        _try(said, "by", lambda: step.made_by["selector"])
    if step.record["kind"] == "filter":
        _try(said, "rules", lambda: rules_of(step, [place])[place])
    if step.record.get("cuts") and decided["score"] is not None:
        said["cut"] = budget_of(step.record)  # known where files are gone
        _try(said, "cut", lambda: cut_of(step, place, decided["score"]))
    if step.record["kind"] == "select":
        _try(said, "reads", lambda: selector_values(step, step.seen([place])[0])[0])
    if decided["ref"]:
        _try(said, "stays", lambda: _reference(step, decided, rows))
    if reasons != "none":
        _add_reason(said, step, place, reasons)
    return said


def _add_reason(said: dict[str, Any], step: OpenedStep, place: Place, reasons: Wanted) -> None:
    """Add why a document has its score, or what it would take to say it."""
    if reasons == "quick" and said["kind"] == "select" and SELECTORS.find(said["by"]).asks_models:
        said["why_not"] = "where it comes from takes models: --run or --reasons says it"
        return
    (why,) = step_reasons(step, [place], PARTS)
    said["why"] = why and json_ready(why.__dict__)
    if why and why.kind == "missing" and why.about not in said["gone"]:
        said["gone"].append(why.about)


def _try(said: dict[str, Any], name: str, value: Callable[[], Any]) -> None:
    """Add what the lake still has, or why it is not there."""
    try:
        said[name] = value()
    except (TamisError, KeyError) as error:
        if str(error) not in said["gone"]:
            said["gone"].append(str(error))


def _reference(step: OpenedStep, decided: dict[str, Any], rows: Rows) -> dict[str, Any] | None:
    """Return the document that `ref` names, and its raw file; of an evaluation set also what both share."""
    if step.record["kind"] != "decontaminate":
        query = "select doc_id, file, line, text from document_rows where corpus = $1 and doc_id = $2"
        found = rows(query + " order by shard, row limit 1", [decided["corpus"], decided["ref"]])
        return found[0] | {"text": shortened(found[0]["text"])} if found else None
    targets = [name for name, _ in step.manifest["recipe"]["targets"]]
    query = "select target, doc_id, file, line, text from targets where list_contains($1, target) and doc_id = $2"
    found = [row for row in rows(query, [targets, decided["ref"]]) if _named(row, decided["reason"])]
    if not found:
        return None
    (mine,) = rows(
        "select text from document_rows where corpus = $1 and shard = $2 and row = $3",
        [decided["corpus"], decided["shard"], decided["row"]],
    )
    rule = step.manifest["recipe"]["decontaminate"]
    spans = shared_words(mine["text"], found[0]["text"], rule["words"], rule["min_words"])
    return found[0] | {
        "text": shortened(found[0]["text"]),
        "shared": [{"start": start, "end": end, "text": mine["text"][start:end]} for start, end in spans],
    }  # fmt: skip


def _named(row: dict[str, Any], reason: str | None) -> bool:
    """Say whether a step's reason speaks of the target of a row: several may have a document of one id."""
    return (reason or "").endswith(f" {row['target']}")
