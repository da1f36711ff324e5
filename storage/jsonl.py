"""What a line of JSON Lines is: the one place that says which are records, which are repaired and why others are not.

One C call finds the fields of a line, and only text, id and source are decoded. Everything else stays the bytes it was
(`msgspec.Raw`), so that `meta` keeps numbers of any size as they were written. A line that fails costs itself; it is
looked at again for lone surrogate escapes, which are repaired, and for a reason that a person understands.

Ordinary lines do not come here: `jsonl_kernels` reads them three times as fast, and must agree.
"""

import json
import re

import msgspec

from .inputs import ReadOptions, Record, RefusedError, checked_name
from .streams import HEAD_BYTES

#: Deeper nesting is refused: where a parser gives up depends on the interpreter and on how deep the caller already is.
MAX_DEPTH = 256

_Fields = dict[str, msgspec.Raw]
_FIELDS = msgspec.json.Decoder(_Fields)
_STRING = msgspec.json.Decoder(str)
_NULL = msgspec.Raw(b"null")

_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_KINDS = {"{": "an object", "[": "a list", "n": "null", "t": "a boolean", "f": "a boolean", '"': "a string"}
_PAIR = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rb"\\(?:" + _PAIR + rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.S)  # group 1: a lone surrogate
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.S)
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_MAGIC = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x8b": "gzip inside another compression",
    b"\x28\xb5\x2f\xfd": "zstd inside another compression",
    b"PAR1": "Parquet",
}


def parse_line(line: bytes, number: int, options: ReadOptions) -> Record | None:
    """Return the record of a line, or None for a blank one; raise `RefusedError` with the reason for anything else."""
    if len(line) > options.max_record_bytes:
        raise RefusedError(f"the line is longer than max_record_bytes ({options.max_record_bytes:,})")
    try:
        return _record(line, number, options)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not line.strip():
            return None
        whole = _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], line)
        if whole != line:
            return _repaired(whole, line, number, options)
        raise RefusedError(_explained(line, error)) from error


def not_lines(head: bytes) -> str | None:
    """Say why a file that begins so cannot be JSON Lines at all, or None where it may be."""
    head = head[:HEAD_BYTES]
    n_control = len(head) - len(head.translate(None, _CONTROL))
    if n_control * 50 > len(head) and not _has_record(head):
        known = next((what for magic, what in _MAGIC.items() if head.startswith(magic)), "")
        return f"binary data{known and ' (' + known + ')'}, expected JSON Lines, plain or compressed with gzip or zstd"
    first, newline, rest = head.lstrip().partition(b"\n")
    if newline and rest.strip() and (first.strip() == b"{" or (first.startswith(b"[") and _is_cut_off(first))):
        return "one JSON value over several lines, expected an object a line: convert it, for instance with jq -c '.[]'"
    return None


def _record(line: bytes, number: int, options: ReadOptions) -> Record:
    fields: _Fields = _FIELDS.decode(line)
    text = _text(fields, options.text)
    doc_id = checked_name(_id(fields, options.id), options.id)
    source = checked_name(_source(fields, options.source), options.source)
    return Record(doc_id, text, source, _meta(fields) if fields else None, number, False)


def _text(fields: _Fields, path: str) -> str:
    raw = fields.pop(path, None) or _taken_below(fields, path)
    if raw is None:
        raise RefusedError(f'"{path}" is missing; the record has {_listed(list(fields))}')
    try:
        return _STRING.decode(raw)
    except msgspec.ValidationError:
        raise RefusedError(f'"{path}" is {_kind(raw)}, expected a string') from None


def _id(fields: _Fields, path: str) -> str | None:
    raw = fields.pop(path, None) or _taken_below(fields, path) or _NULL
    try:
        return _STRING.decode(raw) or None
    except msgspec.ValidationError:
        kind = _kind(raw)
    if kind == "a number":
        return str(raw, "ascii")
    if kind == "null":
        return None
    raise RefusedError(f'"{path}" is {kind}, expected a string or a number')


def _source(fields: _Fields, path: str) -> str | None:
    """Take the source; one that is neither text nor number stays, and so becomes part of `meta`."""
    raw = fields.pop(path, None) or _taken_below(fields, path) or _NULL
    try:
        return _STRING.decode(raw)
    except msgspec.ValidationError:
        kind = _kind(raw)
    if kind == "a number":
        return str(raw, "ascii")
    if kind != "null":
        fields[path] = raw
    return None


def _taken_below(fields: _Fields, path: str) -> msgspec.Raw | None:
    """Remove and return the field `a.b`: of the object `a` the field `b`, which may be a path again."""
    outer, dot, below = path.partition(".")
    if not dot or outer not in fields or _kind(fields[outer]) != "an object":
        return None
    inner: _Fields = _FIELDS.decode(fields[outer])
    raw = inner.pop(below, None) or _taken_below(inner, below)
    if raw is not None:
        fields[outer] = msgspec.Raw(msgspec.json.encode(inner))
    return raw


def _kind(raw: msgspec.Raw) -> str:
    """Name the type of a JSON value for a message."""
    return _KINDS.get(chr(memoryview(raw)[0]), "a number")


def _meta(fields: _Fields) -> str | None:
    """Write what is left as one object; the keys of a field `meta` stand directly in it, and give way to the others."""
    own = fields.pop("meta", _NULL)
    kind = _kind(own)
    if kind == "an object" and not fields:
        text = str(own, "utf-8")
    else:
        if kind == "an object":
            fields = _FIELDS.decode(own) | fields
        elif kind != "null":
            fields["meta"] = own
        text = str(msgspec.json.encode(fields), "utf-8")
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise RefusedError(_TOO_DEEP)
    return text if text[1:-1].strip() else None


def _depth(text: str) -> int:
    """Return how deep a valid JSON text is nested."""
    depth = deepest = 0
    for sign in _JSON_STRING.sub("", text):
        depth += (sign in "[{") - (sign in "]}")
        deepest = max(deepest, depth)
    return deepest


def _repaired(whole: bytes, line: bytes, number: int, options: ReadOptions) -> Record:
    """Read a line whose lone surrogates were replaced, and find out whether they stood in text, id or source."""
    other = _ESCAPE.sub(lambda escape: b"\\ufffe" if escape[1] else escape[0], line)
    try:
        record = _record(whole, number, options)
        changed = record[:3] != _record(other, number, options)[:3]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(_explained(whole, error)) from error
    return record._replace(repaired=changed)


def _explained(line: bytes, error: Exception) -> str:
    """Turn a parser's exception into a reason; bytes are counted from 0."""
    try:
        line.decode()
    except UnicodeDecodeError as invalid:
        return f"invalid UTF-8 at byte {invalid.start}"
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, msgspec.ValidationError):
        return f"the line is {_kind(msgspec.Raw(line.strip()))}, expected an object"
    if constant := _constant(line):
        return f"not JSON: {constant} has no place in JSON, expected a number, a string or null"
    message = str(error).removeprefix("JSON is malformed: ")
    if message == "Input data was truncated":
        return f"not JSON: the line ends before the value is complete, at byte {len(line)}"
    return "not JSON: " + re.sub(r" \(byte (\d+)\)$", r" at byte \1", message)


def _constant(line: bytes) -> str:
    """Return the NaN or Infinity that alone makes a line malformed."""
    found: list[str] = []
    try:
        json.loads(line, parse_constant=found.append, parse_int=str)
    except (ValueError, RecursionError):
        return ""
    return found[0] if found else ""


def _listed(names: list[str]) -> str:
    shown = ", ".join(json.dumps(name[:40], ensure_ascii=False) for name in names[:8])
    return (shown or "no fields") + (", …" if len(names) > 8 else "")


def _has_record(head: bytes) -> bool:
    for line in head.split(b"\n"):
        try:
            _FIELDS.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        return True
    return False


def _is_cut_off(line: bytes) -> bool:
    """Say whether a line is the beginning of a JSON value and not all of it."""
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        return str(error) == "Input data was truncated"
    except (ValueError, RecursionError):
        return False
    return False
