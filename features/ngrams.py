r"""Hashed n-grams of words: which of B buckets each n-gram of a document falls into, in text order.

These are DSIR's features (Xie et al. 2023, https://arxiv.org/abs/2302.03169) before they are counted: lower-cased
tokens `\w+|[^\w\s]+`, all orders 1..n in the same buckets. Kept in order instead of counted, the same ids serve a
document's counts and any window of its words.

`hash: fast` is this package's own 64-bit hash, 430 MB/s a core. `hash: sha256` gives the official code's buckets, 60 to
80 MB/s, for those who must reproduce its numbers.

The lake keeps the ids of sha256. For 122 MB of text with 10,000 buckets they are made in 1.6 s, written in 0.75 s and
read in 0.14 s, so they pay in the first run, which needs them twice; another target is then scored in 0.2 instead of
1.8 s. They take 64 MB, where the text takes 46 MB. The ids of `fast` are not kept: 0.39 s make them again (0.42 s with
2^18 buckets), the reading of the text included, which is no longer than writing them. Who scores several targets on one
pool may say `keep_ids: always`, and pays 0.14 s (0.23 s) a target.
"""

import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.errors import ConfigError
from .base import Feature
from .memo_kernels import UInt64s, empty_memo
from .ngram_kernels import BLOCK_BYTES, MAX_BUCKETS, fill_ids
from .sha256_gram_kernels import fill_sha256_ids, scratch
from .sha256_kernels import modulus
from .text_buffers import text_buffers
from .unicode_tables import unicode_tables
from .word_kernels import lowers_by_context

MAX_NGRAMS = 16
_MEMO_SLOTS = 1 << 18  # 8 MB: from 2^15 to 2^21 slots the speed changes by 15%


@dataclass(frozen=True)
class NGrams(Feature):
    """Hash every n-gram of 1 to `ngrams` words into one of `buckets`.

    The column `ids` lists, for each word, the gram of one word, then the gram of two words that ends there, and so on
    as far as the text goes back: `ngrams` ids a word, but fewer for the first ones.
    """

    name: ClassVar[str] = "ngrams"
    version: ClassVar[int] = 1
    no_numbers: ClassVar[tuple[str, ...]] = ("keep_ids",)

    ngrams: int = 2
    """Runs of 1 to so many words are hashed."""
    buckets: int = 10_000
    """Into so many buckets, of all orders together."""
    hash: Literal["fast", "sha256"] = "fast"
    """sha256: the buckets of the official DSIR package, five times slower."""
    keep_ids: Literal["auto", "always", "never"] = "auto"
    """Whether the lake keeps the ids, for the next pass or target; auto: those of sha256."""

    def __post_init__(self) -> None:
        _check("ngrams", self.ngrams, MAX_NGRAMS)
        _check("buckets", self.buckets, MAX_BUCKETS)
        if self.hash not in ("fast", "sha256"):
            raise ConfigError(f"ngrams: hash is {self.hash!r}, expected fast or sha256.")
        if self.keep_ids not in ("auto", "always", "never"):
            raise ConfigError(f"ngrams: keep_ids is {self.keep_ids!r}, expected auto, always or never.")

    @property
    def stored(self) -> bool:
        """Ids of SHA-256 unless told otherwise: they take ten times as long to make as to read."""
        return self.keep_ids == "always" or (self.keep_ids == "auto" and self.hash == "sha256")

    @property
    def columns(self) -> pa.Schema:
        """One list a document, of uint16 where the buckets allow it."""
        return pa.schema([pa.field("ids", pa.large_list(pa.from_numpy_dtype(self._dtype)), nullable=False)])

    def identity(self) -> dict[str, Any]:
        """Return the version of the Unicode tables that split and lower the text."""
        return {"unicode": unicodedata.unidata_version}

    def load(self, device: str = "cpu") -> UInt64s:
        """Return the memo of SHA-256 buckets, which threads may share; `hash: fast` needs none."""
        return empty_memo(_MEMO_SLOTS if self.hash == "sha256" else 1)

    def compute(self, batch: pa.RecordBatch, model: UInt64s | None = None) -> pa.RecordBatch:
        """Return the column `ids`; a text without tokens has an empty list."""
        offsets, data = text_buffers(_lowered_where_context_decides(batch.column("text")))
        # A token has at least one byte. Pages that no id reaches are never touched, so the room costs addresses only.
        ids = np.empty(int(offsets[-1] - offsets[0]) * self.ngrams, self._dtype)
        ends = np.zeros(len(offsets), np.int64)
        if self.hash == "sha256":
            longest = int(np.diff(offsets).max(initial=0))
            memo = self.load() if model is None else model
            room = scratch(longest, self.ngrams)
            fill_sha256_ids(offsets, data, unicode_tables(), modulus(self.buckets), memo, room, ids, ends)
        else:
            states, grams = np.empty(BLOCK_BYTES + 1, np.uint64), np.empty(self.ngrams, np.uint64)
            fill_ids(offsets, data, unicode_tables(), self.buckets, states, grams, ids, ends)
        values = pa.array(ids[: ends[-1]])
        lists = pa.LargeListArray.from_arrays(pa.array(ends), values, type=self.columns.field("ids").type)
        return pa.record_batch([lists], schema=self.columns)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.buckets <= 1 << 16 else np.uint32)


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
