"""A byte-level BPE tokenizer, learned from texts.

Bytes are the alphabet, therefore nothing is unknown and every text comes back as it was. `<|endoftext|>` stands between
documents, as the first token and the last. No text can spell it: a document that quotes it gets the tokens of its
letters, where a special token, as is usual, would cut the document in two. The split into words is GPT-2's. The merges
follow the counts of words alone, so not even the order of the texts matters.
Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909; bytes: Radford et al. 2019 (GPT-2).
"""

import json
from collections.abc import Callable, Iterable, Iterator

from tokenizers import Tokenizer

from ..storage.errors import ConfigError
from .stopping import stop_check

END = "<|endoftext|>"
END_ID = 0
SMALLEST = 257  # the bytes, and END


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Return a tokenizer of `vocabulary` tokens, fewer where the texts have no more pairs; END has the id 0.

    `to_str()` is all of it; `Tokenizer.from_str` makes it again. Raises ConfigError where the vocabulary is too small.
    """
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if vocabulary < SMALLEST:
        raise ConfigError(f"tokenizer: a vocabulary of {vocabulary:,} tokens, expected at least {SMALLEST}; raise it")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_watched(texts, stop_check()), trainer)
    learned = json.loads(tokenizer.to_str()) | {"added_tokens": []}  # END stays in the vocabulary of the model
    return Tokenizer.from_str(json.dumps(learned))


def _watched(texts: Iterable[str], check: Callable[[], None]) -> Iterator[str]:
    for text in texts:  # on a thread of the tokenizer's own
        check()
        yield text
