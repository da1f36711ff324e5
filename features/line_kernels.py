r"""What a document's lines and paragraphs add up to, as integers, for the rules of Gopher, C4 and FineWeb.

A line is what stands between two "\n". Lines and paragraphs are compared by 64-bit hashes of all their code points.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .phrase_kernels import JAVASCRIPT, LOREM_IPSUM, POLICY, find_phrases
from .repeat_kernels import first_alike, slots_for
from .text_buffers import Bytes, Offsets
from .unicode_tables import KIND, TERMINAL
from .word_kernels import ONE, SEED, absorb, decode, mix64

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

_2, _3 = np.uint64(2), np.uint64(3)


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
    keys = np.empty(most, np.uint64)
    slots = np.empty(slots_for(most), np.int32)
    for doc in range(len(offsets) - 1):
        used = slots[: slots_for(n_newlines[doc] + 1)]
        start, end = np.uint64(offsets[doc]), np.uint64(offsets[doc + 1])
        text_start, text_end = _count_lines(data, start, end, classes, keys, used, counts[doc])
        _count_paragraphs(data, text_start, text_end, keys, used, counts[doc])


@njit(nogil=True, cache=True)
def _count_lines(
    data: Bytes,
    i: np.uint64,
    end: np.uint64,
    classes: npt.NDArray[np.uint8],
    keys: npt.NDArray[np.uint64],
    slots: npt.NDArray[np.int32],
    row: npt.NDArray[np.int64],
) -> tuple[np.uint64, np.uint64]:
    """Count lines, and return where the text without white space at its ends begins and stops."""
    slots[:] = 0
    text_start, text_end = end, end
    n = 0
    while i < end:
        start = i
        i, n_chars, n_runs, longest_run, first, stop, last, keys[n] = _scan_line(data, start, end, classes)
        row[_N_LINES] += 1
        if n_runs:
            text_start = text_start if n else first
            text_end = stop
            row[_MAX_RUN_LENGTH] = max(row[_MAX_RUN_LENGTH], longest_run)
            row[_N_SHORT_LINES] += n_chars <= SHORT_LINE_CHARS
            row[_N_TERMINAL_PUNCT_LINES] += (classes[last] & TERMINAL) != 0
            phrases = find_phrases(data, first, stop)
            usable = n_runs >= 3 and longest_run <= LONG_RUN_CHARS and not phrases & (JAVASCRIPT | POLICY)
            _count_marks(data, first, stop, usable, row)
            _count_phrases(phrases, row)
            if first_alike(keys, n, slots) != n:
                row[_N_DUP_LINES] += 1
                row[_N_DUP_LINE_CHARS] += n_chars
            n += 1
        i += ONE
    row[_N_TEXT_LINES] = n
    return text_start, text_end


@njit(nogil=True, cache=True)
def _scan_line(
    data: Bytes, start: np.uint64, end: np.uint64, classes: npt.NDArray[np.uint8]
) -> tuple[np.uint64, int, int, int, np.uint64, np.uint64, np.uint64, np.uint64]:
    """Read to the next newline.

    Returns its place; the code points before it; the runs without white space, and the longest; where the first of them
    begins and the last stops; the last code point; and the hash of all.
    """
    n_chars, n_runs, run, longest_run = 0, 0, 0, 0
    i = first = stop = start
    code = np.uint64(0)
    state = SEED
    while i < end and data[i] != 0x0A:
        place = i
        code, i = decode(data, i)
        state = absorb(state, code)
        n_chars += 1
        if classes[code] & KIND:
            if run == 0:
                first = first if n_runs else place
                n_runs += 1
            run += 1
            longest_run = max(longest_run, run)
            stop = i
        else:
            run = 0
    return i, n_chars, n_runs, longest_run, first, stop, code, mix64(state)


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
    i: np.uint64,
    end: np.uint64,
    keys: npt.NDArray[np.uint64],
    slots: npt.NDArray[np.int32],
    row: npt.NDArray[np.int64],
) -> None:
    """Count what two or more newlines part. The text ends with a character that shows, so no paragraph is empty."""
    slots[:] = 0
    n, n_chars, state = 0, 0, SEED
    while i < end:
        state = absorb(state, data[i])
        n_chars += (data[i] & 0xC0) != 0x80
        i += ONE
        if i == end or (data[i] == 0x0A and data[i + ONE] == 0x0A):
            keys[n] = mix64(state)
            if first_alike(keys, n, slots) != n:
                row[_N_DUP_PARAGRAPHS] += 1
                row[_N_DUP_PARAGRAPH_CHARS] += n_chars
            n, n_chars, state = n + 1, 0, SEED
            while i < end and data[i] == 0x0A:
                i += ONE
    row[_N_PARAGRAPHS] = n
