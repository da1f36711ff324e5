"""JSON Lines to batches, block by block: ordinary lines through the kernel, the others through `parse_line`.

Blocks do not depend on each other, so that a mapping function may parse several at a time.
"""

from collections.abc import Iterable, Iterator
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .batches import Map, Piece, gathered
from .inputs import MOST_NAME_BYTES, RAW_BYTES, BadRecord, ReadOptions, Record, RefusedError
from .jsonl import parse_line
from .schema import RECORD
from .streams import Block, line_blocks

_COLUMNS = ("text", "doc_id", "source", "meta")  # as the kernel counts them
_LINE_BYTES, _ODD_BYTES = 64, 256  # where lines are shorter, or odd ones more frequent, a block takes several scans
_ODD_SHARE = 16  # where more than one line in so many is odd, all go by hand: putting each in its place costs 0.1 ms


def json_lines(name: str, chunks: Iterator[bytes], options: ReadOptions, map: Map) -> Iterator[Piece]:
    """Read the lines of the file `name` in order; a line that is no record, or where the stream broke, is bad."""
    for pieces in map(partial(_parsed, name, options), line_blocks(chunks, options.max_record_bytes)):
        yield from pieces


def _parsed(name: str, options: ReadOptions, block: Block) -> list[Piece]:
    """Return what the lines of a block hold."""
    return list(gathered(_in_order(name, options, block), options.batch_bytes))


def _in_order(name: str, options: ReadOptions, block: Block) -> Iterator[pa.RecordBatch | Record | BadRecord]:
    """Yield what the lines of a block hold: batches from the kernel, and between them what it left."""
    at, n_before = 0, block.n_before
    if "." in options.text + options.id + options.source:  # dotted paths are not for the kernel
        yield from _by_hand(name, options, _numbered(block.data, n_before))
        at = len(block.data)
    while at < len(block.data):
        begin = at
        rows, odd, at, n_lines = _scanned(block.data, begin, n_before, options)
        if len(odd) * _ODD_SHARE > n_lines or _has_long_name(rows):
            yield from _by_hand(name, options, _numbered(block.data[begin:at], n_before))
        else:
            yield from _merged(name, options, block.data, rows, odd, n_before)
        n_before += n_lines
    if block.damage:
        yield BadRecord(name, block.n_before + block.n_lines + 1, str(block.damage), block.damage.rest)


def _has_long_name(rows: pa.RecordBatch) -> bool:
    lengths = (pc.max(pc.binary_length(rows.column(name))).as_py() for name in ("doc_id", "source"))
    return any((length or 0) > MOST_NAME_BYTES for length in lengths)


def _merged(
    name: str, options: ReadOptions, data: bytes, rows: pa.RecordBatch, odd: list[list[int]], n_before: int
) -> Iterator[pa.RecordBatch | Record | BadRecord]:
    """Put odd lines where they stand between the ordinary ones."""
    done = 0
    for number, begin, end, place in odd:
        if place > done:
            yield rows.slice(done, place - done)
            done = place
        yield from _by_hand(name, options, [(n_before + number + 1, data[begin:end])])
    if done < rows.num_rows:
        yield rows.slice(done)


def _numbered(data: bytes, n_before: int) -> Iterable[tuple[int, bytes]]:
    return enumerate(data.split(b"\n")[:-1], n_before + 1)


def _by_hand(name: str, options: ReadOptions, lines: Iterable[tuple[int, bytes]]) -> Iterator[Record | BadRecord]:
    """Read numbered lines one by one."""
    for number, line in lines:
        try:
            record = parse_line(line, number, options)
        except RefusedError as refusal:
            yield BadRecord(name, number, str(refusal), line[:RAW_BYTES])
        else:
            if record is not None:
                yield record


def _scanned(
    data: bytes, at: int, n_before: int, options: ReadOptions
) -> tuple[pa.RecordBatch, list[list[int]], int, int]:
    """Run the kernel from byte `at`, before which there are `n_before` lines.

    Returns the ordinary records, the other lines (number, begin, end, rows before), the place where it stopped, and how
    many lines it saw.
    """
    from .jsonl_kernels import scan  # Numba takes 0.3 s to import, and most commands read no file

    room = len(data) - at
    most = room // _LINE_BYTES + 16
    values = tuple(np.empty(room, np.uint8) for _ in _COLUMNS)
    ends, given = np.empty((len(_COLUMNS), most + 1), np.int64), np.empty((len(_COLUMNS), most), np.bool_)
    lines, odd = np.empty(most, np.uint64), np.empty((room // _ODD_BYTES + 16, 4), np.uint64)
    at, n_lines, n_rows, n_odd = map(
        int, scan(np.frombuffer(data, np.uint8), at, _names(options), options.max_record_bytes,
                  (values, ends, given), lines, odd)
    )  # fmt: skip
    arrays = {
        "line": pa.array(lines[:n_rows].astype(np.int64) + (n_before + 1)),
        "repaired": pa.array(np.zeros(n_rows, np.bool_)),
    }
    for name, written, places, present in zip(_COLUMNS, values, ends[:, : n_rows + 1], given[:, :n_rows], strict=True):
        arrays[name] = _strings(RECORD.field(name).type, written, places, present)
    batch = pa.RecordBatch.from_arrays([arrays[field.name] for field in RECORD], schema=RECORD)
    return batch, odd[:n_odd].tolist(), at, n_lines


def _strings(
    kind: pa.DataType, values: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64], given: npt.NDArray[np.bool_]
) -> pa.Array:
    """Return a column of the kernel as Arrow has it."""
    valid = None if given.all() else pa.py_buffer(np.packbits(given, bitorder="little"))
    offsets = ends.astype(np.int32) if kind == pa.string() else ends
    data = pa.py_buffer(values[: int(ends[-1])])
    return pa.Array.from_buffers(kind, len(given), [valid, pa.py_buffer(offsets), data])


@cache
def _names(options: ReadOptions) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """Return the names of the fields as the kernel takes them."""
    names = [name.encode() for name in (options.text, options.id, options.source, "meta")]
    return np.frombuffer(b"".join(names), np.uint8), np.cumsum([0, *map(len, names)]).astype(np.uint64)
