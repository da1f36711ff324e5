"""The rules of a filter: expressions that are true for the documents that pass."""

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

from ..storage.errors import ConfigError
from .expressions import Expression, compile_expression, first_line, register


def compile_rules(rules: Mapping[str, str], features: Mapping[str, pa.Schema]) -> list[Expression]:
    """Check the rules of a filter; `features` are the schemas of the features by alias. Raises ConfigError."""
    return [
        compile_expression(f"filter rule {name!r}", name, text, features, "BOOLEAN") for name, text in rules.items()
    ]


def first_failing(rules: list[Expression], batch: pa.RecordBatch, connection: Any) -> pa.Array:
    """Return for each document the name of the first rule that is not true (NULL included), or null where it passes."""
    register(connection, batch, rules)
    cases = " ".join(f"when ({r.sql}) is not true then '{r.name}'" for r in rules)
    try:
        found = connection.sql(f"select case {cases} end::varchar as reason from batch order by row").to_arrow_table()
    except duckdb.Error as error:
        raise ConfigError(
            f"a filter rule failed on a document: {first_line(error)}; try_cast gives NULL instead"
        ) from None
    return found.column("reason").combine_chunks()
