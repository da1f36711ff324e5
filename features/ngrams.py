r"""Hashed n-grams of words: which of B buckets each n-gram of a document falls into, in text order.

These are DSIR's features (Xie et al. 2023, https://arxiv.org/abs/2302.03169) before they are counted: lower-cased
tokens `\w+|[^\w\s]+`, all orders 1..n in the same buckets. Kept in order instead of counted, the same ids serve a
document's counts and any window of its words. They are never stored: hashing again (280 MB/s a core) is cheaper than
reading them.

`hash: fast` is this package's own 64-bit hash. `hash: sha256` gives the official code's buckets, eighty times slower,
for those who must reproduce its numbers.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.errors import ConfigError
from .base import Feature
from .ngram_kernels import MAX_BUCKETS, fill_ids
from .text_buffers import text_buffers
from .unicode_tables import unicode_tables
from .word_kernels import lowers_by_context

MAX_NGRAMS = 16
_MEMO_GRAMS = 1 << 20
_TOKEN = re.compile(r"\w+|[^\w\s]+")

Memo = dict[str, int]


@dataclass(frozen=True)
class NGrams(Feature):
    """Hash every n-gram of 1 to `ngrams` words into one of `buckets`.

    The column `ids` lists, for each word, the gram of one word, then the gram of two words that ends there, and so on
    as far as the text goes back: `ngrams` ids a word, but fewer for the first ones.
    """

    name: ClassVar[str] = "ngrams"
    version: ClassVar[int] = 1
    stored: ClassVar[bool] = False

    ngrams: int = 2
    buckets: int = 10_000
    hash: Literal["fast", "sha256"] = "fast"

    def __post_init__(self) -> None:
        _check("ngrams", self.ngrams, MAX_NGRAMS)
        _check("buckets", self.buckets, MAX_BUCKETS)
        if self.hash not in ("fast", "sha256"):
            raise ConfigError(f"ngrams: hash is {self.hash!r}, expected fast or sha256.")

    @property
    def columns(self) -> pa.Schema:
        """One list a document, of uint16 where the buckets allow it."""
        return pa.schema([pa.field("ids", pa.large_list(pa.from_numpy_dtype(self._dtype)), nullable=False)])

    def identity(self) -> dict[str, Any]:
        """Return the version of the Unicode tables that split and lower the text."""
        return {"unicode": unicodedata.unidata_version}

    def load(self, device: str = "cpu") -> Memo:
        """Return an empty memo of SHA-256 buckets (`hash: sha256` fills it)."""
        return {}

    def compute(self, batch: pa.RecordBatch, model: Memo | None = None) -> pa.RecordBatch:
        """Return the column `ids`; a text without tokens has an empty list."""
        text = batch.column("text")
        if self.hash == "sha256":
            ends, ids = self._sha256(text, {} if model is None else model)
        else:
            ends, ids = self._fast(text)
        lists = pa.LargeListArray.from_arrays(pa.array(ends), pa.array(ids), type=self.columns.field("ids").type)
        return pa.record_batch([lists], schema=self.columns)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.buckets <= 1 << 16 else np.uint32)

    def _fast(self, text: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        offsets, data = text_buffers(_lowered_where_context_decides(text))
        tables = unicode_tables()
        # A token has at least one byte. Pages that no id reaches are never touched, so the room costs addresses only.
        ids = np.empty(int(offsets[-1] - offsets[0]) * self.ngrams, self._dtype)
        ends = np.zeros(len(offsets), np.int64)
        scratch = np.empty(self.ngrams, np.uint64)
        fill_ids(offsets, data, tables.classes, tables.lower, self.buckets, scratch, ids, ends)
        return ends, ids[: ends[-1]]

    def _sha256(self, text: pa.Array, memo: Memo) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        ids = [self._sha256_ids(one, memo) for one in text.to_pylist()]
        ends = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        return ends, np.fromiter((bucket for one in ids for bucket in one), self._dtype, int(ends[-1]))

    def _sha256_ids(self, text: str | None, memo: Memo) -> list[int]:
        words = _TOKEN.findall((text or "").lower())
        ids = []
        for end in range(1, len(words) + 1):
            for start in range(end - 1, max(-1, end - 1 - self.ngrams), -1):
                gram = " ".join(words[start:end])
                bucket = memo.get(gram)
                if bucket is None:
                    bucket = int.from_bytes(hashlib.sha256(gram.encode()).digest(), "big") % self.buckets
                    if len(memo) < _MEMO_GRAMS:
                        memo[gram] = bucket
                ids.append(bucket)
        return ids


def _check(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ConfigError(f"ngrams: {name} is {value}, expected a whole number from 1 to {most:,}.")


def _lowered_where_context_decides(text: pa.Array) -> pa.Array:
    """Return the column with the few texts lowered in Python that the kernel's table cannot lower alone.

    The kernel may lower them once more: its table leaves lower-cased text as it is.
    """
    offsets, data = text_buffers(text)
    found = np.zeros(len(text), np.bool_)
    if not lowers_by_context(offsets, data, found):
        return text
    lowered = [text[row].as_py().lower() for row in np.flatnonzero(found).tolist()]
    texts = text.cast(pa.large_string())
    return pc.replace_with_mask(texts, pa.array(found), pa.array(lowered, pa.large_string()))
