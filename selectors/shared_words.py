"""Where in a text the words of an evaluation document stand: what decontamination found, to be looked at.

The rule is that of `decontamination`, in plain Python for one pair of texts.
"""

import re

from ..features.folding import BREAK, SKIP, fold_table

_PUNCTUATION = re.compile(r"[^\w\s]+")
Span = tuple[int, int]


def shared_words(text: str, evaluation: str, words: int, min_words: int) -> list[Span]:
    """Return the pieces of a text, in characters, that an evaluation document has too; each has `words` words or more.

    A shorter evaluation document, of at least `min_words` words, is looked for as a whole.
    """
    known: set[tuple[str, ...]] = set()
    for reading in (evaluation, _PUNCTUATION.sub("", evaluation)):
        found = [word for word, _ in folded_words(reading)]
        n = min(words, len(found))
        if n >= min(words, min_words) and n:
            known |= {tuple(found[at : at + n]) for at in range(len(found) - n + 1)}
    mine = folded_words(text)
    spans: list[Span] = []
    for size in {len(run) for run in known}:
        for at in range(len(mine) - size + 1):
            if tuple(word for word, _ in mine[at : at + size]) in known:
                spans.append((mine[at][1][0], mine[at + size - 1][1][1]))
    return _united(sorted(spans))


def folded_words(text: str) -> list[tuple[str, Span]]:
    """Return the words that texts are compared by, and where each stands."""
    table, found = fold_table(), []
    letters: list[str] = []
    start = end = 0
    for place, character in enumerate(f"{text}\n"):
        letter = int(table[ord(character)])
        if letter > SKIP:
            start = place if not letters else start
            end = place + 1
            letters.append(chr(letter))
        elif letter == BREAK and letters:
            found.append(("".join(letters), (start, end)))
            letters = []
    return found


def _united(spans: list[Span]) -> list[Span]:
    """Join overlapping pieces of an ascending list."""
    found: list[Span] = []
    for start, end in spans:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
