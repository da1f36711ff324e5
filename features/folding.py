r"""What two texts are compared by when a copy is looked for: words without case, accents, width and invisible marks.

A word is a run of `\w`. Combining marks and format characters (soft hyphen, zero-width space) stand in no word and end
none; a letter counts as the base letter of its compatibility decomposition, in the lower case of its upper case. So
composed and decomposed text, an upper-cased copy and one with zero-width characters inside its words are the same
words. Only single letters are mapped: `ß` is not `SS`, a ligature not its letters. Scripts that put no space between
words, such as Chinese, have a word from one mark to the next: a clause. One table lookup a code point; the table takes
4.5 MB and 0.3 s once a process, and changes with `unicodedata.unidata_version`.
"""

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

from .unicode_tables import KIND, N_CODE_POINTS, WORD, unicode_tables

BREAK = 0
"""Entry of what stands between words."""
SKIP = 1
"""Entry of what is passed over, within words and between them."""

FoldTable = npt.NDArray[np.int32]


@cache
def fold_table() -> FoldTable:
    """Return for each code point the one it counts as, or BREAK or SKIP; read-only."""
    table = np.full(N_CODE_POINTS, BREAK, np.int32)
    for code in np.flatnonzero(unicode_tables().classes & KIND == WORD).tolist():
        table[code] = _folded(chr(code))
    skipped = [code for code in range(N_CODE_POINTS) if _passed_over(chr(code))]
    table[skipped] = SKIP
    table.setflags(write=False)
    return table


def _folded(letter: str) -> int:
    base = "".join(c for c in unicodedata.normalize("NFKD", letter) if not _passed_over(c))
    if not base:
        return SKIP  # the half-width voiced sound marks are letters that decompose into a mark
    letter = base if len(base) == 1 and (base.isalnum() or base == "_") else letter
    upper = letter.upper()
    lower = (upper if len(upper) == 1 else letter).lower()
    return ord(lower) if len(lower) == 1 else ord(letter)


def _passed_over(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "M" or category == "Cf"
