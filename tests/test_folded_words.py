"""Folded words and runs of them against the same thing in plain Python."""

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st
from tamis.features.folded_words import folded_words
from tamis.features.folding import BREAK, SKIP, fold_table

U64 = (1 << 64) - 1
BASE = 0xD1342543DE82EF95
TEXTS = st.lists(
    st.text(max_size=40) | st.text("aAbB éÉﬁß.,_\n\u0301\u200b\u00ad字😀1", max_size=30) | st.none(), max_size=6
)


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


def per_text(words):
    return [words.hashes[a:b].tolist() for a, b in zip(words.ends[:-1], words.ends[1:], strict=True)]


@given(TEXTS, st.integers(1, 6))
@example(["a b c a b c a", "", "x", None, "A\u0301 b"], 3)
def test_words_and_runs(texts, n):
    found = folded_words(pa.array(texts, pa.large_string()))
    expected = [words_of(text or "") for text in texts]
    assert per_text(found) == [[word_hash(word) for word in words] for words in expected]
    runs = [[run_hash(w[i : i + n]) for i in range(len(w) - n + 1)] for w in expected]
    assert per_text(found.runs(n)) == runs


def test_copies_that_differ_in_case_marks_and_width_have_the_same_words():
    texts = ["Déjà vu, twice", "DE\u0301JA\u0300  VU (twice)", "de\u200bja vu\ntwi\u00adce"]
    first, *others = per_text(folded_words(pa.array(texts)))
    assert len(first) == 3 and others == [first, first]


def test_a_slice_has_its_own_words():
    text = pa.array(["a b", "c", "", "d e f"])
    assert per_text(folded_words(text[1:])) == per_text(folded_words(text))[1:]
    assert per_text(folded_words(text[:0])) == []


def test_the_order_of_words_counts():
    runs = folded_words(pa.array(["a b", "b a", "ab", "a b"])).runs(2)
    (forth,), (back,), none, (again,) = per_text(runs)
    assert forth == again != back and none == []
