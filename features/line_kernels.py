r"""What a document's lines and paragraphs add up to, as integers, for the rules of Gopher, C4 and FineWeb.

A line is what stands between two "\n". Lines are compared by 64-bit hashes of all their bytes, paragraphs by hashes of
their lines'. What few documents have (phrases, repeats) is only sought where a first look at the bytes allows it.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .phrase_kernels import JAVASCRIPT, LOREM_IPSUM, POLICY, find_phrases, may_hold_phrases
from .repeat_kernels import first_alike, slots_for
from .text_buffers import Bytes, Offsets
from .unicode_tables import KIND, TERMINAL
from .word_kernels import ONE, SEED, absorb, decode, join, mix64

SHORT_LINE_CHARS = 30
LONG_RUN_CHARS = 1000

LINE_COUNTS = (
    "n_lines",
    "n_text_lines",
    "n_bullet_lines",
    "n_ellipsis_lines",
    "n_terminal_punct_lines",
    "n_short_lines",
    "n_javascript_lines",
    "n_policy_lines",
    "n_lorem_ipsum_lines",
    "n_c4_lines",
    "max_run_length",
    "n_dup_lines",
    "n_dup_line_chars",
    "n_paragraphs",
    "n_dup_paragraphs",
    "n_dup_paragraph_chars",
)
"""The columns that `count_lines` writes."""
(
    _N_LINES,
    _N_TEXT_LINES,
    _N_BULLET_LINES,
    _N_ELLIPSIS_LINES,
    _N_TERMINAL_PUNCT_LINES,
    _N_SHORT_LINES,
    _N_JAVASCRIPT_LINES,
    _N_POLICY_LINES,
    _N_LOREM_IPSUM_LINES,
    _N_C4_LINES,
    _MAX_RUN_LENGTH,
    _N_DUP_LINES,
    _N_DUP_LINE_CHARS,
    _N_PARAGRAPHS,
    _N_DUP_PARAGRAPHS,
    _N_DUP_PARAGRAPH_CHARS,
) = range(len(LINE_COUNTS))

_2, _3, _8, _32 = np.uint64(2), np.uint64(3), np.uint64(8), np.uint64(32)
_ZERO = np.uint64(0)


@njit(nogil=True, cache=True)
def count_lines(
    offsets: Offsets,
    data: Bytes,
    classes: npt.NDArray[np.uint8],
    n_newlines: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> None:
    """Write one row a document, zeros before, in the order of `LINE_COUNTS`."""
    most = n_newlines.max() + 1 if len(n_newlines) else 0
    keys, starts = np.empty(most, np.uint64), np.empty(most + 1, np.uint64)
    slots = np.empty(slots_for(most), np.int32)
    for doc in range(len(offsets) - 1):
        used = slots[: slots_for(n_newlines[doc] + 1)]
        start, end = np.uint64(offsets[doc]), np.uint64(offsets[doc + 1])
        _count_lines(data, start, end, classes, keys, starts, used, counts[doc])
        start, end = _trim(data, start, end, classes)
        _count_paragraphs(data, start, end, keys, starts, used, counts[doc])


@njit(nogil=True, cache=True)
def _count_lines(
    data: Bytes,
    i: np.uint64,
    end: np.uint64,
    classes: npt.NDArray[np.uint8],
    keys: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.uint64],
    slots: npt.NDArray[np.int32],
    row: npt.NDArray[np.int64],
) -> None:
    """Count lines; leave in `keys` their hashes and in `starts` where they begin, and behind the last one's newline."""
    slots[:] = 0
    search = may_hold_phrases(data[i:end])
    n = 0
    while i < end:
        starts[n] = i
        i, n_chars, n_runs, longest_run = _scan_line(data, i, end, classes)
        keys[n] = _hash_bytes(data, starts[n], i)
        if n_runs:
            row[_N_TEXT_LINES] += 1
            row[_MAX_RUN_LENGTH] = max(row[_MAX_RUN_LENGTH], longest_run)
            row[_N_SHORT_LINES] += n_chars <= SHORT_LINE_CHARS
            row[_N_TERMINAL_PUNCT_LINES] += (classes[decode(data, _before(data, i))[0]] & TERMINAL) != 0
            first, stop = _trim(data, starts[n], i, classes)
            phrases = find_phrases(data, first, stop) if search and may_hold_phrases(data[first:stop]) else 0
            usable = n_runs >= 3 and longest_run <= LONG_RUN_CHARS and not phrases & (JAVASCRIPT | POLICY)
            _count_marks(data, first, stop, usable, row)
            _count_phrases(phrases, row)
            if first_alike(keys, n, slots) != n:
                row[_N_DUP_LINES] += 1
                row[_N_DUP_LINE_CHARS] += n_chars
        n += 1
        i += ONE
    row[_N_LINES] = n
    starts[n] = i


@njit(nogil=True, cache=True)
def _scan_line(
    data: Bytes, i: np.uint64, end: np.uint64, classes: npt.NDArray[np.uint8]
) -> tuple[np.uint64, int, int, int]:
    """Read to the next newline: its place, the code points before it, the runs without white space, and the longest."""
    n_chars, n_runs, run, longest_run = 0, 0, 0, 0
    while i < end and data[i] != 0x0A:
        code, i = decode(data, i)
        shows = (classes[code] & KIND) != 0
        n_chars += 1
        n_runs += shows & (run == 0)
        run = (run + 1) * shows
        longest_run = max(longest_run, run)
    return i, n_chars, n_runs, longest_run


@njit(nogil=True, cache=True)
def _hash_bytes(data: Bytes, i: np.uint64, end: np.uint64) -> np.uint64:
    """Return a hash of the bytes, eight at a time; each step can be undone, so none loses what was before it."""
    state = SEED ^ (end - i)
    while end - i >= _8:
        word = _ZERO
        for place in range(8):  # one instruction
            word |= np.uint64(data[i + np.uint64(place)]) << np.uint64(8 * place)
        state = absorb(state, word)
        state ^= state >> _32
        i += _8
    word = _ZERO
    while i < end:
        word = word << _8 | np.uint64(data[i])
        i += ONE
    return mix64(absorb(state, word))


@njit(nogil=True, cache=True)
def _trim(data: Bytes, start: np.uint64, end: np.uint64, classes: npt.NDArray[np.uint8]) -> tuple[np.uint64, np.uint64]:
    """Return where the text without white space at its ends begins and stops."""
    while start < end:
        code, after = decode(data, start)
        if classes[code] & KIND:
            break
        start = after
    while start < end and not classes[decode(data, _before(data, end))[0]] & KIND:
        end = _before(data, end)
    return start, end


@njit(nogil=True, cache=True)
def _before(data: Bytes, i: np.uint64) -> np.uint64:
    """Return the place of the code point before the one here."""
    i -= ONE
    while data[i] & 0xC0 == 0x80:
        i -= ONE
    return i


@njit(nogil=True, cache=True)
def _count_marks(data: Bytes, first: np.uint64, stop: np.uint64, usable: bool, row: npt.NDArray[np.int64]) -> None:
    """Count by the marks at both ends of the line without its outer white space."""
    row[_N_BULLET_LINES] += data[first] == 0x2D or _is_mark(data, first, stop, 0xA2)
    dots = stop - first >= _3 and data[stop - ONE] == 0x2E and data[stop - _2] == 0x2E and data[stop - _3] == 0x2E
    ellipsis = dots or (stop - first >= _3 and _is_mark(data, stop - _3, stop, 0xA6))
    row[_N_ELLIPSIS_LINES] += ellipsis
    row[_N_C4_LINES] += usable and not dots and _ends_for_c4(data[stop - ONE])


@njit(nogil=True, cache=True)
def _is_mark(data: Bytes, i: np.uint64, stop: np.uint64, third: int) -> bool:
    """Tell whether a code point of three bytes E2 80 .. stands here: U+2022 (third byte A2) or U+2026 (A6)."""
    return bool(stop - i >= _3 and data[i] == 0xE2 and data[i + ONE] == 0x80 and data[i + _2] == third)


@njit(nogil=True, cache=True)
def _ends_for_c4(byte: int) -> bool:
    return byte in (0x2E, 0x3F, 0x21, 0x22, 0x27)  # . ? ! " '


@njit(nogil=True, cache=True)
def _count_phrases(phrases: int, row: npt.NDArray[np.int64]) -> None:
    row[_N_JAVASCRIPT_LINES] += (phrases & JAVASCRIPT) != 0
    row[_N_POLICY_LINES] += (phrases & POLICY) != 0
    row[_N_LOREM_IPSUM_LINES] += (phrases & LOREM_IPSUM) != 0


@njit(nogil=True, cache=True)
def _count_paragraphs(
    data: Bytes,
    start: np.uint64,
    end: np.uint64,
    keys: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.uint64],
    slots: npt.NDArray[np.int32],
    row: npt.NDArray[np.int64],
) -> None:
    """Count what empty lines part, in the text without white space at its ends, and write over `keys`."""
    slots[:] = 0
    n, line, begin, state = 0, 0, start, SEED
    while start < end and starts[line + 1] <= start:
        line += 1
    while starts[line] < end and start < end:
        first, stop = max(starts[line], start), min(starts[line + 1] - ONE, end)
        whole = first == starts[line] and stop == starts[line + 1] - ONE
        state = join(state, keys[line] if whole else _hash_bytes(data, first, stop))
        line += 1
        if starts[line] >= end or starts[line + 1] - starts[line] == ONE:
            keys[n] = state
            if first_alike(keys, n, slots) != n:
                row[_N_DUP_PARAGRAPHS] += 1
                row[_N_DUP_PARAGRAPH_CHARS] += _count_chars(data[begin:stop])
            while starts[line] < end and starts[line + 1] - starts[line] == ONE:
                line += 1
            n, begin, state = n + 1, starts[line], SEED
    row[_N_PARAGRAPHS] = n


@njit(nogil=True, cache=True)
def _count_chars(text: Bytes) -> int:
    n = 0
    for byte in text:
        n += (byte & 0xC0) != 0x80
    return n
