"""The pages that go with mixtures: how one was made, what was asked and achieved, and what is in it."""

from typing import Any

from .markdown import markdown_table

SOURCES_SHOWN = 100
README = "README.md"
Rows = list[tuple[str, int, int]]
"""Name, documents and tokens."""
_COLUMNS = {
    "part": "part", "source": "source", "weight": "weight", "max_epochs": "most epochs",
    "available": "tokens there are", "wanted": "by weight", "asked": "asked", "achieved": "achieved",
    "epochs": "epochs", "documents": "documents",
    "copies": "copies",
}  # fmt: skip


def hub_readme(pattern: str) -> bytes:
    """Return the page whose head tells `datasets.load_dataset` the files of a folder that hold documents."""
    head = f'---\nconfigs:\n- config_name: default\n  data_files: "{pattern}"\n---\n'
    return f"{head}\nWhat this is, and how it was made: card.md. SHA-256 of every file: manifest.json.\n".encode()


def selection_card(
    manifest: dict[str, Any], steps: list[dict[str, Any]], alarms: list[dict[str, Any]], sources: Rows, licences: Rows
) -> str:
    """Return the card of one written form of what a flow chose; `alarms` are those of the run."""
    m = manifest
    origin = f"Made by tamis {m['tamis']} in run `{m['run']}` from the corpus `{m['corpus']}`"
    origin += f" (snapshot `{m['snapshot'][:12]}`), seed {m['seed']}, tokens counted by `{m['tokenizer']}`."
    made = [[f"{s['name']} ({s['kind']})", s["entered"], s["kept"], s["tokens_kept"]] for s in steps]
    health = [
        [s["name"], name.replace("_", " "), value] for s in steps for name, value in (s.get("health") or {}).items()
    ]
    sections = [
        f"# {m['mixture']}\n\n{origin}",
        markdown_table(["step", "entered", "kept", "tokens kept"], made),
        _counted("source", sources),
        _written(m),
        markdown_table(["step", "health", "value"], health) if health else "",
        _alarms(alarms),
        _licences(licences),
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _alarms(alarms: list[dict[str, Any]]) -> str:
    rows = [[a["step"], a["name"].replace("_", " "), a["message"]] for a in alarms]
    return markdown_table(["step", "alarm", "what it means"], rows) if rows else ""


def _counted(name: str, rows: Rows) -> str:
    left = f"\n\nand {len(rows) - SOURCES_SHOWN:,} more" if len(rows) > SOURCES_SHOWN else ""
    return markdown_table([name, "documents", "tokens"], [[*row] for row in rows[:SOURCES_SHOWN]]) + left


def _written(manifest: dict[str, Any]) -> str:
    row = [manifest["format"], len(manifest["files"]), *(manifest[name] for name in ("rows", "tokens", "bytes"))]
    page = markdown_table(["format", "files", "documents", "tokens", "bytes of text"], [row])
    if "dtype" not in manifest:
        return page
    said = f"In this table and that of the sources tokens are ids of `{manifest['encoded_with']}`, end tokens included."
    return f"{page}\n\n{said}"


def _licences(licences: Rows) -> str:
    rest = "`manifest.json` holds the SHA-256 of every file."
    if not licences:
        return f"The texts keep the licences of their sources; their metadata name none. {rest}"
    return f"{_counted('licence', licences)}\n\nThe texts keep the licences of their sources. {rest}"


def mixture_card(
    manifest: dict[str, Any], sources: list[dict[str, Any]], alarms: list[dict[str, Any]], licences: Rows
) -> str:
    """Return the card of one written form.

    `sources` are copies and tokens by part and source, largest first; `alarms` those of the flows that it draws from.
    """
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
        _written(m),
        _alarms(alarms),
        _licences(licences),
    ]  # fmt: skip
    return "\n\n".join(s for s in sections if s) + "\n"
