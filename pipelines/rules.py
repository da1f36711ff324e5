"""The rules of a filter: scalar SQL expressions over features and document columns, checked before any work.

An expression is parsed, its columns are resolved (`stats.n_words`, `source`, `meta.licence`), everything that is not a pure
function of one document is refused, and DuckDB binds it to the types of the columns. It is evaluated on a connection that
can neither read files nor load extensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from ..storage.errors import ConfigError
from ..storage.plugins import nearest
from ..storage.schema import DOCUMENT

DOCUMENT_COLUMNS = ("doc_id", "source", "meta", "text", "file", "n_bytes", "repaired")
_LOCKED = {"enable_external_access": False, "autoload_known_extensions": False, "autoinstall_known_extensions": False}
_REFUSED = (exp.Query, exp.Window, exp.AggFunc, exp.Star, exp.Parameter, exp.Placeholder, exp.Command, exp.Lambda)


@dataclass(frozen=True)
class Rule:
    """A checked rule: its DuckDB expression, and the columns that it reads."""

    name: str
    sql: str
    text: str
    columns: tuple[tuple[str | None, str], ...]
    """(alias of a feature, or None for a document column; name of the column)"""


def compile_rules(rules: Mapping[str, str], features: Mapping[str, pa.Schema]) -> list[Rule]:
    """Check the rules of a filter; `features` are the schemas of the features by alias. Raises ConfigError."""
    compiled = [_compile(name, text, features) for name, text in rules.items()]
    for rule in compiled:
        _bind(rule, features)
    return compiled


def _compile(name: str, text: str, features: Mapping[str, pa.Schema]) -> Rule:
    try:
        parsed = sqlglot.parse(text, read="duckdb")
    except sqlglot.errors.SqlglotError as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(f"filter rule {name!r}: {text!r} is no SQL expression: {first_line}") from None
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Expression):
        raise ConfigError(f"filter rule {name!r}: expected one SQL expression, found {text!r}")
    tree = parsed[0]
    _refuse_impure(name, text, tree)
    columns: dict[tuple[str | None, str], None] = {}

    def resolved(node: exp.Expression) -> exp.Expression:
        return _column(name, node, features, columns) if isinstance(node, exp.Column) else node

    sql = tree.transform(resolved).sql(dialect="duckdb")
    return Rule(name, sql, text, tuple(columns))


def _refuse_impure(name: str, text: str, tree: exp.Expression) -> None:
    volatile = _impure_functions()
    for node in tree.walk():
        if isinstance(node, _REFUSED) or (isinstance(node, (exp.DDL, exp.DML))):
            raise ConfigError(f"filter rule {name!r}: {text!r} holds {node.sql()!r}; a rule is one scalar expression over one document")
        if isinstance(node, exp.Func):
            used = {node.name.lower()} if isinstance(node, exp.Anonymous) else {n.lower() for n in node.sql_names()}
            if found := sorted(used & volatile):
                raise ConfigError(f"filter rule {name!r}: {found[0]}() differs from call to call or reads outside the document")


@lru_cache(1)
def _impure_functions() -> frozenset[str]:
    """Return every function that is no pure scalar function, in lower case."""
    with duckdb.connect(config=_LOCKED) as connection:
        rows = connection.execute("select function_name, function_type, stability from duckdb_functions()").fetchall()
    scalar = {n.lower() for n, kind, stability in rows if kind == "scalar" and stability == "CONSISTENT"}
    other = {n.lower() for n, kind, stability in rows if kind != "macro" and not (kind == "scalar" and stability == "CONSISTENT")}
    return frozenset((other - scalar) | {"current_timestamp", "current_date", "current_time", "now", "random", "rand", "uuid"})


def _column(
    rule: str, node: exp.Column, features: Mapping[str, pa.Schema], columns: dict[tuple[str | None, str], None]
) -> exp.Expression:
    """Return what a column of a rule is in the table of a batch."""
    path = [part.name for part in node.parts]
    if path[0] == "meta":
        columns[None, "meta"] = None
        return _meta(path[1:], node)
    if len(path) == 2 and path[0] in features:
        if path[1] not in features[path[0]].names:
            known = [f"{path[0]}.{c}" for c in features[path[0]].names]
            raise ConfigError(f"filter rule {rule!r}: unknown column {'.'.join(path)!r}{nearest('.'.join(path), known)}")
        columns[path[0], path[1]] = None
        return exp.column(exp.to_identifier(f"{path[0]}.{path[1]}", quoted=True))
    if len(path) == 1 and path[0] in DOCUMENT_COLUMNS:
        columns[None, path[0]] = None
        return exp.column(exp.to_identifier(path[0], quoted=True))
    known = [*DOCUMENT_COLUMNS, "meta.<key>", *(f"{a}.{c}" for a, s in features.items() for c in s.names)]
    raise ConfigError(f"filter rule {rule!r}: unknown column {'.'.join(path)!r}{nearest('.'.join(path), known)}")


def _meta(path: list[str], node: exp.Column) -> exp.Expression:
    """Return the value at a path of `meta`: text, or a number or boolean where it is compared with one."""
    column = exp.column(exp.to_identifier("meta", quoted=True))
    if not path:
        return column
    pointer = exp.Literal.string("/" + "/".join(p.replace("~", "~0").replace("/", "~1") for p in path))
    value = exp.Anonymous(this="json_extract_string", expressions=[column, pointer])
    parent = node.parent
    others = [n for n in parent.iter_expressions() if n is not node] if isinstance(parent, (exp.Binary, exp.Between)) else []
    if any(isinstance(o, exp.Neg) or (isinstance(o, exp.Literal) and not o.is_string) for o in others):
        return exp.TryCast(this=value, to=exp.DataType.build("double"))
    if any(isinstance(o, exp.Boolean) for o in others):
        return exp.TryCast(this=value, to=exp.DataType.build("boolean"))
    return value


def _bind(rule: Rule, features: Mapping[str, pa.Schema]) -> None:
    """Let DuckDB check functions and types on an empty table."""
    fields = [
        pa.field(f"{alias}.{name}", features[alias].field(name).type) if alias else DOCUMENT.field(name)
        for alias, name in rule.columns
    ]
    batch = pa.schema([*fields, pa.field("row", pa.int64())]).empty_table()
    try:
        with connect() as connection:
            connection.register("batch", batch)
            kind = connection.sql(f"select ({rule.sql}) as ok from batch").types[0]
    except duckdb.Error as error:
        raise ConfigError(f"filter rule {rule.name!r}: {rule.text!r}: {str(error).splitlines()[0]}") from None
    if str(kind) != "BOOLEAN":
        raise ConfigError(f"filter rule {rule.name!r}: {rule.text!r} gives {kind}, expected true or false")


def connect() -> Any:
    """Return a DuckDB connection that can only compute."""
    return duckdb.connect(config={**_LOCKED, "threads": 1, "lock_configuration": True})


def first_failing(rules: list[Rule], batch: pa.RecordBatch, connection: Any) -> pa.Array:
    """Return for each document the name of the first rule that is not true (NULL included), or null where it passes."""
    connection.register("batch", pa.Table.from_batches([batch]))
    cases = " ".join(f"when ({r.sql}) is not true then '{r.name}'" for r in rules)
    try:
        found = connection.sql(f"select case {cases} end::varchar as reason from batch order by row").to_arrow_table()
    except duckdb.Error as error:
        raise ConfigError(f"a filter rule failed on a document: {str(error).splitlines()[0]}; try_cast gives NULL instead") from None
    return found.column("reason").combine_chunks()


def meta_values(meta: pa.Array, path: str) -> pa.Array:
    """Return the value at `meta.<key>...` of each document as text, null where there is none."""
    pointer = "/" + "/".join(p.replace("~", "~0").replace("/", "~1") for p in path.split(".")[1:])
    with connect() as connection:
        connection.register("batch", pa.table({"meta": meta}))
        found = connection.sql("select json_extract_string(meta, $1)::varchar as value from batch", params=[pointer])
        return found.to_arrow_table().column(0).combine_chunks()
