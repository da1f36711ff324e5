"""A selection without its texts: ids, hashes and scores in one Parquet file, with the recipe in its footer.

Some 40 bytes a document. Whoever has a copy of the corpus can make the same choice again from it.
"""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import InputError
from .lake import NAME

ID_LIST = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("text_hash", pa.binary(16), nullable=False),  # first 16 bytes of SHA-256 of the UTF-8 text
        pa.field("source", pa.string()),
        pa.field("n_tokens", pa.int64(), nullable=False),
        pa.field("score", pa.float64()),
    ]
)
_RECIPE = b"tamis.recipe"


def with_recipe(recipe: dict[str, Any]) -> pa.Schema:
    """Return the schema of a list that was made by this recipe."""
    return ID_LIST.with_metadata({_RECIPE: json.dumps(recipe, ensure_ascii=False, default=str).encode()})


def read_id_list(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Return an exported list, and the recipe that it was made by. Raises InputError where the file is none."""
    try:
        table = pq.read_table(path, columns=ID_LIST.names).cast(ID_LIST)
        recipe = json.loads((pq.read_schema(path).metadata or {})[_RECIPE])
        if not re.fullmatch(NAME, recipe["mixture"]):
            raise ValueError("its recipe names no mixture")  # the name becomes a folder's
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(f'"{path}" is no list of `tamis export --ids` ({reason}); name its ids.parquet') from None
    return table, recipe
