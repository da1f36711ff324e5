"""What `tamis explain` prints."""

from collections.abc import Iterator
from typing import Any

from .printing import print_json, print_line, print_table, shown

TEXT_LINES = 4
PARTS_SHOWN = 5
LINE_SHOWN = 100
UNDECIDED = 2
"""Exit code where there is more than one can explain, and the user has to choose."""


def print_explanation(found: dict[str, Any], as_json: bool) -> None:
    """Print why a document is in or out."""
    if as_json:
        print_json(found)
        return
    for document in found["documents"]:
        _print_document(document)
    for record in found["excluded"]:
        stays = f", {record['ref']} stays" if record["ref"] else ""
        print_line(f"left out  {_place(record)} has this id too: {record['reason']}{stays}   {record['corpus']}")
    told: dict[str, str] = {}
    for run in found["runs"]:
        print_line(f"\nrun       {run['run']}   {run['flow']}   {run['corpus']}   {run['status']}")
        rows = [[s["step"], s["by"] or s["kind"], _verdict(s), s["score"], s["rank"], _cut(s)] for s in run["steps"]]
        print_table(["step", "by", "verdict", "score", "rank", "of the documents"], rows)
        for step in run["steps"]:
            _print_step(step, told.setdefault(step["selection"], run["run"]), run["run"])
    if found["documents"] and not found["runs"]:
        print_line("\nnone of the runs that were asked about has seen it")
    for mixture in found["mixtures"]:
        times = "once" if mixture["multiplicity"] == 1 else f"{mixture['multiplicity']} times"
        print_line(f"mixture   {mixture['mixture']}: {times}, part {mixture['part']} (draw {mixture['draw'][:12]})")


def print_found(told: dict[str, Any], as_json: bool) -> int:
    """Print the explanations of what a snippet or a line led to; return the exit code."""
    undecided = not told["found"] and not told["quarantined"]
    undecided |= bool(told.get("n_hits")) and not told["found"]
    if as_json:
        print_json(told)
        return UNDECIDED if undecided else 0
    for number, one in enumerate(told["found"]):
        if number:
            print_line("")
        print_explanation(one, as_json)
    if undecided:
        rows = [[h["doc_id"], h["corpus"], _place(h), h["excluded"] or "", _one_line(h["text"])] for h in told["hits"]]
        print_table(["document", "corpus", "raw", "left out", "text"], rows)
        print_line(f"{told['n_hits']:,} documents have it; give one of the ids, or more of the text")
    for record in told["quarantined"]:
        print_line(f"not read  {_place(record)}   {record['corpus']}: {record['reason']}")
        print_line(f"bytes     {_one_line(record['raw'])}")
    return UNDECIDED if undecided else 0


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


def _print_step(step: dict[str, Any], first: str, run: str) -> None:
    """Print what a step read and why it decided so, below the table; once where several runs share its result."""
    lines = [*_read(step), *_stays(step), *_why(step), *(f"not in the lake: {what}" for what in step["gone"])]
    if lines and first != run:
        lines = [f"as in run {first}, which has the same result"]
    name = f"{step['step']}:"
    for number, line in enumerate(lines):
        print_line(f"{'' if number else name:9} {line}")


def _read(step: dict[str, Any]) -> Iterator[str]:
    for rule in step.get("rules", ()):
        holds = {True: "holds", False: "fails", None: "fails: NULL"}[rule["holds"]]
        values = ", ".join(f"{name} = {_value(value)}" for name, value in rule["reads"].items())
        yield f"{rule['rule']} {holds}: {_one_line(rule['sql'])}   ({values})"
    if step.get("reads"):
        yield "read " + ", ".join(f"{name} = {_value(value)}" for name, value in step["reads"].items())


def _stays(step: dict[str, Any]) -> Iterator[str]:
    stays = step.get("stays")
    if not stays:
        return
    whose = f"of {stays['target']} " if "target" in stays else ""
    yield f"{stays['doc_id']} {whose}is {_place(stays)}: {_one_line(stays['text'])}"
    for shared in stays.get("shared", ()):
        yield f"  both have: {_one_line(shared['text'])}"


def _why(step: dict[str, Any]) -> Iterator[str]:
    if "why_not" in step:
        yield step["why_not"]
    why = step.get("why")
    if not why or why["kind"] == "missing":
        return
    yield why["about"]
    for part in why["parts"][:PARTS_SHOWN]:
        yield f"  {_part(why['kind'], part)}"
    left = len(why["parts"]) - PARTS_SHOWN
    if why["total"] is not None and why["parts"]:
        rest = why["total"] - sum(part["weight"] for part in why["parts"][:PARTS_SHOWN])
        yield f"  {rest:+9.4g} all others"
    elif left > 0:
        yield f"  and {left} more with --json"


def _part(kind: str, part: dict[str, Any]) -> str:
    if kind == "ngrams":
        times = f" ×{part['count']:,}" if part["count"] > 1 else ""
        return f"{part['weight']:+9.4g} {_one_line(part['text'])!r}{times}"
    if kind == "tokens":
        before = _one_line(part["before"])
        return f"{part['weight']:+9.4g} {part['text']!r} after …{before!r}"
    weight = f"{part['weight']:+9.4g} " if "weight" in part else ""
    near = next((f"{name} {part[name]:.4g} " for name in ("alignment", "cosine") if name in part), "")
    kept = {True: "kept ", False: "dropped ", None: ""}[part.get("kept")]
    both = f"   both have {_one_line(part['shared'])!r}" if part.get("shared") else ""
    return f"{weight}{near}{kept}{part.get('doc_id', '(not found again)')}: {_one_line(part['text'])}{both}"


def _value(value: Any) -> str:
    return "NULL" if value is None else shown(value) if not isinstance(value, str) else repr(_one_line(value))


def _one_line(text: str) -> str:
    text = shown(" ".join(text.split()))
    return text if len(text) <= LINE_SHOWN else f"{text[: LINE_SHOWN - 1]}…"


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
    if "column" not in cut:
        yield from [f"cut in {cut['groups']:,} groups"] if cut["groups"] > 1 else []
        return
    if cut["groups"] > 1:
        yield _group(cut)
    if cut["percentile"] is not None:
        yield f"percentile {cut['percentile']:.4g}"
    if cut["lowest_kept_score"] is not None:
        drawn = " (drawn by chance)" if cut["by"] == "gumbel" else ""
        yield f"lowest kept score {cut['lowest_kept_score']:.4g}{drawn}"


def _group(cut: dict[str, Any]) -> str:
    """Say what became of the group that the document was cut in."""
    name = "" if cut["group"] is None else f" {cut['group']!r}"
    column = "" if cut["column"] == "score" else f" by {cut['column']}"
    quota = "" if cut["quota"] is None else f", quota {cut['quota']:,}"
    return f"of its group{name}{column} {cut['kept']:,} of {cut['ranked']:,}{quota}"
