"""A comparison on the terminal: what each choice is worth, and what they share."""

from collections.abc import Sequence
from math import isnan
from typing import Any

from ..storage.publish import json_ready
from .printing import print_line, print_table

_SHOWN_NOTES, SHOWN_VALUES = 8, 12
MOST_NAMES = 6
"""That can be heads of columns."""


def print_comparison(found: dict[str, Any]) -> None:
    """Print the tables of a comparison; what has no value, as JSON and the page have it, is an empty cell."""
    found = json_ready(found)
    corpus, lot = found["corpus"], found["random"]
    names = [choice["name"] for choice in found["choices"]]
    print_line(f"corpus    {corpus['name']}: {corpus['documents']:,} documents, {corpus['tokens']:,} tokens "
               f"({corpus['tokenizer']})")  # fmt: skip
    print_line(f"compared  {found['equal_tokens']:,} tokens of each choice, and of documents {lot}\n")
    lengths = {scores["name"]: scores["spearman_length"] for scores in found["scores"]}
    print_table(
        ["choice", "by", "documents", "tokens", "tokens a document", "score and length", "effective", "run"],
        [
            [label, _by(c), c["documents"], c["tokens"], c["tokens_a_document"], lengths.get(c["name"]), c["effective"],
             c["run"]]
            for label, c in zip(_labels(names), found["choices"], strict=True)
        ],
    )  # fmt: skip
    _print_measures(found, names)
    for losses in found["proxy"]["losses"] if found["proxy"] else ():
        _print_losses(losses, [*names, lot])
    for one in found["compositions"]:
        if one["column"] != "length":
            _print_composition(one, names)
    if len(names) > 1:
        print_line("\nin common (share of both documents; rank correlation of the scores)")
        labelled = zip(_labels(names), names, strict=True)
        rows = [[label, *(_common(found, a, b) for b in names)] for label, a in labelled]
        print_table(["", *_heads(names)], rows)
    for note in found["notes"]:
        print_line(f"note      {note}")
    for choice in found["choices"]:
        said = [f"step {alarm['step']}: {alarm['message']}" for alarm in choice["alarms"]] + choice["warnings"]
        for line in list(dict.fromkeys(said))[:_SHOWN_NOTES]:
            print_line(f"look at   {choice['name']}: {line}")


def _print_measures(found: dict[str, Any], names: Sequence[str]) -> None:
    lot = found["random"]
    for group in dict.fromkeys(measure["target"] for measure in found["measures"]):
        mine = [m for m in found["measures"] if m["target"] == group]
        print_line(f"\ntarget {group}" if group else "\nthe choices themselves")
        labelled = zip(_labels(names), names, strict=True)
        rows = [[label, *(_shown(m["values"][name], m) for m in mine)] for label, name in labelled]
        rows.append([f"{lot}, mean", *(_lot(m, ["mean"]) for m in mine)])
        rows.append([f"{lot}, 95% of draws", *(_lot(m, ["low", "high"]) for m in mine)])
        print_table(["choice", *(m["title"] for m in mine)], rows)


def _print_losses(losses: dict[str, Any], names: Sequence[str]) -> None:
    print_line(f"\nsmall model: {losses['title']}, {losses['about']}")
    rows = [[name, *(_with_note(column, name) for column in losses["columns"])] for name in names]
    print_table(["", *(column["title"] for column in losses["columns"])], rows)


def _print_composition(one: dict[str, Any], names: Sequence[str]) -> None:
    print_line(f"\nshare of the tokens by {'source' if one['column'] == 'source' else one['title']}")
    shown = one["values"][:SHOWN_VALUES]
    sets = [[v["value"], *(v["choices"][name] for name in names), v["corpus"]] for v in shown]
    print_table(
        ["", *_heads(names), "the corpus"], [[value, *(f"{s['share']:.1%}" for s in rest)] for value, *rest in sets]
    )
    if left := len(one["values"]) - len(shown):
        print_line(f"and {left} values more, with --html or --json")


def _heads(names: Sequence[str]) -> list[str]:
    """Return heads of columns: numbers where the names would not stand beside each other."""
    return [str(i) for i in range(1, len(names) + 1)] if len(names) > MOST_NAMES else [*names]


def _labels(names: Sequence[str]) -> list[str]:
    """Return the names, with the numbers that stand for them as heads."""
    return [f"{i} {name}" for i, name in enumerate(names, 1)] if len(names) > MOST_NAMES else [*names]


def _by(choice: dict[str, Any]) -> str:
    return f"{choice['by']} ({', '.join(choice['targets'])})" if choice["targets"] else str(choice["by"])


def _shown(value: float | None, measure: dict[str, Any]) -> str:
    if value is None or isnan(value):
        return ""
    return {"percent": f"{value:.1%}", "count": f"{value:,.0f}"}.get(measure["form"], f"{value:.4g}")


def _lot(measure: dict[str, Any], ends: Sequence[str]) -> str:
    lot = measure["by_lot"]
    return "" if lot is None else " to ".join(filter(None, (_shown(lot[end], measure) for end in ends)))


def _with_note(column: dict[str, Any], name: str) -> str:
    value, note = column["values"].get(name), column["notes"].get(name)
    return "" if value is None else f"{value:.4g}" + (f" ({note})" if note else "")


def _common(found: dict[str, Any], a: str, b: str) -> str:
    if a == b:
        return "·"
    shared = next(o for o in found["overlap"] if {o["a"], o["b"]} == {a, b})
    rho = next((o["spearman"] for o in found["correlations"] if {o["a"], o["b"]} == {a, b}), None)
    return f"{shared['jaccard']:.1%}" + ("" if rho is None else f"; {rho:.2f}")
