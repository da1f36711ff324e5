"""Scalar SQL expressions over features and document columns, checked before any work.

An expression is parsed, its columns are resolved (`stats.n_words`, `source`, `meta.licence`), and what DuckDB makes of
it may call nothing but pure functions of one document (`pure_sql`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import duckdb
import pyarrow as pa
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from ..features.base import Feature
from ..storage.errors import ConfigError
from ..storage.plugins import nearest
from ..storage.schema import DOCUMENT
from .pure_sql import EXPECTED, check_pure, connect

DOCUMENT_COLUMNS = ("doc_id", "source", "meta", "text", "file", "n_bytes", "repaired")
_REFUSED = (
    exp.Query, exp.Window, exp.AggFunc, exp.Star, exp.Columns, exp.Parameter, exp.Placeholder, exp.Lambda, exp.Struct,
)  # fmt: skip
_NUMBERS = {
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
    "FLOAT", "DOUBLE", "DECIMAL",
}  # fmt: skip
_UNDERLINED = re.compile(r"\x1b\[\d*m")


class FeatureSchemas(Mapping[str, pa.Schema]):
    """The columns of features by alias; only those are looked for that an expression names."""

    def __init__(self, features: Mapping[str, Feature]) -> None:
        self._features = features

    def __getitem__(self, alias: str) -> pa.Schema:
        """Raise ConfigError for a feature whose files or model are not there."""
        return self._features[alias].columns

    def __contains__(self, alias: object) -> bool:
        return alias in self._features

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)


@dataclass(frozen=True)
class Expression:
    """A checked expression: what it is called and as what, its DuckDB text, and the columns that it reads."""

    place: str
    """Where it is written, for errors: `filter rule 'short'`."""
    name: str
    sql: str
    text: str
    columns: tuple[tuple[str | None, str], ...]
    """(alias of a feature, or None for a document column; name of the column)"""
    is_number: bool = False
    """Whether it gives a number."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Features that it reads."""
        return tuple(dict.fromkeys(alias for alias, _ in self.columns if alias))

    @property
    def document_columns(self) -> tuple[str, ...]:
        """Columns of the shard that it reads."""
        return tuple(dict.fromkeys(name for alias, name in self.columns if not alias))


def compile_expression(
    place: str, name: str, text: str, features: Mapping[str, pa.Schema], kind: Literal["BOOLEAN", "DOUBLE"] | None
) -> Expression:
    """Check an expression that gives truth or a number (None: anything); `features` are schemas by alias.

    Raises ConfigError.
    """
    compiled = _parse(place, name, text, features, kind)
    found = _bind(compiled, features, kind)
    return replace(compiled, is_number=_is_number(found))


def _parse(place: str, name: str, text: str, features: Mapping[str, pa.Schema], wanted: str | None) -> Expression:
    try:
        parsed = Dialect.get_or_raise("duckdb").parse_into(exp.Condition, text)
    except RecursionError:
        raise ConfigError(f"{place}: {text[:80]!r}... is nested too deeply; {EXPECTED}") from None
    except SqlglotError as error:
        details = getattr(error, "errors", [])
        why = (details[-1].get("description") if details else None) or first_line(error)
        raise ConfigError(f"{place}: {text!r} is no SQL expression: {why}; {EXPECTED}") from None
    tree = parsed[0] if len(parsed) == 1 else None
    if tree is None:
        raise ConfigError(f"{place}: expected one SQL expression, found {text!r}")
    for node in tree.walk():
        if isinstance(node, _REFUSED):
            raise ConfigError(f"{place}: {text!r} holds {node.sql()!r}; {EXPECTED}")
    columns: dict[tuple[str | None, str], None] = {}

    def resolved(node: exp.Expression) -> exp.Expression:
        path = _path(node)
        return _column(place, node, path, features, columns, wanted) if path else node

    sql = tree.transform(resolved).sql(dialect="duckdb", comments=False)
    return Expression(place, name, sql, text, tuple(columns))


def first_line(error: Exception) -> str:
    """Return the first line of an error, without the colours of a terminal."""
    return _UNDERLINED.sub("", str(error)).partition("\n")[0]


def _path(node: exp.Expression) -> list[str]:
    """Return the names between the dots of a column, none for other nodes; beyond four they are nested `Dot`s."""
    if isinstance(node, exp.Column):
        return [part.name for part in node.parts]
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        below = _path(node.this)
        return [*below, node.name] if below else []
    return []


def _column(
    place: str,
    node: exp.Expression,
    path: list[str],
    features: Mapping[str, pa.Schema],
    columns: dict[tuple[str | None, str], None],
    wanted: str | None,
) -> exp.Expression:
    """Return what a column of a rule is in the table of a batch."""
    if path[0] == "meta":
        columns[None, "meta"] = None
        return _meta(path[1:], node, features, wanted)
    if len(path) == 2 and path[0] in features:
        if path[1] not in features[path[0]].names:
            known = [f"{path[0]}.{c}" for c in features[path[0]].names]
            raise ConfigError(f"{place}: unknown column {'.'.join(path)!r}{nearest('.'.join(path), known)}")
        columns[path[0], path[1]] = None
        return exp.column(exp.to_identifier(f"{path[0]}.{path[1]}", quoted=True))
    if len(path) == 1 and path[0] in DOCUMENT_COLUMNS:
        columns[None, path[0]] = None
        return exp.column(exp.to_identifier(path[0], quoted=True))
    known = [*DOCUMENT_COLUMNS, "meta.<key>", *(f"{a}.{c}" for a in features for c in _names(features, a))]
    raise ConfigError(f"{place}: unknown column {'.'.join(path)!r}{nearest('.'.join(path), known)}")


def _names(features: Mapping[str, pa.Schema], alias: str) -> list[str]:
    """Return the columns of a feature that may lack its files or its package, and is not what was asked for."""
    with suppress(ConfigError):
        return list(features[alias].names)
    return []


def _meta(
    path: list[str], node: exp.Expression, features: Mapping[str, pa.Schema], wanted: str | None
) -> exp.Expression:
    """Return the value at a path of `meta`: text, or a number or boolean where it is used as one."""
    column = exp.column(exp.to_identifier("meta", quoted=True))
    if not path:
        return column
    extracted = exp.Anonymous(this="json_extract_string", expressions=[column, exp.Literal.string(_pointer(path))])
    value = exp.Try(this=extracted)  # one document's malformed JSON must not end the step
    kind = _wanted(node, features, wanted)
    return exp.TryCast(this=value, to=exp.DataType.build(kind)) if kind else value


def _pointer(path: list[str]) -> str:
    return "/" + "/".join(p.replace("~", "~0").replace("/", "~1") for p in path)


def _wanted(node: Any, features: Mapping[str, pa.Schema], whole: str | None) -> str | None:
    """Return the type that a value of `meta` is compared with, None for text; `whole` is the expression's."""
    parent = node.parent
    while isinstance(parent, exp.Paren):
        node, parent = parent, parent.parent
    if parent is None:
        return whole
    if isinstance(parent, (exp.And, exp.Or, exp.Xor, exp.Not)):
        return "boolean"
    if not isinstance(parent, (exp.Binary, exp.Between, exp.In)):
        return None
    kinds = {_kind(other, features) for other in parent.iter_expressions() if other is not node}
    return next((kind for kind in ("double", "boolean") if kind in kinds), None)


def _kind(node: Any, features: Mapping[str, pa.Schema]) -> str | None:
    """Say whether an expression is plainly a number or a boolean."""
    node = node.unnest()
    if isinstance(node, (exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)):
        return "double"
    if isinstance(node, exp.Literal):
        return None if node.is_string else "double"
    if isinstance(node, exp.Boolean):
        return "boolean"
    alias, _, name = ".".join(_path(node)).rpartition(".")
    schema = features.get(alias, DOCUMENT if not alias else pa.schema([]))
    kind = schema.field(name).type if name in schema.names else pa.null()
    if pa.types.is_boolean(kind):
        return "boolean"
    return "double" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else None


def _bind(rule: Expression, features: Mapping[str, pa.Schema], wanted: str | None) -> str:
    """Check the syntax tree of what DuckDB will run, then let DuckDB run it on a document that has nothing.

    Return DuckDB's name of what it gives.
    """
    kinds = {
        f"{alias}.{name}" if alias else name: (features[alias] if alias else DOCUMENT).field(name).type
        for alias, name in rule.columns
    }
    nothing = pa.table({name: pa.nulls(1, kind) for name, kind in {**kinds, "row": pa.int64()}.items()})
    try:
        with connect() as connection:
            check_pure(rule.place, rule.text, rule.sql, connection, list(kinds))
            connection.register("batch", _for_duckdb(nothing))
            found = connection.sql(f"select ({rule.sql}) as ok from batch")
            kind = str(found.types[0])
            found.fetchall()
    except duckdb.Error as error:
        raise ConfigError(f"{rule.place}: {rule.text!r}: {first_line(error)}") from None
    if wanted == "BOOLEAN" and kind != "BOOLEAN":
        raise ConfigError(f"{rule.place}: {rule.text!r} gives {kind}, expected true or false")
    if wanted == "DOUBLE" and not _is_number(kind):
        raise ConfigError(f"{rule.place}: {rule.text!r} gives {kind}, expected a number")
    return kind


def _is_number(kind: str) -> bool:
    return kind.partition("(")[0] in _NUMBERS


def values(expression: Expression, batch: pa.RecordBatch, connection: Any) -> pa.Array:
    """Return the value of an expression for each document of a batch, numbers as float64 and all else as text."""
    register(connection, batch, [expression])
    kind = "double" if expression.is_number else "varchar"
    try:
        found = connection.sql(f"select ({expression.sql})::{kind} as found from batch order by row").to_arrow_table()
    except duckdb.Error as error:
        raise ConfigError(f"{expression.place} failed on a document: {first_line(error)}") from None
    return found.column("found").combine_chunks()


def numbers(expressions: Sequence[Expression], batch: pa.RecordBatch, connection: Any) -> dict[str, pa.Array]:
    """Return the value of each expression for each document of a batch as float64, by name; NULL stays null."""
    if not expressions:
        return {}
    register(connection, batch, expressions)
    columns = ", ".join(f'({e.sql})::double as "{e.name}"' for e in expressions)
    try:
        found = connection.sql(f"select {columns} from batch order by row").to_arrow_table()
    except duckdb.Error as error:
        raise ConfigError(
            f"{expressions[0].place} failed on a document: {first_line(error)}; try_cast gives NULL instead"
        ) from None
    return {e.name: found.column(e.name).combine_chunks() for e in expressions}


def register(connection: Any, batch: pa.RecordBatch, expressions: Sequence[Expression]) -> None:
    """Give a connection the columns of a batch that the expressions read, and `row`, as the table `batch`."""
    names = dict.fromkeys(f"{alias}.{name}" if alias else name for e in expressions for alias, name in e.columns)
    connection.register("batch", _for_duckdb(pa.Table.from_batches([batch]).select(["row", *names])))


def _for_duckdb(table: pa.Table) -> pa.Table:
    """Return a table with float32 for float16, which DuckDB does not read from Arrow."""
    return table.cast(pa.schema([(f.name, _widened(f.type)) for f in table.schema]))


def _widened(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_widened(kind.value_type), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_widened(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_widened(kind.value_type))
    return pa.float32() if pa.types.is_float16(kind) else kind


def meta_values(meta: pa.Array, path: str) -> pa.Array:
    """Return the value at `meta.<key>...` of each document as text, null where there is none."""
    pointer = _pointer(path.split(".")[1:])
    with connect() as connection:
        connection.register("batch", pa.table({"meta": meta}))
        found = connection.sql(
            "select try(json_extract_string(meta, $1))::varchar as value from batch", params=[pointer]
        )
        return found.to_arrow_table().column(0).combine_chunks()
