"""NGrams: the official DSIR buckets with `hash: sha256`, and the fast hash against the same thing in plain Python."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import reference_data
from tamis.features.ngram_kernels import BLOCK_BYTES
from tamis.features.ngrams import NGrams
from tamis.features.unicode_tables import ALPHA, DIGIT, KIND, MARK, WORD, unicode_tables
from tamis.storage.errors import ConfigError

TOKEN = re.compile(r"\w+|[^\w\s]+")
U64 = (1 << 64) - 1
TEXTS = st.lists(
    st.text(max_size=60) | st.text("aAbB İΣσςß.,!_ \n\u0307\u0301é字😀\x1c\x85\u2028²½", max_size=40), max_size=6
)


def batch_of(texts):
    return pa.record_batch({"text": pa.array(texts, pa.large_string())})


def ids_of(feature, texts):
    return feature.compute(batch_of(texts), feature.load()).column("ids").to_pylist()


def mix64(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & U64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & U64
    return x ^ x >> 31


def token_hash(token):
    state = 0x9E3779B97F4A7C15
    for character in token:
        state = (state ^ ord(character)) * 0xD6E8FEB86659FD93 & U64
    return mix64(state)


def gram_hash(tokens):
    gram = token_hash(tokens[0])
    for token in tokens[1:]:
        gram = mix64((gram * 0x9FB21C651E98DF25 + token_hash(token)) & U64)
    return gram


def reference_ids(text, n, buckets):
    words = TOKEN.findall(text.lower())
    ends = [words[max(0, i + 1 - n) : i + 1] for i in range(len(words))]
    return [(gram_hash(g[-m:]) >> 24) * buckets >> 40 for g in ends for m in range(1, len(g) + 1)]


def golden_texts(name):
    with reference_data(f"goldens/inputs/{name}").open(encoding="utf-8") as lines:
        return {record["id"]: record["text"] for record in map(json.loads, filter(str.strip, lines))}


def test_classes_are_those_of_re():
    tables = unicode_tables()
    text = "".join(map(chr, range(0x110000)))
    kinds = np.full(0x110000, MARK)
    kinds[[ord(c) for c in re.findall(r"\w", text)]] = WORD
    kinds[[ord(c) for c in re.findall(r"\s", text)]] = 0
    assert np.array_equal(tables.classes & KIND, kinds)
    assert np.array_equal(np.flatnonzero(tables.classes & ALPHA), [i for i, c in enumerate(text) if c.isalpha()])
    assert np.array_equal(np.flatnonzero(tables.classes & DIGIT), [i for i, c in enumerate(text) if c.isdigit()])


def test_lower_is_that_of_str():
    classes, lower, ascii = unicode_tables()
    differing = [i for i in range(0x110000) if chr(i).lower() != chr(lower[i])]
    assert differing == [0x130]
    assert np.array_equal(lower[lower], lower)
    assert np.array_equal(classes[lower] & KIND, classes & KIND)
    assert np.array_equal(ascii, classes[:128] + 256 * lower[:128])


@given(TEXTS, st.integers(1, 5), st.sampled_from([1, 997, 10_000, 1 << 16, 1 << 20]))
@example(["ΟΔΟΣ ΟΣ", "İstanbul", "Σ", "plain"], 2, 10_000)
@settings(deadline=None)
def test_the_kernel_hashes_what_re_finds(texts, n, buckets):
    assert ids_of(NGrams(ngrams=n, buckets=buckets), texts) == [reference_ids(text, n, buckets) for text in texts]


def test_every_code_point_between_letters():
    texts = ["".join(f"a{chr(i)}b {chr(i)} " for i in range(k, k + 256)) for k in range(0, 0x20000, 256)]
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    assert ids_of(NGrams(1, 1 << 24), texts) == [reference_ids(text, 1, 1 << 24) for text in texts]


@pytest.mark.parametrize("shift", range(6))
@pytest.mark.parametrize("unit", ["é字 a", "word, ", "x", " ", "😀b "])
def test_texts_longer_than_a_block(unit, shift):
    """Tokens, white space and characters of several bytes lie across the border of a block."""
    texts = ["." * shift + unit * (2 * BLOCK_BYTES // len(unit.encode()) + 3), "a b", unit * 2]
    assert ids_of(NGrams(3, 10_000), texts) == [reference_ids(text, 3, 10_000) for text in texts]


def test_the_fast_hash_is_a_format():
    assert ids_of(NGrams(3, 10_000), ["Alice went  home, ÉTÉ!"]) == [
        [1772, 9391, 8789, 4164, 1705, 1782, 6153, 3745, 7796, 6738, 4335, 7855, 7505, 1949, 2600]
    ]


def test_grams_keep_order_and_borders():
    [[a, b, ab], [b2, a2, ba], [joined]] = ids_of(NGrams(2, 1 << 24), ["a b", "b a", "ab"])
    assert (a, b) == (a2, b2)
    assert len({a, b, ab, ba, joined}) == 5


@given(TEXTS, st.integers(1, 3), st.data())
@settings(deadline=None)
def test_a_row_depends_on_its_text_alone(texts, n, data):
    feature = NGrams(n)
    whole = feature.compute(batch_of(texts)).column("ids").to_pylist()
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    part = batch_of(["x", *texts]).slice(1 + start, stop - start)
    assert feature.compute(part).column("ids").to_pylist() == whole[start:stop]


@pytest.mark.parametrize("hash", ["fast", "sha256"])
def test_texts_without_tokens_have_no_ids(hash):
    feature = NGrams(hash=hash)
    assert ids_of(feature, ["", " \n", "a", ""]) == [[], [], ids_of(feature, ["a"])[0], []]
    assert ids_of(feature, []) == []


@pytest.mark.parametrize("hash", ["fast", "sha256"])
@pytest.mark.parametrize(("buckets", "type_"), [(1 << 16, pa.uint16()), ((1 << 16) + 1, pa.uint32())])
def test_ids_are_as_narrow_as_the_buckets_allow(hash, buckets, type_):
    feature = NGrams(1, buckets, hash)
    assert feature.compute(batch_of(["a b"])).schema == feature.columns
    assert feature.columns.field("ids").type.value_type == type_


def test_buckets_are_hit_evenly():
    text = " ".join(f"word{i} w{i * 7919}" for i in range(50_000))
    ids = np.concatenate([NGrams(2, 1000).compute(batch_of([text])).column("ids").values.to_numpy()])
    counts = np.bincount(ids, minlength=1000)
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert abs(chi_square - 999) < 5 * np.sqrt(2 * 999)


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"ngrams": 0}, "ngrams is 0"),
        ({"buckets": 0}, "buckets is 0"),
        ({"buckets": 1 << 25}, "16,777,216"),
        ({"hash": "md5"}, "md5"),
    ],
)
def test_parameters_are_checked(parameters, wrong):
    with pytest.raises(ConfigError, match=wrong):
        NGrams(**parameters)


def test_sha256_gives_the_official_buckets():
    for name, vectors in json.loads(reference_data("goldens/dsir/hash_vectors.json").read_text()).items():
        buckets = int(name.removeprefix("num_buckets_"))
        grams = list(vectors)
        n = max(len(gram.split(" ")) for gram in grams)
        ids = ids_of(NGrams(n, buckets, "sha256"), grams)
        assert [one[-1] for one in ids] == list(vectors.values())


def test_tokens_are_the_official_ones():
    texts = golden_texts("raw.jsonl") | golden_texts("target.jsonl")
    for doc_id, tokens in json.loads(reference_data("goldens/dsir/tokens_wordpunct_lower.json").read_text()).items():
        assert ids_of(NGrams(1, 1 << 24), [texts[doc_id]]) == [[gram_hash([t]) >> 40 for t in tokens]]


@pytest.mark.parametrize(
    ("file", "n", "buckets"),
    [
        ("counts_n1_b1024_first60raw", 1, 1024),
        ("counts_n2_b10000", 2, 10_000),
        ("counts_n3_b50000_first60raw", 3, 50_000),
    ],
)
def test_sha256_gives_the_official_counts(file, n, buckets):
    table = pq.read_table(reference_data(f"goldens/dsir/{file}.parquet"))
    texts = golden_texts("raw.jsonl") | golden_texts("target.jsonl")
    expected = {}
    for doc_id, bucket, count in zip(*(column.to_pylist() for column in table.columns), strict=True):
        expected.setdefault(doc_id, {})[bucket] = count
    ids = ids_of(NGrams(n, buckets, "sha256"), [texts[doc_id] for doc_id in expected])
    for one, counts in zip(ids, expected.values(), strict=True):
        assert {b: c for b, c in enumerate(np.bincount(one).tolist()) if c} == counts
