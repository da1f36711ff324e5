"""The tokenizer: every text comes back, no text spells END, and the same texts give the same tokenizer."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tamis.features.byte_bpe import END, END_ID, SMALLEST, train_tokenizer
from tamis.features.stopping import Stopped, end_with
from tamis.storage.errors import ConfigError
from tokenizers import Tokenizer

TEXTS = ["the river is in the mountain\n" * 20, "def f(x):\n    return x  # the river", "Größe, 東京, عربى 🙂"] * 3
TOKENIZER = train_tokenizer(TEXTS, 300)
UTF8 = st.text(st.characters(codec="utf-8"))


@given(st.one_of(UTF8, st.lists(st.sampled_from([END, "the river", " ", "\n", "🙂", "\0"])).map("".join)))
def test_every_text_comes_back(text):
    ids = TOKENIZER.encode(text).ids
    assert TOKENIZER.decode(ids) == text
    assert END_ID not in ids


def test_it_learns_words_and_has_one_end():
    assert TOKENIZER.get_vocab_size() == 300
    assert len(TOKENIZER.encode("the river is in the mountain").ids) < 12
    assert TOKENIZER.token_to_id(END) == END_ID
    assert TOKENIZER.encode("").ids == []


def test_stored_it_is_the_same():
    again = Tokenizer.from_str(TOKENIZER.to_str())
    assert again.to_str() == TOKENIZER.to_str()
    assert again.encode(f"the{END}river").ids == TOKENIZER.encode(f"the{END}river").ids


def test_the_same_texts_give_the_same_tokenizer_in_any_process_and_order():
    code = f"from tamis.features.byte_bpe import train_tokenizer; print(train_tokenizer({TEXTS!r}, 300).to_str())"
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "PYTHONUTF8": "1"}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=root, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert printed.stdout.strip() == TOKENIZER.to_str()
    assert train_tokenizer(TEXTS[::-1], 300).to_str() == TOKENIZER.to_str()


def test_few_texts_give_fewer_tokens():
    assert train_tokenizer([], 1_000).get_vocab_size() == SMALLEST
    assert len(train_tokenizer(["ab"], SMALLEST).encode("ab").ids) == 2


def test_a_vocabulary_without_room_for_the_bytes_is_an_error():
    with pytest.raises(ConfigError, match="256 tokens, expected at least 257"):
        train_tokenizer(TEXTS, 256)


def test_it_stops_when_asked():
    asked = Event()
    asked.set()
    end_with(asked)
    try:
        with pytest.raises(Stopped):
            train_tokenizer(TEXTS, 300)
    finally:
        end_with(None)
