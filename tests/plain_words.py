"""Folded words and the hashes of their runs in plain Python."""

from tamis.features.folding import BREAK, SKIP, fold_table

U64 = (1 << 64) - 1
BASE = 0xD1342543DE82EF95


def mix64(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & U64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & U64
    return x ^ x >> 31


def words_of(text):
    """The folded words as strings."""
    letters = [int(fold_table()[ord(c)]) for c in text]
    folded = "".join(" " if letter == BREAK else chr(letter) for letter in letters if letter != SKIP)
    return [word for word in folded.split(" ") if word]


def word_hash(word):
    state = 0x9E3779B97F4A7C15
    for letter in word:
        state = (state ^ ord(letter)) * 0xD6E8FEB86659FD93 & U64
    return mix64(state)


def run_hash(words):
    total = 0
    for word in words:
        total = (total * BASE + word_hash(word)) & U64
    return mix64(total)
