"""The draw of a mixture on disk: which documents stand in it and how often, one Parquet file a shard.

A draw does not hold text, and is the same for every form in which the mixture is written. Its manifest is published
last and says what was asked and achieved, so nobody has to read the rows to know.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa

from .lake import Lake, read_json
from .places import presence

DRAW = pa.schema(
    [
        pa.field("draw", pa.string(), nullable=False),  # key of the draw
        pa.field("mixture", pa.string(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("doc_key", pa.uint64(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("part", pa.string(), nullable=False),  # the first part that has the document
        pa.field("n_tokens", pa.int64(), nullable=False),
        pa.field("score", pa.float64()),  # of the last step of the part's flow
        pa.field("multiplicity", pa.int32(), nullable=False),  # how often it stands in the mixture: 1 or more
    ]
)


def draw_file(lake: Lake, key: str, corpus: str, shard: str) -> Path:
    """Return the file with the drawn documents of one shard."""
    return lake.draw(key) / corpus / f"{shard}.parquet"


def load_draw(lake: Lake, key: str) -> dict[str, Any] | None:
    """Return the manifest of a draw, or None where it was never finished, or a file of it was removed."""
    path = lake.draw(key) / "manifest.json"
    if not path.exists():
        return None
    found: dict[str, Any] = read_json(path)
    there = presence(path.parent)
    return found if all(there(path.parent / f"{shard}.parquet") for shard in found["shards"]) else None
