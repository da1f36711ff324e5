"""The page that goes with a mixture of several parts: what was asked and achieved, and what is in it."""

from typing import Any

from .markdown import markdown_table

SOURCES_SHOWN = 100
_COLUMNS = {
    "part": "part", "source": "source", "weight": "weight", "max_epochs": "most epochs",
    "available": "tokens there are", "wanted": "by weight", "asked": "asked", "achieved": "achieved",
    "epochs": "epochs", "documents": "documents",
    "copies": "copies",
}  # fmt: skip


def mixture_card(manifest: dict[str, Any], sources: list[dict[str, Any]]) -> str:
    """Return the card of one written form; `sources` are copies and tokens by part and source, largest first."""
    m = manifest
    order = m["order"]["by"]
    shown = [column for column in _COLUMNS if column != "source" or any(part["source"] for part in m["parts"])]
    origins = [
        [o["part"], f"flow `{o['flow']}`" if o["flow"] else f"corpus `{o['corpus']}`", o["documents"], o["lost"]]
        for o in m["origins"]
    ]
    left = f"\n\nand {len(sources) - SOURCES_SHOWN:,} more" if len(sources) > SOURCES_SHOWN else ""
    sections = [
        f"# {m['mixture']}",
        f"Made by tamis {m['tamis']} in run `{m['run']}` (draw `{m['draw'][:12]}`), seed {m['seed']}, tokens counted "
        f"by `{m['tokenizer']}`. Asked for {m['budget']:,} tokens; {m['achieved']:,} are here. "
        + ("Shuffled by keyed numbers." if order is None else
           f"Sorted by `{order}`, {'lowest' if m['order']['ascending'] else 'highest'} first."),
        markdown_table([_COLUMNS[c] for c in shown], [[part[c] for c in shown] for part in m["parts"]]),
        markdown_table(["part", "is", "documents there are", "left out by the rule"], origins),
        f"The rule: {m['rule']}.",
        markdown_table(["part", "source", "copies", "tokens"],
                       [[s["part"], s["source"], s["copies"], s["tokens"]] for s in sources[:SOURCES_SHOWN]]) + left,
        markdown_table(["format", "files", "documents", "tokens", "bytes of text"],
                       [[m["format"], len(m["files"]), m["rows"], m["tokens"], m["bytes"]]]),
        "The texts keep the licences of their sources. `manifest.json` holds the SHA-256 of every file.",
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"
