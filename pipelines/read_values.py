"""What a step read of a document: the value of each column that a rule or a selector asks for.

A rule is asked again, on the values that the lake has, also about a document that passed: what it says must be what the
step said.
"""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from .expressions import DOCUMENT_COLUMNS, Expression, FeatureSchemas, meta_values, register
from .measuring import Reader
from .opened_runs import KeyedFeatures
from .opened_steps import OpenedStep, Place
from .pure_sql import connect
from .rules import compile_rules
from .step_entries import FilterStep

_META = re.compile(r"\bmeta((?:\.\w+)+)")
_LONG = 80
"""Characters of a value that is a text."""


def rules_of(step: OpenedStep, places: Sequence[Place]) -> dict[Place, list[dict[str, Any]]]:
    """Return the rules of a filter for each document: `rule`, its `sql`, what it `reads`, and whether it `holds`.

    They have the order in which the step asked them. `holds` is None where a value was NULL, which drops the document
    too. Raises TamisError where configuration or values are not in the lake any more.
    """
    entry, recipe = step.run.step(step.name), step.manifest["recipe"]
    assert isinstance(entry, FilterStep)
    features = KeyedFeatures(step.run, recipe["features"])
    order = [name for name, _ in recipe["filter"]]
    rules = sorted(compile_rules(entry.filter, FeatureSchemas(features)), key=lambda rule: order.index(rule.name))
    columns = tuple(features.column(alias) for alias in recipe["features"])
    reads = tuple(dict.fromkeys(name for rule in rules for name in rule.document_columns))
    found: dict[Place, list[dict[str, Any]]] = {}
    for digest in dict.fromkeys(shard for shard, _ in places):
        rows = pa.array(sorted({row for shard, row in places if shard == digest}), pa.int64()).to_numpy()
        shard = step.run.shards[digest]
        for batch in step.run.read(shard, rows, lambda survivors: Reader(step.run.lake, survivors, reads, columns)):
            told = _told(rules, batch)
            found |= {(digest, row): rows for row, rows in zip(batch.column("row").to_pylist(), told, strict=True)}
    return found


def _told(rules: Sequence[Expression], batch: pa.RecordBatch) -> list[list[dict[str, Any]]]:
    """Return the rules for each row of a batch."""
    columns = ", ".join(f'({rule.sql}) as "{rule.name}"' for rule in rules)
    with connect() as connection:
        register(connection, batch, rules)
        holds = connection.sql(f"select {columns} from batch order by row").to_arrow_table()
    values = [_values(rule, batch) for rule in rules]
    return [
        [
            {
                "rule": rule.name, "sql": rule.text, "holds": holds.column(rule.name)[row].as_py(),
                "reads": {name: column[row] for name, column in of_rule.items()},
            }
            for rule, of_rule in zip(rules, values, strict=True)
        ]
        for row in range(batch.num_rows)
    ]  # fmt: skip


def _values(rule: Expression, batch: pa.RecordBatch) -> dict[str, list[Any]]:
    """Return the values that a rule reads, by the names that it has for them."""
    found: dict[str, list[Any]] = {}
    for alias, name in rule.columns:
        if alias is None and name == "meta":
            paths = [f"meta{path}" for path in _META.findall(rule.text)]
            found |= {path: meta_values(batch.column("meta"), path).to_pylist() for path in dict.fromkeys(paths)}
        elif alias is not None or name in DOCUMENT_COLUMNS:
            column = f"{alias}.{name}" if alias else name
            found[column] = [shortened(value) for value in batch.column(column).to_pylist()]
    return found


def selector_values(step: OpenedStep, batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the numbers and words that a selector read of each document, without its vectors and lists."""
    named = {f"{c.alias}.{name}" for c in step.inputs.columns for name in c.feature.columns.names}
    named |= set(step.selector.expressions)
    shown = [f.name for f in batch.schema if f.name in named and not pa.types.is_nested(f.type)]
    columns = {name: [shortened(value) for value in batch.column(name).to_pylist()] for name in shown}
    return [{name: column[row] for name, column in columns.items()} for row in range(batch.num_rows)]


def shortened(value: Any) -> Any:
    """Return a value, a long text by its beginning."""
    return f"{value[:_LONG]}…" if isinstance(value, str) and len(value) > _LONG else value
