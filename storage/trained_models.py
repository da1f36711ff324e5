"""Models that tamis trained, in the lake: a Hugging Face folder, how it came about, and the curve of its losses.

`models/<key>/model/` is the folder, `curve.parquet` and `curve.png` the losses, `training.json` the record, which is
published last: it exists, therefore the model is whole.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from .disks import writing
from .lake import Lake, read_json
from .model_files import model_digest
from .publish import move_into_place, temporary_path

CURVE = pa.schema(
    [("step", pa.int64()), ("tokens", pa.int64()), ("loss", pa.float64()), ("held_out", pa.float64()),
     ("gradient", pa.float64())]
)  # fmt: skip
"""Steps done, tokens trained on until then; nats a token: of the step before its update, and of what is held out."""


def model_path(lake: Lake, key: str) -> Path:
    """Return the Hugging Face folder of a trained model."""
    return lake.model(key) / "model"


def training_record(lake: Lake, key: str) -> dict[str, Any] | None:
    """Return how a model was trained, None where it was not, or not to the end."""
    path = lake.model(key) / "training.json"
    return read_json(path) if path.exists() else None


def publish_model(
    lake: Lake, key: str, save: Callable[[Path], None], curve: pa.Table, picture: bytes, record: dict[str, Any]
) -> dict[str, Any]:
    """Publish what `save` writes into a folder, the curve, its picture, and the record; return that with the digest."""
    folder = lake.model(key)
    temporary = temporary_path(lake.scratch, "model")
    try:
        with writing(folder / "model", lake.scratch):
            temporary.mkdir()
            save(temporary)
            digest = model_digest(temporary)
            for path in sorted(p for p in temporary.rglob("*") if p.is_file()):
                move_into_place(path, folder / "model" / path.relative_to(temporary))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    lake.publish_table(folder / "curve.parquet", curve)
    lake.publish_bytes(folder / "curve.png", picture)
    whole = {**record, "key": key, "digest": digest}
    lake.publish_json(folder / "training.json", whole)
    return whole
