"""How many tokens a document has: the unit of every token budget.

`words` needs no model and runs at memory speed; a tokenizer counts what training will see, a hundred times slower. The
count is of the document alone, without the special tokens that a trainer adds.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from ..storage.errors import ConfigError
from .base import Feature
from .text_buffers import slices, text_buffers
from .unicode_tables import unicode_tables
from .word_kernels import count_words

_EXPECTED = "words, bytes, the path of a tokenizer.json, or a name on the Hugging Face Hub"


@dataclass(frozen=True)
class Tokens(Feature):
    r"""Count tokens: `words` (matches of `\w+|[^\w\s]+`), `bytes` (UTF-8), or a tokenizer's (a file or a Hub name)."""

    name: ClassVar[str] = "tokens"
    version: ClassVar[int] = 1

    tokenizer: str = "words"
    """words, bytes, the path of a tokenizer.json, or a name on the Hugging Face Hub."""

    @property
    def columns(self) -> pa.Schema:
        """One column, `n_tokens`."""
        return pa.schema([pa.field("n_tokens", pa.int64(), nullable=False)])

    def identity(self) -> dict[str, Any]:
        """Return the tokenizer's digest, or the version of the Unicode tables that split words.

        Raises ConfigError where there is no such tokenizer.
        """
        if self.tokenizer == "bytes":
            return {}
        if self.tokenizer == "words":
            return {"unicode": unicodedata.unidata_version}
        return {"tokenizer": hashlib.sha256(self._tokenizer().to_str().encode()).hexdigest()}

    def load(self, device: str = "cpu") -> Tokenizer | None:
        """Return the tokenizer, without truncation and padding; None for words and bytes. Raises ConfigError."""
        return None if self.tokenizer in ("words", "bytes") else self._tokenizer()

    def compute(self, batch: pa.RecordBatch, model: Tokenizer | None = None) -> pa.RecordBatch:
        """Return the column `n_tokens`."""
        text = batch.column("text")
        offsets, data = text_buffers(text)
        if self.tokenizer == "bytes":
            counts = np.diff(offsets)
        elif self.tokenizer == "words":
            counts = np.empty(len(text), np.int64)
            count_words(offsets, data, unicode_tables().classes, counts)
        else:
            counts = _count(text, offsets, self._tokenizer() if model is None else model)
        return pa.record_batch([pa.array(counts, pa.int64())], schema=self.columns)

    def _tokenizer(self) -> Tokenizer:
        path = Path(self.tokenizer)
        if path.is_file():
            stat = path.stat()
            return _from_file(self.tokenizer, stat.st_mtime_ns, stat.st_size)
        if path.suffix == ".json" or path.is_absolute():
            raise ConfigError(f"tokenizer: there is no file {self.tokenizer!r}, expected {_EXPECTED}.")
        return _from_hub(self.tokenizer)


def _count(text: pa.Array, offsets: npt.NDArray[np.int64], tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    counts = np.empty(len(text), np.int64)
    for start, stop in slices(offsets):
        texts = [one or "" for one in text.slice(start, stop - start).to_pylist()]
        counts[start:stop] = [
            len(encoding) for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ]
    return counts


@lru_cache(maxsize=4)
def _from_file(path: str, mtime_ns: int, n_bytes: int) -> Tokenizer:
    try:
        return _whole(Tokenizer.from_file(path))
    except Exception as error:
        raise ConfigError(f"tokenizer: {path!r} is not a tokenizer.json ({error}), expected {_EXPECTED}.") from error


@lru_cache(maxsize=4)
def _from_hub(name: str) -> Tokenizer:
    try:
        return _whole(Tokenizer.from_pretrained(name))
    except Exception as error:
        raise ConfigError(f"tokenizer: {name!r} is not to be had ({error}), expected {_EXPECTED}.") from error


def _whole(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer with nothing that cuts or fills: a tokenizer.json may carry a model's own maximum length."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
