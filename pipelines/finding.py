"""Explanations for those who have no id: of the records that hold a snippet of text, or stand at a line of a raw file.

What could not be read is found too, by its place or its bytes: it lies in quarantine with the reason.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..storage.errors import ConfigError, TamisError
from ..storage.lake import Lake
from .explained_steps import Wanted
from .explaining import Explainer, is_unicode

MOST_EXPLAINED = 3
"""Of more records that hold a snippet only the places are listed: copies want comparing, more want choosing."""
LISTED = 20
BESIDE = 40
"""Characters of a text that are shown before and after a snippet."""
RAW_SHOWN = 300
LINE_DIGITS = 18
"""A number of more is no line, and none that the catalogue can compare."""


def explain_text(lake: Lake, snippet: str, *, run: str | None = None, reasons: Wanted = "none") -> dict[str, Any]:
    """Return the records whose text holds a snippet, case and white space as they are, or whose raw bytes do.

    `n_hits` counts the documents, `hits` are the first of them with what stands around the snippet, `found` their
    explanations where they are few, `quarantined` the unread records. Raises ConfigError where there is none at all.
    """
    if not snippet:
        raise ConfigError("--text is empty; give a piece of the text")
    with Explainer(lake, run, None, reasons) as explainer:
        hits = _hits(explainer, snippet, "is distinct from") or _hits(explainer, snippet, "=")
        n = hits[0]["n"] if hits else 0
        quarantined = [row for row in _quarantine(explainer) if _has(row["raw"], snippet)]
        if not n and not quarantined:
            raise ConfigError(f"no text in {str(lake.root)!r} holds {snippet!r}, and no record that could not be read")
        found = hits if n <= MOST_EXPLAINED else []
        explained = [explainer.of(h["doc_id"], record=(h["corpus"], h["shard"], h["row"])) for h in found]
    hits = [{name: value for name, value in hit.items() if name not in ("n", "begin")} for hit in hits]
    shown = [_shortened(row) for row in quarantined[:LISTED]]
    return {"text": snippet, "n_hits": n, "hits": hits, "found": explained, "quarantined": shown}


def _hits(explainer: Explainer, snippet: str, superseded: str) -> list[dict[str, Any]]:
    """Return the first records that hold a snippet, and in `n` how many do: those of today's files, or of earlier."""
    if not is_unicode(snippet):
        return []  # a text of the lake always is; raw bytes may hold it
    return explainer.rows(
        f"""with found as (
                select r.corpus, r.doc_id, r.file, r.line, r.shard, r.row, e.reason as excluded, r.text,
                       greatest(1, strpos(r.text, $1) - {BESIDE}) as begin
                from document_rows r left join excluded e using (corpus, shard, row)
                where contains(r.text, $1) and e.reason {superseded} 'superseded file')
            select * replace (substr(text, begin, length($1) + {2 * BESIDE}) as text), count(*) over () as n
            from found order by excluded is not null, corpus, doc_id, shard, row limit {LISTED}""",
        [snippet],
    )


def explain_at(lake: Lake, place: str, *, run: str | None = None, reasons: Wanted = "none") -> dict[str, Any]:
    """Return the records of the lake that stand at FILE:LINE, or in a FILE that is one document, with explanations.

    The file may be named as the lake names it, as it is found from here, or by the end of its path where that is plain.
    `line` counts as in the catalogue: from 1, the rows of Parquet too. Raises ConfigError where nothing stands there.
    """
    with Explainer(lake, run, None, reasons) as explainer:
        file, line = _place(explainer, place)
        at = "file = $1 and line is not distinct from $2"
        records = explainer.rows(
            f"select corpus, doc_id, shard, row from document_rows where {at} order by corpus, shard, row", [file, line]
        )
        quarantined = explainer.rows(f"from quarantine where {at}", [file, line])
        if not records and not quarantined:
            raise ConfigError(f"nothing at {place!r}: {_there(explainer, file)}")
        found = [explainer.of(r["doc_id"], record=(r["corpus"], r["shard"], r["row"])) for r in records]
        live = [one for one in found if one["documents"]]
        found = live or found  # of a file that was read again, the rows of today
    return {"file": file, "line": line, "found": found, "quarantined": [_shortened(row) for row in quarantined]}


def _place(explainer: Explainer, place: str) -> tuple[str, int | None]:
    """Return the name of a file in the lake, and the line. Raises ConfigError for a file that was never read."""
    known = [row["file"] for row in explainer.rows("select distinct file from files order by file", [])]
    tried: list[tuple[str, int | None]] = [(place, None)]
    file, colon, line = place.rpartition(":")
    digits = line.replace(",", "")
    if colon and digits.isdecimal() and len(digits) <= LINE_DIGITS:
        tried.insert(0, (file, int(digits)))
    for name, number in tried:
        if found := _known(explainer, name, known):
            if len(found) > 1:
                raise ConfigError(f"{name!r} may be any of {', '.join(found[:5])}; write more of its path")
            return found[0], number
    raise ConfigError(f"the lake has read no file {tried[0][0]!r}; `tamis sql 'select file from files'` lists them")


def _known(explainer: Explainer, name: str, known: list[str]) -> list[str]:
    """Return which files of the lake a name means: literally, else by where it leads, else by the end of the path."""
    if name in known:
        return [name]
    roots = {Path.cwd()}
    for opened in explainer.runs.values():
        with suppress(TamisError):  # a configuration that was removed
            roots.add(opened.root)
    try:
        real = os.path.realpath(name)
    except ValueError:  # no file can have such a name
        return []
    same = [one for one in known if any(os.path.realpath(root / one) == real for root in roots)]
    return same or [one for one in known if one.endswith(f"/{name.removeprefix('./')}")]


def _there(explainer: Explainer, file: str) -> str:
    """Return what there is of a file."""
    (row,) = explainer.rows(
        "select count(*) as n, min(line) as first, max(line) as last from document_rows where file = $1", [file]
    )
    if not row["n"]:
        return f"no document of {file} was read"
    if row["first"] is None:
        return f"{file} is one document; leave the line out"
    return f"{file} has {row['n']:,} documents, from line {row['first']:,} to {row['last']:,}; empty lines are none"


def _quarantine(explainer: Explainer) -> Iterable[dict[str, Any]]:
    return explainer.rows("select corpus, file, line, reason, raw from quarantine order by all", [])


def _has(raw: bytes, snippet: str) -> bool:
    """Say whether raw bytes hold a text: as it is, or as JSON writes it."""
    spelled = (snippet, json.dumps(snippet)[1:-1], json.dumps(snippet, ensure_ascii=False)[1:-1])
    return any(found in raw for one in spelled for found in _bytes(one))


def _bytes(text: str) -> Iterator[bytes]:
    """Yield what bytes a text may stand for: an argument of the command line has a lone surrogate for each bad byte."""
    for errors in ("surrogateescape", "surrogatepass"):
        with suppress(UnicodeEncodeError):
            yield text.encode(errors=errors)


def _shortened(row: dict[str, Any]) -> dict[str, Any]:
    """Return a quarantined record as JSON types: the beginning of its bytes as text, and how many the lake has."""
    return row | {"raw": row["raw"][:RAW_SHOWN].decode(errors="replace"), "n_bytes": len(row["raw"])}
