"""`tamis sql`: the answer of the catalogue as a table for people, or streamed as CSV, JSON or Parquet.

Rows go by a block at a time, so an answer may be larger than the memory. Into a file it comes whole or not at all; what
a pipe got before a query failed halfway is not called back, and the exit code says so.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import duckdb
import pyarrow as pa

from ..storage.catalog import connect, reads_only
from ..storage.errors import ConfigError
from ..storage.lake import Lake
from ..storage.plugins import nearest
from ..storage.publish import json_ready
from ..storage.result_files import result_target, result_text, write_parquet
from .printing import as_json, harmless, print_table

FORMATS = ("table", "csv", "json", "parquet")
ROWS_SHOWN = 1_000
ROWS_AT_A_TIME = 10_000
ROWS_OF_A_GROUP = 122_880
"""DuckDB's own: 60 of its vectors."""


def answer(lake: Lake, query: str, form: str | None = None, output: Path | None = None) -> None:
    """Print the result of a query, or write it to a file, in the form that its name ends with unless one is given.

    Raises ConfigError for a query that DuckDB refuses, that is more than one statement or that does not only read, and
    where the form or the file does not fit.
    """
    form = _form(form, output)
    if output is not None:
        result_target(lake, output)
    connection = connect(lake)
    try:
        if not reads_only(connection, query):
            raise ConfigError("the query is not one statement that reads; use select, from, describe or explain")
        if form == "parquet" and output is not None:
            _write_parquet(lake, output, connection.sql(query))
            return
        connection.execute(query)
        if form == "table":
            _print(connection)
        elif output is None:
            _write(connection, form, _ForEyes() if sys.stdout.isatty() else sys.stdout)
        else:
            with result_text(lake, output) as file:
                _write(connection, form, file)
    except duckdb.Error as error:
        raise ConfigError(f"the query failed: {error}") from None


class _ForEyes(StringIO):
    """A terminal that is told nothing but text; into pipes and files data go as they are."""

    def write(self, text: str) -> int:
        """Write what is harmless."""
        return sys.stdout.write(harmless(text))


class _UnixLines:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> int:
        return self._file.write(row.removesuffix("\r\n") + "\n")


def _form(form: str | None, output: Path | None) -> str:
    """Return the checked form; that of the file's name where none is asked for."""
    if form is None and output is not None and (suffix := output.suffix.lower().removeprefix(".")) in FORMATS[1:]:
        form = suffix
    if form is None and output is not None:
        raise ConfigError(f"--output {str(output)!r} ends with no form; add --format csv, json or parquet")
    form = form or "table"
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r}{nearest(form, FORMATS)}")
    if form == "parquet" and output is None:
        raise ConfigError("--format parquet needs a file: --output FILE")
    if form == "table" and output is not None:
        raise ConfigError("--format table is for people to read; a file is csv, json or parquet")
    return form


def _print(connection: Any) -> None:
    rows = _rows(connection)
    print_table(_columns(connection), islice(rows, ROWS_SHOWN))
    if left := sum(1 for _ in rows):
        print(f"and {left:,} rows more: --format csv or json prints all, --output FILE keeps them", file=sys.stderr)  # noqa: T201


def _write(connection: Any, form: str, file: TextIO) -> None:
    columns, rows = _columns(connection), _rows(connection)
    if form == "json":
        _write_json(_differing(columns), rows, file)
    else:
        _write_csv(columns, rows, file)


def _columns(connection: Any) -> list[str]:
    return [column[0] for column in connection.description or []]


def _differing(columns: list[str]) -> list[str]:
    """Return the names of columns. Raises ConfigError where two are the same, of which one would be lost."""
    if twice := [name for number, name in enumerate(columns) if name in columns[:number]]:
        raise ConfigError(f"two columns of the result are named {twice[0]!r}; give one another name with `as`")
    return columns


def _rows(connection: Any) -> Iterator[Sequence[Any]]:
    while rows := connection.fetchmany(ROWS_AT_A_TIME):
        yield from rows


def _write_json(columns: Sequence[str], rows: Iterator[Sequence[Any]], file: TextIO) -> None:
    """Write a list of objects, one a line; NaN becomes null and bytes become hex."""
    file.write("[")
    for number, row in enumerate(rows):
        file.write((",\n" if number else "\n") + as_json(dict(zip(columns, row, strict=True))))
    file.write("\n]\n")


def _write_csv(columns: Sequence[str], rows: Iterator[Sequence[Any]], file: TextIO) -> None:
    """Write CSV with a head; lists and objects are JSON."""
    writer = csv.writer(_UnixLines(file))  # told to end lines with "\n", it does not quote a "\r" before Python 3.13
    writer.writerow(columns)
    writer.writerows([as_json(v) if isinstance(v, (list, tuple, dict)) else json_ready(v) for v in row] for row in rows)


def _write_parquet(lake: Lake, output: Path, result: Any) -> None:
    """Write the relation that a query gives. Raises ConfigError for a type that Parquet does not have."""
    batches = result.to_arrow_reader(ROWS_OF_A_GROUP)
    _differing(batches.schema.names)
    try:
        write_parquet(lake, output, batches)
    except pa.ArrowNotImplementedError as error:
        raise ConfigError(f"the result has no place in Parquet: {error}; cast to text, `x::varchar`") from None
    except OSError as error:
        raise ConfigError(f"the query failed: {error}") from None
