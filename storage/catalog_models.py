"""The trained models in the catalogue: `models`, a row a run and model, and `training`, the curves of their losses."""

from typing import Any

from .lake import Lake

MODELS = (
    "run VARCHAR, model VARCHAR, key VARCHAR, parameters BIGINT, documents BIGINT, tokens BIGINT, steps BIGINT, "
    "loss DOUBLE, held_out_before DOUBLE, held_out_after DOUBLE, seconds DOUBLE, digest VARCHAR, path VARCHAR"
)
_COPIED = ("key", "parameters", "documents", "tokens", "steps", "loss")


def model_rows(lake: Lake, run: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows of `models` that a run's record has."""
    return [
        (
            run["run"], m["name"], *(m[name] for name in _COPIED), *(m["held_out"] or (None, None)), m["seconds"],
            m["digest"], str(lake.model(m["key"]) / "model"),
        )
        for m in run.get("models", [])
    ]  # fmt: skip


def curve_files(lake: Lake) -> list[Any]:
    """Return the files of the curves of whole models."""
    return [p.with_name("curve.parquet") for p in sorted((lake.root / "models").glob("*/training.json"))]


OF_ITS_MODEL = "parse_path(filename)[-2] as key, "
