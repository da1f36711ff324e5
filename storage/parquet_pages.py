"""How much a row group of Parquet unpacks to at once, from the headers of its pages, before one of them is unpacked.

A footer may claim anything, but no page unpacks to more than its own header says: Arrow makes room for so much and
fails beyond it. Two encodings multiply after that: a value of a dictionary, or of one that shares prefixes, may be
repeated in every row for a few bits (2 MB of Parquet, 100 GB of text), so the longest such value bounds the rows that
are read at once. The headers of a page are some 50 bytes and 30 µs.
"""

from collections.abc import Iterator
from io import SEEK_END
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .inputs import RefusedError

#: Pages of one row group that are in memory together: of each column its largest page and its dictionary.
MOST_PAGE_BYTES = 1 << 30
#: Values of a column of lists in one row group, where they are more than 64 for each byte that they are unpacked from.
MOST_REPEATED = 1 << 24

_SHORT = 1 << 16
_HEADER_BYTES, _MOST_HEADER_BYTES = 4096, 1 << 24  # Arrow's own limit of a header
_DICTIONARY_PAGE = 2
_DICTIONARY, _PREFIXES = (2, 8), 7
_STRUCT, _LISTS, _MAP = 12, (9, 10), 11
_MOST_DEPTH = 16
_BYTE_ARRAYS = (6, 7)


class Page(NamedTuple):
    """What the header of a page says."""

    is_dictionary: bool
    encoding: int
    n_values: int
    n_bytes: int  # unpacked


class Chunk(NamedTuple):
    """The place of a column's pages in a row group, as the footer says."""

    kind: int
    n_values: int
    n_bytes: int  # packed
    begin: int
    codec: int


def chunks(handle: BinaryIO) -> list[list[Chunk]]:
    """Return the columns of every row group, in the order of the schema's leaves; none of a footer that is damaged.

    Not by Arrow: where the statistics of a column are damaged, Arrow 26 ends the whole process when it is asked for it.
    """
    handle.seek(-8, SEEK_END)
    n_bytes = int.from_bytes(handle.read(4), "little")
    try:
        handle.seek(-8 - n_bytes, SEEK_END)
        footer, _ = _struct(handle.read(n_bytes), 0, 0)
        return [[_chunk(column.get(3) or {}) for column in group.get(1) or ()] for group in footer.get(4) or ()]
    except (AttributeError, IndexError, OSError, TypeError, ValueError):
        return []


def _chunk(about: dict[int, Any]) -> Chunk:
    data, dictionary = _count(about, 9), _count(about, 11)
    begin = dictionary if 0 < dictionary < data else data
    return Chunk(_count(about, 1), _count(about, 5), _count(about, 7), begin, _count(about, 4))


def rows_at_once(handle: BinaryIO, parquet: pq.ParquetFile, columns: list[Chunk], group: int, most_bytes: int) -> int:
    """Return how many rows of a row group are sure to unpack to no more than `most_bytes`; at least one.

    Raises RefusedError where its pages alone would fill the memory.
    """
    held = row = 0
    if len(columns) != len(parquet.schema):
        raise RefusedError("the footer lists other columns than its schema")
    for number, chunk in enumerate(columns):
        column = parquet.schema.column(number)
        pages = list(_pages(handle, chunk))
        dictionary = max((page.n_bytes for page in pages if page.is_dictionary), default=0)
        data = [page for page in pages if not page.is_dictionary]
        held += dictionary + max((page.n_bytes for page in data), default=0)
        if held > MOST_PAGE_BYTES:
            raise RefusedError(f"its pages unpack to more than {MOST_PAGE_BYTES:,} bytes at once")
        if column.max_repetition_level:
            _refuse_repeats(column.path, data)
        if chunk.kind in _BYTE_ARRAYS:
            longest = _longest(handle, group, column.path, dictionary, data)
            row += max((_most_of_a_value(page, longest) for page in data), default=0)
    return max(1, most_bytes // max(1, row))


def _refuse_repeats(column: str, data: list[Page]) -> None:
    """Raise RefusedError where lists have so many values that only repeating a few of them makes so many."""
    n_values = sum(page.n_values for page in data)
    if n_values > max(MOST_REPEATED, 64 * sum(page.n_bytes for page in data)):
        raise RefusedError(f'the lists in column "{column}" have {n_values:,} values, made of a few bytes')


def _most_of_a_value(page: Page, longest: int) -> int:
    if page.encoding in _DICTIONARY:
        return longest
    if page.encoding == _PREFIXES:
        return page.n_bytes
    return page.n_bytes // max(1, page.n_values)


def _longest(handle: BinaryIO, group: int, column: str, n_bytes: int, data: list[Page]) -> int:
    """Return the length of the longest value of a dictionary, or what it cannot exceed."""
    if n_bytes <= _SHORT or "." in column or not data or data[0].encoding not in _DICTIONARY:
        return n_bytes
    try:
        handle.seek(0)
        parquet = pq.ParquetFile(handle, read_dictionary=[column], pre_buffer=False, buffer_size=_SHORT)
        first = next(parquet.iter_batches(1, row_groups=[group], columns=[column], use_threads=False))
        return int(pc.max(pc.binary_length(first.column(0).dictionary)).as_py() or 0)
    except (pa.ArrowException, OSError, ValueError, AttributeError, StopIteration):
        return n_bytes  # damage, which is found again where the rows are read


def _pages(handle: BinaryIO, chunk: Chunk) -> Iterator[Page]:
    """Yield the headers of a column's pages, up to one that cannot be read, where Arrow ends too."""
    at, end = chunk.begin, chunk.begin + chunk.n_bytes
    n_values = 0
    while at < end and n_values < chunk.n_values:
        try:
            fields, n_header = _header(handle, at)
        except (IndexError, ValueError):
            return
        data = next((found for name in (5, 8) if isinstance(found := fields.get(name), dict)), {})
        is_dictionary = _count(fields, 1) == _DICTIONARY_PAGE
        n_here = _count(data, 1)
        yield Page(is_dictionary, _count(data, 2 if data is fields.get(5) else 4), n_here, _count(fields, 2))
        n_values += 0 if is_dictionary else n_here
        at += n_header + _count(fields, 3)


def _count(fields: dict[int, Any], name: int) -> int:
    """Return a number of a header, 0 where something else has its place, which Arrow passes over."""
    found = fields.get(name)
    return max(0, found) if isinstance(found, int) else 0


def _header(handle: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """Return the numbers of a header by their field, and its length. Raises IndexError and ValueError."""
    n_bytes = _HEADER_BYTES
    while True:
        handle.seek(at)
        content = handle.read(n_bytes)
        try:
            fields, end = _struct(content, 0, 0)
        except IndexError:
            if len(content) < n_bytes or n_bytes >= _MOST_HEADER_BYTES:
                raise
            n_bytes *= 16
            continue
        return fields, end


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Read a struct of Thrift's compact protocol."""
    if depth > _MOST_DEPTH:
        raise ValueError("nested too deep")
    fields: dict[int, Any] = {}
    field = 0
    while kind := content[at]:
        at += 1
        if kind >> 4:
            field += kind >> 4
        else:
            number, at = _varint(content, at)
            field = _signed(number)
        fields[field], at = _value(content, at, kind & 15, depth)
    return fields, at + 1


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):  # a boolean is its type
        return kind == 1, at
    if kind == 3:
        return content[at], at + 1
    if kind in (4, 5, 6):
        number, at = _varint(content, at)
        return _signed(number), at
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _varint(content, at)
        return None, at + length
    if kind == _STRUCT:
        return _struct(content, at, depth + 1)
    if kind in (*_LISTS, _MAP) and depth < _MOST_DEPTH:
        return _elements(content, at, kind, depth + 1)
    raise ValueError(f"a header of a page has no field of the type {kind}")


def _elements(content: bytes, at: int, kind: int, depth: int) -> tuple[list[Any], int]:
    """Return what is in a list or set, or the keys and values of a map."""
    if kind == _MAP:
        n, at = _varint(content, at)
        kinds = [content[at] >> 4, content[at] & 15] if n else []
        at += bool(n)
    else:
        n, kinds = content[at] >> 4, [content[at] & 15]
        at += 1
        if n == 15:
            n, at = _varint(content, at)
    found = []
    for _ in range(n):
        for one in kinds:
            value, at = (content[at], at + 1) if one in (1, 2) else _value(content, at, one, depth)
            found.append(value)
        content[at - 1]  # no further than there is something
    return found, at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise ValueError("a number of a header is too long")


def _signed(number: int) -> int:
    return number >> 1 ^ -(number & 1)
