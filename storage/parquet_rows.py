"""Parquet files to records, a few hundred rows at a time, so that one giant row group costs no more memory than many.

Text, id and source stay in Arrow. Metadata goes through Python objects, because it may be of any shape; and so does
each row of a piece with something odd in it, where a value that Python cannot hold (a string that is not UTF-8, a date
before year 1) costs its row and not its file.
"""

from collections.abc import Callable, Iterator
from functools import partial
from io import FileIO
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .inputs import MOST_NAME_BYTES, RAW_BYTES, BadRecord, ReadOptions, Record, RefusedError, checked_name
from .memory_lack import is_absurd
from .parquet_pages import chunks, rows_at_once
from .schema import RECORD

MAGIC = b"PAR1"

_MAX_ROWS = 1024
_BUFFER_BYTES = 1 << 20
_FAILURES = (pa.ArrowException, OSError, ValueError)  # Arrow raises all three for damage


def parquet_rows(name: str, handle: BinaryIO, options: ReadOptions) -> Iterator[pa.RecordBatch | Record | BadRecord]:
    """Read the rows of the file `name`. A row group that breaks costs its rest; the next one is read again."""
    raw = handle.read(RAW_BYTES)
    if not raw.startswith(MAGIC):
        yield BadRecord(name, None, 'not Parquet: it does not begin with "PAR1"', raw)
        return
    handle.seek(0)
    try:
        parquet = pq.ParquetFile(handle, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        problem = _problem(parquet.schema_arrow, options)
    except _FAILURES as error:
        _pass_on(error)
        problem = f"damaged or incomplete Parquet: {_first_line(error)}"
    if problem:
        yield BadRecord(name, None, problem, raw)
        return
    done = 0
    # in a store each header of a page would be a request
    is_here = isinstance(getattr(handle, "raw", None), FileIO)
    columns = chunks(handle) if is_here else []
    if is_here and len(columns) != parquet.num_row_groups:
        yield BadRecord(name, None, "damaged or incomplete Parquet: its footer cannot be read", raw)
        return
    for group in range(parquet.num_row_groups):
        safe = partial(rows_at_once, handle, parquet, columns[group], group) if columns else None
        yield from _row_group(name, parquet, safe, group, done, options)
        done += parquet.metadata.row_group(group).num_rows
    if done < (n_rows := parquet.metadata.num_rows):
        yield BadRecord(name, done + 1, f"the footer tells of {n_rows:,} rows, and its row groups have {done:,}", b"")


def _row_group(
    name: str, parquet: pq.ParquetFile, safe: Callable[[int], int] | None, group: int, done: int, options: ReadOptions
) -> Iterator[pa.RecordBatch | Record | BadRecord]:
    found = parquet.metadata.row_group(group)
    end = done + found.num_rows
    per_row = max(1, found.total_byte_size // max(1, found.num_rows))
    n_rows = max(1, min(_MAX_ROWS, options.batch_bytes // per_row))
    try:
        n_rows = min(n_rows, safe(options.max_record_bytes)) if safe else n_rows
        for batch in parquet.iter_batches(n_rows, row_groups=[group], use_threads=False):
            if (ordinary := _columns_of(batch, done + 1, options)) is not None:
                yield ordinary
            else:
                for line, row in enumerate(_rows(batch), done + 1):
                    yield _record_or_bad(name, line, row, options)
            done += batch.num_rows
        if done < end:
            raise ValueError("the footer tells of more rows than there are")
    except (RefusedError, *_FAILURES) as error:
        _pass_on(error)
        lost = f"rows {done + 1:,} to {end:,}, the rest of row group {group + 1}, cannot be decoded"
        yield BadRecord(name, done + 1, f"{lost}: {_first_line(error)}", b"")


def _columns_of(batch: pa.RecordBatch, line: int, options: ReadOptions) -> pa.RecordBatch | None:
    """Return rows as records without making objects of their texts; None where one of them may need a closer look."""
    paths = {"text": options.text, "doc_id": options.id, "source": options.source}
    if len({*paths.values(), "meta"}) < 4 or any("." in path for path in paths.values()) or not batch.num_rows:
        return None
    try:
        columns = {name: _strings(batch, path).cast(RECORD.field(name).type) for name, path in paths.items()}
        rest = _rows(batch.drop_columns([path for path in paths.values() if path in batch.schema.names]))
        columns["meta"] = pa.array([_meta(row) if isinstance(row, dict) else _refuse(row) for row in rest], pa.string())
    except (RefusedError, OverflowError, *_FAILURES) as error:
        _pass_on(error)
        return None
    text, doc_id = columns["text"], columns["doc_id"]
    if text.null_count or pc.max(pc.binary_length(text)).as_py() > options.max_record_bytes:
        return None
    if any((pc.max(pc.binary_length(c)).as_py() or 0) > MOST_NAME_BYTES for c in (doc_id, columns["source"])):
        return None
    columns["doc_id"] = pc.if_else(pc.equal(doc_id, ""), pa.scalar(None, pa.string()), doc_id)
    columns["line"] = pa.array(range(line, line + batch.num_rows), pa.int64())
    columns["repaired"] = pa.repeat(False, batch.num_rows)
    return pa.RecordBatch.from_arrays([columns[field.name] for field in RECORD], schema=RECORD)


def _strings(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return a column of strings or whole numbers as strings; raise RefusedError for one of another type."""
    if name not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.string())
    column = batch.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise RefusedError(name)
    column.validate(full=True)  # UTF-8
    return column


def _refuse(row: Exception) -> str:
    raise row


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any] | Exception]:
    """Return rows as Python objects; a row with a value that Python cannot hold is the exception."""
    schema = pa.schema([field.with_type(_microseconds(field.type)) for field in batch.schema])
    if schema != batch.schema:
        batch = batch.cast(schema, safe=False)
    try:
        rows: list[dict[str, Any] | Exception] = batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        _pass_on(error)
        rows = [_row(batch.slice(i, 1)) for i in range(batch.num_rows)]
    return rows


def _row(one: pa.RecordBatch) -> dict[str, Any] | Exception:
    try:
        row: dict[str, Any] = one.to_pylist()[0]
    except (ValueError, OverflowError, pa.ArrowException) as error:
        _pass_on(error)
        return error
    return row


def _record_or_bad(name: str, line: int, row: dict[str, Any] | Exception, options: ReadOptions) -> Record | BadRecord:
    value: Any = None
    try:
        if isinstance(row, Exception):
            raise row
        value = _take(row, options.text)
        if value is None:
            raise RefusedError(f'"{options.text}" is null, expected a string')
        text = _as_text(value)
        if 4 * len(text) > options.max_record_bytes < len(text.encode()):
            raise RefusedError(f"the text is longer than max_record_bytes ({options.max_record_bytes:,})")
        doc_id = _take(row, options.id)
        doc_id = checked_name(None if doc_id is None else _as_text(doc_id) or None, options.id)
        source = checked_name(_source(row, options.source), options.source)
        return Record(doc_id, text, source, _meta(row), line, False)
    except RefusedError as refusal:
        reason = str(refusal)
    except UnicodeDecodeError as error:
        reason = f"invalid UTF-8 at byte {error.start}"
    except (ValueError, OverflowError, pa.ArrowException) as error:
        reason = f"a value cannot be read: {_first_line(error)}"
    raw = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b""
    return BadRecord(name, line, reason, raw[:RAW_BYTES])


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else str(value)


def _source(row: dict[str, Any], path: str) -> str | None:
    """Take the source; one that is neither text nor number stays, and so becomes part of `meta`."""
    value = _take(row, path)
    if isinstance(value, bool | list | dict):
        row[path] = value
        return None
    return None if value is None else _as_text(value)


def _take(row: dict[str, Any], path: str) -> Any:
    """Remove and return a field, also one inside a struct: `a.b` is the column of that name, else `b` in `a`."""
    if path in row:
        return row.pop(path)
    outer, dot, below = path.partition(".")
    inner = row.get(outer)
    return _take(inner, below) if dot and isinstance(inner, dict) else None


def _meta(row: dict[str, Any]) -> str | None:
    """Write what is left as one JSON object: times in ISO 8601, decimals as strings, binary as base64, NaN as null."""
    own = _object(row.pop("meta", None))
    if isinstance(own, dict):
        row = own | row
    elif own is not None:
        row["meta"] = own
    return msgspec.json.encode(row, enc_hook=str).decode() if row else None


def _object(value: Any) -> Any:
    """Return the object that a text of JSON is, as in the mixtures that tamis writes; anything else as it is."""
    if not (isinstance(value, str) and value.startswith("{")):
        return value
    try:
        return msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return value


def _problem(schema: pa.Schema, options: ReadOptions) -> str | None:
    """Say why no row of the file can be a document, or return None."""
    if len(set(schema.names)) < len(schema.names):
        return f"two columns have the same name; the file has {_columns(schema)}"
    text = _type_at(schema, options.text)
    if text is None:
        return f'no column "{options.text}"; the file has {_columns(schema)}: name the one that holds the text'
    if not _is_text(text):
        return f'column "{options.text}" is {text}, expected strings; the file has {_columns(schema)}'
    doc_id = _type_at(schema, options.id)
    if doc_id is not None and not (_is_text(doc_id) or _is_number(doc_id)):
        return f'column "{options.id}" is {doc_id}, expected strings or numbers; the file has {_columns(schema)}'
    return None


def _type_at(schema: pa.Schema, path: str) -> pa.DataType | None:
    fields: Any = schema
    while fields.get_field_index(path) < 0:
        outer, _, path = path.partition(".")
        at = fields.get_field_index(outer)
        if at < 0 or not path or not pa.types.is_struct(fields.field(at).type):
            return None
        fields = fields.field(at).type
    return fields.field(fields.get_field_index(path)).type


def _is_text(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary)
    return any(kind(found) for kind in (*kinds, pa.types.is_large_binary, pa.types.is_binary_view))


def _is_number(found: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(kind(found) for kind in kinds)


def _microseconds(found: pa.DataType) -> pa.DataType:
    """Return the type with times that Python can hold: microseconds, and UTC for every zone (the instant stays)."""
    if pa.types.is_timestamp(found):
        return pa.timestamp("us", "UTC" if found.tz else None)
    if pa.types.is_time64(found):
        return pa.time64("us")
    if pa.types.is_duration(found):
        return pa.duration("us")
    if pa.types.is_struct(found):
        return pa.struct([field.with_type(_microseconds(field.type)) for field in found])
    if pa.types.is_list(found):
        return pa.list_(found.value_field.with_type(_microseconds(found.value_type)))
    return found


def _columns(schema: pa.Schema) -> str:
    shown = ", ".join(f'"{field.name}" ({str(field.type)[:40]})' for field in list(schema)[:12])
    return (shown or "no columns") + (", …" if len(schema) > 12 else "")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _pass_on(error: Exception) -> None:
    """Raise again what is no damage: what the operating system reports, and a lack of memory.

    Arrow's own OSErrors carry no number. Damage asks for more memory than any machine has.
    """
    if isinstance(error, OSError) and error.errno:
        raise error
    if isinstance(error, MemoryError) and not is_absurd(error):
        raise error
