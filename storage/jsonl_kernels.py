"""The ordinary lines of JSON Lines, straight from bytes into Arrow's buffers, without a Python object or the GIL.

Ordinary is one valid object whose text, id, source and `meta` are of their usual types. Every other line (anything
invalid, lone surrogates, repeated keys, escapes in keys) is only pointed out, and `jsonl.parse_line` decides what it
is: so nothing is decided here, and what is taken here is what `parse_line` makes of it. A test compares the two.

One core takes 0.5 GB of lines a second; msgspec and Python objects took 0.15. Compiling takes some seconds, once.

Counts are named constants of one type, because Numba compiles a function anew for each literal that it is given.
Trap: its cache does not follow changes of `json_kernels`; whoever edits that removes `__pycache__/*.nb?`.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .json_kernels import CLOSE, COLON, COMMA, NEWLINE, NO, ONE, OPEN, QUOTE, Bytes, colon, number, space, string, value

Counts = npt.NDArray[np.uint64]
Names = tuple[Bytes, Counts]
"""Field f is called `names[0][names[1][f]:names[1][f + 1]]`: text, id, source, meta."""
Columns = tuple[tuple[Bytes, ...], npt.NDArray[np.int64], npt.NDArray[np.bool_]]
"""Values, ends and given of the columns text, id, source, meta: row r of column c is
`values[c][ends[c, r]:ends[c, r + 1]]`, but nothing where it is not `given[c, r]`."""
Members = tuple[Counts, Counts]
"""Of each member of the object: where key and value begin and end and which field it is; the hash of the key."""

TEXT, ID, SOURCE, META, OTHER = (np.uint64(n) for n in range(5))
N_FIELDS = 4
_MAX_KEYS = np.uint64(128)
_NULL = ord("n")
_0, _2 = np.uint64(0), np.uint64(2)
_SEED, _STEP = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a


@njit(nogil=True, cache=True)
def scan(
    data: Bytes, at: int, names: Names, max_line: int, columns: Columns, lines: Counts, odd: Counts
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Read lines from `data[at:]` to its end, or until there is no more room for rows or odd lines.

    `data` ends with a newline. Row r came from the line `lines[r]`, counted from 0. `odd` takes the other lines, blank
    ones left out: number, start, end, rows before it. Returns the place of the next line, and how many lines, rows and
    odd lines were read.
    """
    i, end = np.uint64(at), np.uint64(len(data))
    longest = np.uint64(max_line) + ONE
    members = np.empty((_MAX_KEYS, 5), np.uint64), np.empty(_MAX_KEYS, np.uint64)
    n_lines, n_rows, n_odd = _0, _0, _0
    columns[1][:, 0] = 0
    while i < end and n_rows < np.uint64(len(lines)) and n_odd < np.uint64(len(odd)):
        begin, i = i, _line(data, i, names, columns, n_rows, members)
        if i != NO and i - begin <= longest:
            lines[n_rows] = n_lines
            n_rows += ONE
        else:
            i = _after_newline(data, begin)
            if data[space(data, begin)] != NEWLINE:
                odd[n_odd, 0], odd[n_odd, 1], odd[n_odd, 2], odd[n_odd, 3] = n_lines, begin, i - ONE, n_rows
                n_odd += ONE
        n_lines += ONE
    return i, n_lines, n_rows, n_odd


@njit(nogil=True, cache=True)
def _after_newline(data: Bytes, i: np.uint64) -> np.uint64:
    while data[i] != NEWLINE:
        i += ONE
    return i + ONE


@njit(nogil=True, cache=True)
def _line(data: Bytes, i: np.uint64, names: Names, columns: Columns, row: np.uint64, members: Members) -> np.uint64:
    """Read one line as row `row`; return the place of the next line, or NO."""
    values, ends, given = columns
    for field in range(N_FIELDS):
        given[field, row] = False
        ends[field, row + ONE] = ends[field, row]
    i = space(data, i)
    if data[i] != OPEN:
        return NO
    text, meta = np.uint64(ends[TEXT, row]), np.uint64(ends[META, row])
    i, n, text = _object(data, i, _0, names, values[0], text, values[3], meta, members)
    if i == NO:
        return NO
    i = space(data, i)
    if data[i] != NEWLINE or not _fields(data, n, text, columns, row, members):
        return NO
    return i + ONE


@njit(nogil=True, cache=True)
def _object(
    data: Bytes, i: np.uint64, n: np.uint64, names: Names, text: Bytes, t: np.uint64, scratch: Bytes, s: np.uint64,
    members: Members,
) -> tuple[np.uint64, np.uint64, np.uint64]:  # fmt: skip
    """Read an object with a member or more, when `n` are known already; the value of its text goes to `text[t:]`.

    Returns the place after it, how many members are known now, and where the text ends.
    """
    while n < _MAX_KEYS:
        i, t = _member(data, space(data, i + ONE), n, names, text, t, scratch, s, members)
        if i == NO:
            return NO, n, t
        n += ONE
        i = space(data, i)
        if data[i] != COMMA:
            return i + ONE if data[i] == CLOSE else NO, n, t
    return NO, n, t


@njit(nogil=True, cache=True)
def _member(
    data: Bytes, i: np.uint64, n: np.uint64, names: Names, text: Bytes, t: np.uint64, scratch: Bytes, s: np.uint64,
    members: Members,
) -> tuple[np.uint64, np.uint64]:  # fmt: skip
    """Read member `n`; return the place after it and where the text ends."""
    key, key_end = i, NO
    if data[i] == QUOTE:
        key_end, decoded = string(data, i + ONE, scratch, s)
        if decoded - s != key_end - key - _2:  # an escape
            key_end = NO
    if key_end == NO or _seen(data, key, key_end, n, members[1]):
        return NO, t
    begin = colon(data, key_end)
    if begin == NO:
        return NO, t
    field = _field(data, key + ONE, key_end - ONE, names)
    if field != TEXT:
        i = value(data, begin, scratch, s)
    elif data[begin] == QUOTE:
        i, t = string(data, begin + ONE, text, t)
    else:
        return NO, t
    spans = members[0]
    spans[n, 0], spans[n, 1], spans[n, 2], spans[n, 3], spans[n, 4] = key, key_end, begin, i, field
    return i, t


@njit(nogil=True, cache=True)
def _seen(data: Bytes, i: np.uint64, end: np.uint64, n: np.uint64, hashes: Counts) -> np.bool_:
    """Say whether one of the `n` keys before has the hash of this one; keep it."""
    state = _SEED
    while i < end:
        state = (state ^ np.uint64(data[i])) * _STEP
        i += ONE
    hashes[n] = state
    k = _0
    while hashes[k] != state:
        k += ONE
    return k < n


@njit(nogil=True, cache=True)
def _field(data: Bytes, begin: np.uint64, end: np.uint64, names: Names) -> np.uint64:
    """Return which of the names a key is, or OTHER."""
    spelled, ends = names
    for field in range(len(ends) - 1):
        at = ends[field]
        if ends[field + 1] - at == end - begin:
            i = begin
            while i < end and data[i] == spelled[at]:
                i += ONE
                at += ONE
            if i == end:
                return np.uint64(field)
    return OTHER


@njit(nogil=True, cache=True)
def _fields(data: Bytes, n: np.uint64, text: np.uint64, columns: Columns, row: np.uint64, members: Members) -> bool:
    """Write the fields of a record with `n` members, of which the text is there and ends at `text`, as row `row`."""
    spans, own, others = members[0], NO, _0
    for k in range(n):
        field = spans[k, 4]
        others += np.uint64(field == OTHER)
        if field == TEXT:
            columns[2][TEXT, row], columns[1][TEXT, row + ONE] = True, text
        elif field == META:
            own = np.uint64(k)
        elif field != OTHER and not _label(data, spans[k, 2], spans[k, 3], field, columns, row):
            return False
    if not columns[2][TEXT, row]:
        return False
    return _meta(data, own, others, n, columns, row, members)


@njit(nogil=True, cache=True)
def _label(data: Bytes, begin: np.uint64, stop: np.uint64, field: np.uint64, columns: Columns, row: np.uint64) -> bool:
    """Write an id or source: a string, the digits of a number, or nothing for null; say whether it is one of these."""
    values, ends, given = columns
    at = np.uint64(ends[field, row])
    out = values[1] if field == ID else values[2]
    if data[begin] == _NULL:
        return True
    if data[begin] == QUOTE:
        _, end = string(data, begin + ONE, out, at)
    elif number(data, begin) != stop:
        return False
    else:
        end = _copy(data, begin, stop, out, at)
    ends[field, row + ONE] = end
    given[field, row] = (end > at) | (field == SOURCE)  # an empty id is none
    return True


@njit(nogil=True, cache=True)
def _meta(
    data: Bytes, own: np.uint64, others: np.uint64, n: np.uint64, columns: Columns, row: np.uint64, members: Members
) -> bool:
    """Write what is left as one object: the members of the field `meta` (member `own`), then the `others`, if any."""
    values, ends, given = columns
    spans, out = members[0], values[3]
    at = np.uint64(ends[META, row])
    end, n_all = at, n
    if own != NO and data[spans[own, 2]] != _NULL:
        begin = spans[own, 2]
        if data[begin] != OPEN:
            return False
        if data[space(data, begin + ONE)] == CLOSE:
            pass
        elif others > _0:
            i, n_all, _ = _object(data, begin, n, (data, members[1][:1]), out, at, out, at, members)  # no names
            if i == NO:
                return False
        else:
            end = _copy(data, begin, spans[own, 3], out, at)
    if others > _0:
        end = _joined(data, spans, n, n_all, out, at, at)
        end = _joined(data, spans, _0, n, out, at, end)
        out[end] = CLOSE
        end += ONE
    given[META, row], ends[META, row + ONE] = end > at, end
    return True


@njit(nogil=True, cache=True)
def _joined(
    data: Bytes, spans: Counts, first: np.uint64, stop: np.uint64, out: Bytes, begin: np.uint64, at: np.uint64
) -> np.uint64:
    """Write those of the members that are no field of their own, each after its comma, the first after a bracket."""
    for k in range(first, stop):
        if spans[k, 4] == OTHER:
            out[at] = OPEN if at == begin else COMMA
            at = _copy(data, spans[k, 0], spans[k, 1], out, at + ONE)
            out[at] = COLON
            at = _copy(data, spans[k, 2], spans[k, 3], out, at + ONE)
    return at


@njit(nogil=True, cache=True)
def _copy(data: Bytes, i: np.uint64, end: np.uint64, out: Bytes, o: np.uint64) -> np.uint64:
    while i < end:
        out[o] = data[i]
        i += ONE
        o += ONE
    return o
