"""TextStats against the same definitions in plain Python."""

import json
import re
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import reference_data
from tamis.features.phrase_kernels import PHRASES
from tamis.features.text_stats import TextStats
from tamis.features.unicode_tables import TERMINAL, unicode_tables

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
FRAGMENTS = st.sampled_from(
    [
        *("the", "The", "be", "to of", "with", "have", "that and", "a", "b", "c d"),
        *(" ", "\t", "\n", "\n\n", "\n\n\n", "\r\n", "\x85", "\0"),
        *("•", "- ", "-", "...", "…", ".", "?", "!", '"', "'", "。", "؟", "{", "#", "_"),
        *("１", "²", "é", "字", "😀", "\u0307", "x" * 31, "y" * 1001),
        *("JavaScript", "lorem  ipsum", "Lorem Ipsum", "Cookie policy", "use of cookies"),
        *("terms\nof use", "use\0cookies", "the end.\n", "again and again\n\n"),
        "one two three four five six seven eight nine ten eleven ",
    ]
)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=8), max_size=30).map("".join)


def batch_of(texts):
    return pa.record_batch({"text": pa.array(texts, pa.large_string())})


def rows_of(texts):
    result = TextStats().compute(batch_of(texts), None)
    assert result.schema == TextStats().columns
    return result.to_pylist()


def share(part, whole):
    return part / whole if whole else 0.0


def duplicates(elements):
    seen, n, chars = set(), 0, 0
    for element in elements:
        if element in seen:
            n, chars = n + 1, chars + len(element)
        seen.add(element)
    return n, chars


def top_chars(tokens, n):
    grams = Counter(" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
    return max(((len(gram) * times) for gram, times in grams.most_common(1)), default=0)


def duplicate_chars(tokens, n):
    seen, chars, i = set(), 0, 0
    while i < len(tokens) - n + 1:
        gram = tuple(tokens[i : i + n])
        if gram in seen:
            chars, i = chars + len("".join(gram)), i + n
        else:
            seen.add(gram)
            i += 1
    return chars


def ascii_lower(text):
    return text.encode().lower().decode()


def kept_by_c4(line):
    words, low = line.split(), ascii_lower(line)
    return (
        all(len(word) <= 1000 for word in words)
        and line.strip().endswith((".", "?", "!", '"', "'"))
        and not line.strip().endswith("...")
        and len(words) >= 3
        and "javascript" not in low
        and not any(phrase in low for phrase in POLICY)
    )


def n_marks(text):
    """Marks of punctuation, each for itself, but for one alone between two word characters."""
    return len(re.findall(r"[^\w\s]", text)) - len(re.findall(r"(?<=\w)[^\w\s](?=\w)", text))


def word_stats(text):
    tokens = re.findall(r"\w+|[^\w\s]+", text)
    words = re.findall(r"\w+", text)
    return {
        "n_chars": len(text),
        "n_bytes": len(text.encode()),
        "n_words": len(words),
        "n_stop_words": len(STOP_WORDS & set(words)),
        "max_word_length": max(map(len, words), default=0),
        "max_run_length": max(map(len, text.split()), default=0),
        "mean_word_length": share(sum(map(len, words)), len(words)),
        "alpha_word_share": share(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        "alpha_token_share": share(sum(any(map(str.isalpha, word)) for word in words), len(words) + n_marks(text)),
        "symbol_word_ratio": share(text.count("#"), len(words)),
        "ellipsis_word_ratio": share(text.count("...") + text.count("…"), len(words)),
        "newline_word_ratio": share(text.count("\n"), len(words)),
        **{f"top_{n}gram_char_share": share(top_chars(tokens, n), len(text)) for n in (2, 3, 4)},
        **{f"dup_{n}gram_char_share": share(duplicate_chars(tokens, n), len(text)) for n in range(5, 11)},
        "has_curly_bracket": "{" in text,
    }


def line_stats(text):
    lines = text.removesuffix("\n").split("\n") if text else []
    full = [line for line in lines if line.strip()]
    low = [ascii_lower(line) for line in full]
    classes = unicode_tables().classes
    n_dup_lines, dup_line_chars = duplicates(full)
    paragraphs = re.split(r"\n{2,}", text.strip())
    n_dup_paragraphs, dup_paragraph_chars = duplicates(paragraphs)
    return {
        "n_lines": len(lines),
        "n_javascript_lines": sum("javascript" in line for line in low),
        "n_policy_lines": sum(any(phrase in line for phrase in POLICY) for line in low),
        "n_c4_lines": sum(map(kept_by_c4, full)),
        "has_lorem_ipsum": "lorem ipsum" in ascii_lower(text),
        "bullet_line_share": share(sum(line.lstrip().startswith(("•", "-")) for line in lines), len(lines)),
        "ellipsis_line_share": share(sum(line.rstrip().endswith(("...", "…")) for line in lines), len(lines)),
        "terminal_punct_line_share": share(sum(bool(classes[ord(line[-1])] & TERMINAL) for line in full), len(full)),
        "short_line_share": share(sum(len(line) <= 30 for line in full), len(full)),
        "dup_line_share": share(n_dup_lines, len(full)),
        "dup_line_char_share": share(dup_line_chars, len(text)),
        "dup_line_char_share_fineweb": share(dup_line_chars, len(text.replace("\n", ""))),
        "dup_paragraph_share": share(n_dup_paragraphs, len(paragraphs)),
        "dup_paragraph_char_share": share(dup_paragraph_chars, len(text)),
    }


def expected(text):
    return word_stats(text) | line_stats(text)


@given(st.lists(TEXTS, max_size=3))
@example(["", " \n \n", "a b a b a b", "the", "x\n\n \n\nx\n\n \n\ny", "- \n•\n …", "...... . ..."])
@settings(deadline=None)
def test_the_kernels_count_what_python_counts(texts):
    assert rows_of(texts) == [expected(text) for text in texts]


def test_real_documents():
    with reference_data("goldens/inputs/raw.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines if line.strip()]
    assert rows_of(texts) == [expected(text) for text in texts]


@given(st.lists(TEXTS, max_size=4), st.data())
@settings(deadline=None)
def test_a_row_depends_on_its_text_alone(texts, data):
    start = data.draw(st.integers(0, len(texts)))
    part = TextStats().compute(batch_of(["x\n", *texts]).slice(1 + start), None)
    assert part.to_pylist() == rows_of(texts)[start:]


def test_long_repeats():
    text = "one two three four five six seven\n" * 2000 + "\n\nit ends.\n\nit ends."
    assert rows_of([text]) == [expected(text)]


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        ("the THE be, have_", "n_stop_words", 2),
        ("• a\n - b\nc", "bullet_line_share", 2 / 3),
        ("Don't (3.14 well-known.)", "alpha_token_share", 4 / 9),
        ("wait... what… no", "ellipsis_word_ratio", 2 / 3),
        ("a\na\n\n a", "dup_line_share", 1 / 3),
        ("p\n\np\n\nq", "dup_paragraph_share", 1 / 3),
        ("a b a b c", "top_2gram_char_share", 6 / 9),
        ("1 2 3 4 5 1 2 3 4 5", "dup_5gram_char_share", 5 / 19),
        ("यह है।\nनहीं", "terminal_punct_line_share", 1 / 2),
        ("It is here.[1]\nIt is there.", "n_c4_lines", 1),
        ("See our Privacy Policy now.", "n_c4_lines", 0),
    ],
)
def test_by_hand(text, column, value):
    assert rows_of([text])[0][column] == value


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_is_found_at_both_ends_of_a_line_and_in_any_case(phrase):
    found = ("n_javascript_lines", "n_policy_lines", "has_lorem_ipsum")
    texts = [phrase, phrase.upper(), f"see {phrase}\n", f"\n{phrase} is", f"{phrase[:-1]} {phrase[1:]}"]
    assert [sum(row[name] for name in found) for row in rows_of(texts)] == [1, 1, 1, 1, 0]


def test_no_documents():
    assert rows_of([]) == []
