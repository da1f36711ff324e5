"""Mixtures in the catalogue: `mixtures`, a row a written form, `mixture_parts`, a row a share, and the drawn rows."""

from pathlib import Path
from typing import Any

from .lake import Lake, read_json

MIXTURES = (
    "mixture VARCHAR, key VARCHAR, run VARCHAR, format VARCHAR, documents BIGINT, tokens BIGINT, bytes BIGINT, "
    "files BIGINT, path VARCHAR, draw VARCHAR"
)
PARTS = (
    "mixture VARCHAR, draw VARCHAR, part VARCHAR, source VARCHAR, weight DOUBLE, max_epochs DOUBLE, available BIGINT, "
    "wanted BIGINT, asked BIGINT, achieved BIGINT, epochs DOUBLE, documents BIGINT, copies BIGINT"
)
_COPIED = (
    "part", "source", "weight", "max_epochs", "available", "wanted", "asked", "achieved", "epochs", "documents",
    "copies",
)  # fmt: skip


def mixture_rows(lake: Lake) -> list[tuple[Any, ...]]:
    """Return the rows of `mixtures`; `draw` is null where a flow wrote what it chose."""
    found = ((path, read_json(path)) for path in sorted((lake.root / "mixtures").glob("*/*/manifest.json")))
    return [
        (
            m["mixture"], m["key"], m["run"], m["format"], m["rows"], m["tokens"], m["bytes"], len(m["files"]),
            str(path.parent), m.get("draw"),
        )
        for path, m in found
    ]  # fmt: skip


def part_rows(lake: Lake) -> list[tuple[Any, ...]]:
    """Return the rows of `mixture_parts`."""
    draws = (read_json(path) for path in _draws(lake))
    return [(d["mixture"], d["draw"], *(part[name] for name in _COPIED)) for d in draws for part in d["parts"]]


def draw_files(lake: Lake) -> list[Path]:
    """Return the files of all whole draws."""
    return sorted(file for path in _draws(lake) for file in path.parent.glob("*/*.parquet"))


def corpora_of(run: dict[str, Any]) -> list[str]:
    """Return the corpora whose tokens a run counted."""
    return [run["corpus"], *(run.get("mixture") or {}).get("corpora", {})]


def _draws(lake: Lake) -> list[Path]:
    return sorted((lake.root / "draws").glob("*/manifest.json"))
