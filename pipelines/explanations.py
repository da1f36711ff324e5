"""What `tamis explain` prints."""

from collections.abc import Iterator
from typing import Any

from .printing import print_json, print_line, print_table, shown

TEXT_LINES = 4


def print_explanation(found: dict[str, Any], as_json: bool) -> None:
    """Print why a document is in or out."""
    if as_json:
        print_json(found)
        return
    for document in found["documents"]:
        _print_document(document)
    for record in found["excluded"]:
        print_line(f"left out  a record of {record['corpus']} with this id: {record['reason']}, {record['ref']} stays")
    for run in found["runs"]:
        print_line(f"\nrun       {run['run']}   {run['flow']}   {run['corpus']}   {run['status']}")
        rows = [[s["step"], s["by"] or s["kind"], _verdict(s), s["score"], s["rank"], _cut(s)] for s in run["steps"]]
        print_table(["step", "by", "verdict", "score", "rank", "of the documents"], rows)
    if found["documents"] and not found["runs"]:
        print_line("\nno run has seen it")
    for mixture in found["mixtures"]:
        times = "once" if mixture["multiplicity"] == 1 else f"{mixture['multiplicity']} times"
        print_line(f"mixture   {mixture['mixture']}: {times}, part {mixture['part']} (draw {mixture['draw'][:12]})")


def print_token(found: dict[str, Any], as_json: bool) -> None:
    """Print where a token of an exported mixture came from, and why."""
    if as_json:
        print_json(found)
        return
    token = found["token"]
    what = "the end token" if token["end"] else repr(token["text"])
    print_line(f"token     {found['position']:,} is {what} (id {token['id']}), {found['offset']:,} of "
               f"{found['length']:,} of its document")  # fmt: skip
    print_line(f"around    …{shown(found['before'])}⟨{shown(token['text'])}⟩{shown(found['after'])}…")
    print_line(f"mixture   {found['mixture']}, written by run {found['run']}")
    if found["explanation"]:
        print_explanation(found["explanation"], as_json)
        return
    print_line(f"document  {found['doc_id']}   {found['corpus']}")
    print_line(f"raw       {_place(found)}")
    print_line("the lake does not know its run: name it with --lake for the steps that chose it")


def _print_document(document: dict[str, Any]) -> None:
    n_tokens = "" if document["n_tokens"] is None else f", {document['n_tokens']:,} tokens"
    print_line(f"document  {document['doc_id']}   {document['corpus']}")
    print_line(f"source    {document['source'] or '(none)'}, {document['n_bytes']:,} bytes{n_tokens}")
    repaired = ", repaired: it had lone surrogates" if document["repaired"] else ""
    print_line(f"raw       {_place(document)} (SHA-256 {document['file_sha256'][:12]}){repaired}")
    for number, line in enumerate(document["text"].splitlines()[:TEXT_LINES]):
        print_line(f"{'text' if number == 0 else '':9} {shown(line)}")


def _place(found: dict[str, Any]) -> str:
    return str(found["file"]) if found["line"] is None else f"{found['file']} line {found['line']:,}"


def _verdict(step: dict[str, Any]) -> str:
    if step["kept"]:
        times = f", {step['multiplicity']} times" if step["multiplicity"] not in (None, 1) else ""
        flagged = f", but flagged: {step['reason']}" if step["reason"] else ""
        return f"kept{times}{flagged}"
    of = f" of {step['ref']}" if step["ref"] else ""
    return f"dropped: {step['reason']}{of}"


def _cut(step: dict[str, Any]) -> str:
    return ", ".join(_said(step))


def _said(step: dict[str, Any]) -> Iterator[str]:
    yield f"{step['of_them_kept']:,} of {step['entered']:,} kept"
    cut = step.get("cut")
    if cut is None:
        return
    if cut["budget"]:
        amount = cut["budget"]["amount"]
        yield f"budget {f'{amount:.4g} of the' if isinstance(amount, float) else f'{amount:,}'} {cut['budget']['unit']}"
    if cut["groups"] > 1:
        yield f"cut in {cut['groups']:,} groups"
    if cut["lowest_kept_score"] is not None:
        yield f"lowest kept score {cut['lowest_kept_score']:.4g}"
