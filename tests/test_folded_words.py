"""Folded words and runs of them against the same thing in plain Python."""

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st
from plain_words import run_hash, word_hash, words_of
from tamis.features.folded_words import folded_words

TEXTS = st.lists(
    st.text(max_size=40) | st.text("aAbB éÉﬁß.,_\n\u0301\u200b\u00ad字😀1", max_size=30) | st.none(), max_size=6
)


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
