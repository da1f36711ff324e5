"""Tokens: counts against `re`, `len` and the tokenizers library, and errors that say what was expected."""

import json
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tamis.features.tokens import Tokens
from tamis.storage.errors import ConfigError
from tokenizers import Tokenizer, models, pre_tokenizers, processors

TEXTS = st.lists(st.text(max_size=80), max_size=5)


def batch_of(texts):
    return pa.record_batch({"text": pa.array(texts, pa.large_string())})


def counts_of(feature, texts):
    result = feature.compute(batch_of(texts), feature.load())
    assert result.schema == feature.columns
    return result.column("n_tokens").to_pylist()


@pytest.fixture
def tokenizer(tmp_path):
    vocabulary = {"[UNK]": 0, "[BOS]": 1, "[PAD]": 2, "a": 3, "b": 4}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 1)])
    made.enable_truncation(4)
    made.enable_padding(length=8, pad_id=2, pad_token="[PAD]")
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    return path


@given(TEXTS)
@settings(deadline=None)
def test_words_are_those_of_re(texts):
    assert counts_of(Tokens(), texts) == [len(re.findall(r"\w+|[^\w\s]+", text)) for text in texts]


@given(TEXTS)
def test_bytes_are_those_of_utf8(texts):
    assert counts_of(Tokens("bytes"), texts) == [len(text.encode()) for text in texts]


@pytest.mark.parametrize("name", ["words", "bytes"])
def test_a_slice_counts_its_own_rows(name):
    batch = batch_of(["é a", "b, c", "", "d"])
    assert Tokens(name).compute(batch.slice(1, 2)).column("n_tokens").to_pylist() == counts_of(
        Tokens(name), ["b, c", ""]
    )


def test_a_tokenizer_file_counts_without_special_tokens_truncation_and_padding(tokenizer):
    assert counts_of(Tokens(str(tokenizer)), ["a b c a b c", "", "a"]) == [6, 0, 1]


def test_slices_of_documents_change_nothing(tokenizer):
    texts = ["a " * (i % 5) for i in range(3000)] + ["b " * 600_000, "a"]
    assert counts_of(Tokens(str(tokenizer)), texts) == [i % 5 for i in range(3000)] + [600_000, 1]


def test_identity_follows_the_tokenizer(tokenizer):
    before = Tokens(str(tokenizer)).identity()
    content = json.loads(tokenizer.read_text())
    content["model"]["vocab"]["ccc"] = 5
    tokenizer.write_text(json.dumps(content))
    assert Tokens(str(tokenizer)).identity() != before
    assert set(Tokens().identity()) == {"unicode"}
    assert Tokens("bytes").identity() == {}


def test_a_missing_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no file .*missing\.json.* expected words, bytes, the path of a tokenizer"):
        Tokens(str(tmp_path / "missing.json")).load()


def test_another_json_file_is_a_configuration_error(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"is not a tokenizer\.json .* expected words, bytes"):
        Tokens(str(path)).load()


def test_an_impossible_hub_name_is_a_configuration_error():
    with pytest.raises(ConfigError, match=r"'-no name-' is not to be had .* expected words, bytes"):
        Tokens("-no name-").identity()
