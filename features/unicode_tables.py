r"""What every code point is, as flat tables that the kernels index: Python's own answer, at an array's speed.

The tokens of this package are those of `re.findall(r"\w+|[^\w\s]+", text)`, and only Python's tables give Python's
tokens: the third-party `regex` engine's `\w` differs at some 30,000 code points (combining marks, superscripts). The
tables are therefore read from this interpreter, in 60 ms from whole strings, and take 5.3 MB once a process. They
change with `unicodedata.unidata_version`, which every feature that uses them names in its `identity`.
"""

import re
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

N_CODE_POINTS = 0x110000

KIND = 3
"""Mask of a code point's kind: 0 is white space (`\\s`), else one of the two below."""
WORD = 1
"""Kind of `\\w`: `str.isalnum()` or the underscore."""
MARK = 2
"""Kind of everything else, `[^\\w\\s]`: punctuation, symbols, combining marks."""
ALPHA = 4
"""Bit of `str.isalpha()`."""
DIGIT = 8
"""Bit of `str.isdigit()`."""
TERMINAL = 16
"""Bit of Unicode's property Sentence_Terminal: the marks that end a sentence in any script."""

#: PropList.txt of Unicode 15, Sentence_Terminal; the standard library does not carry it. First and last of each range.
_SENTENCE_TERMINAL = """
21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D5 17D6
17D9 17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E
2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57
FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD
111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944 11946
11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F 1DA88
"""


class UnicodeTables(NamedTuple):
    """One entry a code point; the arrays are read-only."""

    classes: npt.NDArray[np.uint8]
    """The kind (`classes & KIND`) and the bits ALPHA, DIGIT and TERMINAL."""
    lower: npt.NDArray[np.int32]
    """The code point of `str.lower()`.

    Two code points have none: U+0130 lowers to two, and U+03A3 to one of two by its place in the word. The table leaves
    the first as it is and gives the non-final sigma for the second; who needs them exactly lowers such texts in Python.
    """
    ascii: npt.NDArray[np.uint16]
    """Of the first 128 code points both: the class, and `lower` from bit 8 on."""


@cache
def unicode_tables() -> UnicodeTables:
    """Return the tables of this interpreter."""
    text = _every_code_point()
    classes = np.full(N_CODE_POINTS, MARK, np.uint8)
    for match in re.finditer(r"\w+", text):
        classes[match.start() : match.end()] = WORD
    for match in re.finditer(r"\s+", text):
        classes[match.start() : match.end()] = 0
    word = np.flatnonzero(classes == WORD)
    characters = [chr(code) for code in word]
    classes[word] |= np.fromiter(map(str.isalpha, characters), np.uint8, len(word)) * np.uint8(ALPHA)
    classes[word] |= np.fromiter(map(str.isdigit, characters), np.uint8, len(word)) * np.uint8(DIGIT)
    classes[_sentence_terminal()] |= TERMINAL
    lower = _code_points(text.replace("\u0130", "\0").replace("\u03a3", "\u03c3").lower())
    lower[0x130] = 0x130
    ascii = (classes[:128] | lower[:128] << 8).astype(np.uint16)
    for array in (classes, lower, ascii):
        array.setflags(write=False)
    return UnicodeTables(classes, lower, ascii)


def _every_code_point() -> str:
    return np.arange(N_CODE_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")


def _code_points(text: str) -> npt.NDArray[np.int32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<i4").astype(np.int32)


def _sentence_terminal() -> list[int]:
    spans = [[int(end, 16) for end in span.split("-")] for span in _SENTENCE_TERMINAL.split()]
    return [code for span in spans for code in range(span[0], span[-1] + 1)]
