"""The page of one run: one HTML file in the folder of the run that opens from disk and asks nobody for anything.

It says what `tamis status RUN` prints, and what is new since the last run. All text in it is escaped: names of files,
sources and reasons come from the corpus.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from .comparison_page import STYLE, installed_part
from .diff_printing import diff_sentences
from .news import News
from .printing import shown
from .runs import RunRecord

REPORT = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: 'self'"
_THEME = (
    "document.documentElement.dataset.theme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"
)


def run_report(record: RunRecord, found: News | None) -> str:
    """Return the page."""
    sections = [
        _concerns(record), _steps(record), _news(record, found), _stages(record), _models(record), _outputs(record),
    ]  # fmt: skip
    title = escape(f"{record.flow}: run {record.run}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{installed_part(STYLE)}</style>
<script>{_THEME}</script>
</head>
<body>
<header><div class="wide"><h1>{title}</h1><p id="about">{escape(_about(record))}</p></div></header>
<main class="wide">
{chr(10).join(s for s in sections if s)}
</main>
</body>
</html>
"""


def _about(record: RunRecord) -> str:
    ended = f"{record.status}, exit code {record.exit_code}" if record.finished else record.status
    parts = [f"{ended}; {record.started} to {record.finished or 'now'}"]
    if record.prefect:
        who = f"due {record.prefect.get('due')}" if record.prefect.get("scheduled") else "started by hand"
        parts.append(f"{who}; Prefect's flow run {record.prefect.get('flow_run')}")
    return "; ".join(parts)


def _concerns(record: RunRecord) -> str:
    lines = [record.error] if record.error else []
    lines += [f"step {a['step']}: {a['message']} [{a['name']}]" for a in record.alarms]
    said = tuple(a["message"] for a in record.alarms)
    lines += [w for w in record.warnings if not w.endswith(said)]
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<section class="warnings"><h2>To look at</h2><ul>{listed}</ul></section>' if lines else ""


def _steps(record: RunRecord) -> str:
    rows = [[s["name"], s.get("selector") or s["kind"], s["entered"], s["kept"], _share(s["kept"], s["entered"]),
             s["tokens_kept"], ", ".join(f"{n:,} {reason}" for reason, n in s["reasons"].items())]
            for s in record.steps]  # fmt: skip
    head = ["step", "kind", "documents entered", "kept", "share", "tokens kept", "dropped"]
    return _section("Steps", _table(head, rows, text={1, 6})) if rows else ""


def _news(record: RunRecord, found: News | None) -> str:
    if found is None:
        return ""
    since = "" if found.since is None else f", since run {found.since}"
    parts = [f"<p>{escape(found.text + since)}.</p>"]
    for name, count, files in found.named():
        names = "".join(f"<li>{escape(file)}</li>" for file in files)
        parts.append(f'<details><summary>{count:,} {name}</summary><ul class="notes where">{names}</ul></details>')
    parts += [f"<p>{escape(sentence)}</p>" for sentence in diff_sentences(record.diff)]
    c = record.counts
    parts.append(_table(["corpus", *c], [[record.corpus, *c.values()]]))
    return _section("What is new", "".join(parts))


def _stages(record: RunRecord) -> str:
    rows = [[s.name, s.computed, s.reused, s.documents or None, s.seconds, s.bytes or None] for s in record.stages]
    total = ["all", record.computed, sum(s.reused for s in record.stages), None,
             round(sum(s.seconds for s in record.stages), 3), sum(s.bytes for s in record.stages)]  # fmt: skip
    head = ["stage", "computed", "reused", "documents measured", "seconds", "bytes written"]
    return _section("Stages", _table(head, [*rows, total])) if rows else ""


def _models(record: RunRecord) -> str:
    rows = [[m["name"], m["parameters"], m["tokens"], m["loss"], m["seconds"]] for m in record.models]
    return _section("Models", _table(["model", "parameters", "tokens", "loss", "seconds"], rows)) if rows else ""


def _outputs(record: RunRecord) -> str:
    rows = [[o["mixture"], o["format"], o["rows"], o["tokens"], o["bytes"]] for o in record.outputs]
    cards = "".join(
        f'<li><a href="../../mixtures/{escape(o["mixture"], quote=True)}/{escape(o["key"], quote=True)}/card.md">'
        f"{escape(o['mixture'])} as {escape(o['format'])}</a>: its card, with sources and licences</li>"
        for o in record.outputs
    )
    table = _table(["mixture", "format", "documents", "tokens", "bytes of text"], rows, text={1})
    return _section("Written", f'{table}<ul class="notes">{cards}</ul>') if rows else ""


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], text: Iterable[int] = ()) -> str:
    """Return a table whose first column names the row; `text` are the columns that hold no numbers."""
    kinds = [' class="text"' if i in set(text) else "" for i in range(len(head))]
    names = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(head, kinds, strict=True))
    lines = []
    for row in rows:
        cells = "".join(f"<td{k}>{escape(shown(v))}</td>" for v, k in zip(row[1:], kinds[1:], strict=True))
        lines.append(f'<tr><th scope="row">{escape(shown(row[0]))}</th>{cells}</tr>')
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
