"""What an expression may call: pure functions of one document, the same today and tomorrow, here and elsewhere.

DuckDB's own syntax tree is compared with a list of what is allowed, so that nothing gets through because another parser
reads it differently. Connections can neither read files nor load extensions.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import duckdb

from ..storage.errors import ConfigError
from ..storage.plugins import nearest

EXPECTED = "expected one scalar expression over one document"
_LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
}
_SCALAR_NODES = {
    "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION",
    "OPERATOR", "TYPE",
}  # fmt: skip
#: Of DuckDB's macros these hold nothing but pure functions; so do those that begin with `list_` and `array_`.
_PURE_MACROS = {"date_add", "days_in_month", "fdiv", "fmod", "if", "nullif", "split_part"}
#: Called consistent by DuckDB, but clocks, and numbers that differ between its versions.
_NOT_PURE = {"age", "current_localtime", "current_localtimestamp", "hash", "version"}


def connect() -> Any:
    """Return a DuckDB connection that can only compute, in UTC wherever it runs."""
    connection = duckdb.connect(config={**_LOCKED, "threads": 1})
    connection.execute("set timezone = 'UTC'; set lock_configuration = true")
    return connection


def check_pure(place: str, text: str, sql: str, connection: Any, columns: list[str]) -> None:
    """Raise ConfigError for everything but pure scalar functions of the columns of the table `batch`.

    `sql` is what DuckDB will run, `text` what was written at `place`.
    """
    query = f"select ({sql}) as ok from batch"
    ((tree,),) = connection.execute("select json_serialize_sql($1)", [query]).fetchall()
    found = json.loads(tree)
    if found["error"]:
        raise ConfigError(f"{place}: {text!r} is no SQL expression: {found['error_message']}")
    (statement,) = found["statements"]
    for node in _tree_nodes(statement["node"]["select_list"]):
        if node["class"] not in _SCALAR_NODES:
            raise ConfigError(f"{place}: {text!r} holds a {node['class'].lower()}; {EXPECTED}")
        called = None
        if node["class"] == "COLUMN_REF" and node["column_names"] not in [[c] for c in columns]:
            called = ".".join(node["column_names"])  # current_date and the like are written without brackets
        if node["class"] == "FUNCTION" and (node["schema"] or node["function_name"].lower() not in _functions()[0]):
            called = ".".join(filter(None, [node["schema"], node["function_name"]]))
        if called is not None:
            raise ConfigError(f"{place}: {text!r}: {_not_callable(called.lower())}")


def _tree_nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "class" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _tree_nodes(part)


def _not_callable(name: str) -> str:
    pure, known = _functions()
    if "." in name:
        return f"{name}() has a dot in its name, expected f(x)"
    if name in known or name.startswith(("current_", "local")):
        return f"{name}() may not be used: it is no pure function of one document, the same today and tomorrow"
    close = nearest(name, sorted(pure))
    return f"there is no function {name!r}{close if close.startswith('; did') else ''}"


@lru_cache(1)
def _functions() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the pure scalar functions, and of all functions, in lower case."""
    with duckdb.connect(config=_LOCKED) as connection:
        rows = connection.execute(
            "select lower(function_name), function_type, stability from duckdb_functions()"
        ).fetchall()
    scalars = {(name, stability) for name, kind, stability in rows if kind == "scalar"}
    macros = {name for name, kind, _ in rows if kind == "macro"}
    pure = {name for name, _ in scalars} - {name for name, stability in scalars if stability != "CONSISTENT"}
    pure |= {name for name in macros if name in _PURE_MACROS or name.startswith(("list_", "array_"))}
    return frozenset(pure - _NOT_PURE), frozenset(name for name, _, _ in rows)
