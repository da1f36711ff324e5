"""Documents as token ids: which tokenizer, which end token, which type, and one row group at a time.

The Rust tokenizer encodes in batches and lets go of the interpreter lock, so row groups on threads keep all cores busy.
No text can spell a special token here: a document that quotes `<|endoftext|>` gets the tokens of its letters, where a
tokenizer, as is usual, would cut the document in two.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from ..features.byte_bpe import END
from ..features.stopping import stop_check
from ..features.text_buffers import slices, text_buffers
from ..features.tokens import Tokens
from ..storage.errors import ConfigError
from .outputs import TOKENS, Output
from .plugins import make_tokens

VERSION = 1
"""Raised when the same documents and tokenizer give other files."""
_NAMED = 12
"""Tokens that an error names at most."""


@dataclass(frozen=True)
class Encoder:
    """How texts become token ids."""

    name: str
    tokenizer: Tokenizer
    digest: str
    """Of the tokenizer."""
    end: int
    dtype: str
    text: str
    """The tokenizer as a tokenizer.json."""

    @property
    def recipe(self) -> dict[str, Any]:
        """Return what its ids are made by."""
        return {"version": VERSION, "tokenizer": self.digest, "end": self.end, "dtype": self.dtype}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes; a tokenizer alone forgets there that no text spells a special token."""
        return _travelled, (self.name, self.digest, self.end, self.dtype, self.text)

    def encode(self, text: pa.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Return the ids of all documents, each with the end token after it, and how many each has."""
        pieces, lengths = [np.empty(0, self.dtype)], [np.empty(0, np.int64)]
        check = stop_check()
        for start, stop in slices(text_buffers(text)[0]):
            check()
            texts = [one or "" for one in text.slice(start, stop - start).to_pylist()]
            encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            ends = np.cumsum([len(encoding) + 1 for encoding in encodings])
            ids = np.full(ends[-1], self.end, self.dtype)
            for encoding, end in zip(encodings, ends.tolist(), strict=True):
                ids[end - 1 - len(encoding) : end - 1] = encoding.ids
            pieces.append(ids)
            lengths.append(np.diff(ends, prepend=0))
        return np.concatenate(pieces), np.concatenate(lengths)


def make_encoder(output: Output, default: Tokens, root: Path) -> Encoder:
    """Return what encodes texts for an output; `default` is the flow's tokenizer. Raises ConfigError."""
    place = f"outputs: format {output.format}"
    feature = default if output.tokenizer is None else make_tokens(output.tokenizer, root)
    loaded = feature.load()
    if loaded is None:
        raise ConfigError(
            f"{place}: {feature.tokenizer!r} only counts, expected `tokenizer`: the path of a tokenizer.json, "
            "or a name on the Hugging Face Hub"
        )
    tokenizer = _plain(loaded.to_str())  # the other is shared with what counts tokens
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    end = _end(output.end, tokenizer, vocabulary, place)
    spelt = tokenizer.decode([end], skip_special_tokens=False)
    if end in tokenizer.encode(spelt, add_special_tokens=False).ids:
        raise ConfigError(
            f"{place}: `end` is {spelt!r}, which a text can spell with this tokenizer; expected a special token"
        )
    largest = max([end, *vocabulary.values()])
    narrow, wide = TOKENS[output.format]
    dtype: str = output.dtype or "auto"
    if dtype == "auto":
        dtype = narrow if largest <= np.iinfo(narrow).max else wide
    if largest > np.iinfo(dtype).max:
        raise ConfigError(f"{place}: the tokenizer has the id {largest:,}, which {dtype} cannot hold; set `dtype`")
    return Encoder(feature.tokenizer, tokenizer, str(feature.identity()["tokenizer"]), end, dtype, loaded.to_str())


def _plain(text: str) -> Tokenizer:
    """Return the tokenizer with which no text spells a special token."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _travelled(name: str, digest: str, end: int, dtype: str, text: str) -> Encoder:
    return Encoder(name, _plain(text), digest, end, dtype, text)


def _end(given: int | str | None, tokenizer: Tokenizer, vocabulary: dict[str, int], place: str) -> int:
    """Return the id of the token that follows each document."""
    if isinstance(given, int):
        if not 0 <= given <= max(vocabulary.values()):
            raise ConfigError(f"{place}: `end` is {given}, expected an id from 0 to {max(vocabulary.values()):,}")
        return given
    token = END if given is None else given
    if token not in vocabulary:
        special = [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special][:_NAMED]
        raise ConfigError(
            f"{place}: the tokenizer has no token {token!r}; set `end` to one that it has or its id"
            + (f": {', '.join(special)}" if special else "")
        )
    return vocabulary[token]
