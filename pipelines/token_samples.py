"""The documents that a model is trained on, as token ids: a keyed random sample of the pool, or a whole target.

The sample is the documents with the smallest keyed numbers until there are as many tokens as are wanted: the same for
any shards, workers and order of files. The first of them, some tokens, are held out. A training reads the others in
pieces, in a keyed order that is another in each pass: one document of 400,000 tokens, read through, would make a small
model forget the rest (the held-out loss of `tiny` rose by 0.3 nats).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from ..selectors.keyed import uniform
from ..storage.shards import Shard
from ..storage.survivors import Survivors
from ..storage.token_files import TOKENS, TokenFile, publish_tokens
from .measuring import documents_in
from .runs import Stage
from .work import Maps

BYTES_A_TOKEN = 5
"""What a sample is first taken to need; it is made again, twice as large, where that was too few."""
HELD_OUT_AT_MOST = 0.1
ALL = 2.0
"""Above every keyed number."""

Ids = npt.NDArray[np.int64]

PIECE = 1_024
"""Tokens of a piece."""
_NEXT_PIECE = np.uint64(0x9E3779B97F4A7C15)
"""What the keys of a document's pieces differ by."""

Keys = Callable[[int], int]
"""The key of the random numbers of a pass."""


@dataclass(frozen=True)
class TokenSample:
    """Tokenised documents: those that are held out, and the pieces of those that are trained on."""

    file: TokenFile
    key: int
    """Of the sample."""
    passes: Keys
    begin: tuple[int, ...]
    """Tokens that come before each document."""
    wanted: int | None
    """Tokens of the sample at least, if there are as many; None: all."""
    most_held_out: int
    """Tokens; at most a tenth of what there is is taken."""

    @cached_property
    def n_documents(self) -> int:
        """How many documents are trained on."""
        return len(self._sample) - self.n_held_out

    @property
    def n_held_out(self) -> int:
        """How many documents are held out."""
        return int(self._is_held_out.sum())

    @cached_property
    def n_tokens(self) -> int:
        """Tokens of one pass over them, what documents begin with included."""
        return int(self._sizes[self._trained].sum())

    def held_out(self, start: int) -> Iterator[Ids]:
        """Yield the token ids of the held-out documents from a number on."""
        return (self._ids(document, 0, None) for document in self._sample[self._is_held_out][start:].tolist())

    def pieces(self, start: int) -> Iterator[Ids]:
        """Yield the token ids of the pieces from a number on, pass after pass without an end."""
        document, offset, key = self._pieces
        while len(document):
            passed, at = divmod(start, len(document))
            for piece in np.lexsort((key, uniform(key, self.passes(passed))))[at:].tolist():
                yield self._ids(document[piece], offset[piece], PIECE)
            start = (passed + 1) * len(document)

    def _ids(self, document: int, offset: int, most: int | None) -> Ids:
        ids = self.file[document][offset : None if most is None else offset + most].astype(np.int64)
        return ids if offset else np.concatenate([np.array(self.begin, np.int64), ids])

    @cached_property
    def _sizes(self) -> Ids:
        return self.file.lengths + len(self.begin)

    @cached_property
    def _sample(self) -> Ids:
        """The numbers of the documents in the order of the sample: as many as are wanted, whatever the file has."""
        keys = self.file.doc_keys
        order: Ids = np.lexsort((keys, uniform(keys, self.key)))
        if self.wanted is None:
            return order
        return order[: int(np.searchsorted(np.cumsum(self._sizes[order]), self.wanted)) + 1]

    @cached_property
    def _is_held_out(self) -> npt.NDArray[np.bool_]:
        """Which of the sample are held out: the first that fit; one document alone may be too large."""
        sizes = self._sizes[self._sample]
        most = min(self.most_held_out, int(HELD_OUT_AT_MOST * sizes.sum()))
        fits = sizes <= most
        held_out: npt.NDArray[np.bool_] = fits & (np.cumsum(np.where(fits, sizes, 0)) <= most)
        return held_out

    @property
    def _trained(self) -> Ids:
        return self._sample[~self._is_held_out]

    @cached_property
    def _pieces(self) -> tuple[Ids, Ids, npt.NDArray[np.uint64]]:
        """Return the document, the first token and the key of each piece."""
        trained = self._trained
        n_pieces = np.maximum(1, -(-self.file.lengths[trained] // PIECE))
        number = np.arange(n_pieces.sum()) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
        document = np.repeat(trained, n_pieces)
        return document, number * PIECE, self.file.doc_keys[document] + number.astype(np.uint64) * _NEXT_PIECE


def read_tokens(
    maps: Maps, survivors: Survivors, tokenizer: Tokenizer, key: int, wanted: int | None, path: Path, stage: Stage,
    cut: int | None = None,
) -> TokenFile:  # fmt: skip
    """Return a file of documents with the smallest keyed numbers that have at least `wanted` tokens; None: of all.

    It has fewer where there are no more documents. With `cut`, pieces of so many bytes take the place of documents.
    """
    sample = _Sample(survivors, key, cut)
    if path.exists() and _is_enough(found := TokenFile(path), wanted, sample):
        stage.reused = 1
        return found
    n_bytes = None if wanted is None else BYTES_A_TOKEN * wanted
    while True:
        limited = sample if n_bytes is None else sample.limited(n_bytes)
        publish_tokens(path, _batches(maps, stage.name, limited, tokenizer), maps.lake.scratch)
        stage.computed += 1
        if _is_enough(found := TokenFile(path), wanted, sample):
            return found
        assert n_bytes is not None  # all documents are enough
        n_bytes *= 2


def sampled_texts(
    maps: Maps, name: str, survivors: Survivors, key: int, n_bytes: int, cut: int | None = None
) -> Iterator[str]:
    """Yield the texts with the smallest keyed numbers, of so many bytes together, shard after shard."""
    sample = _Sample(survivors, key, cut).limited(n_bytes)
    for batch in maps.map(name, sample.read, sample.items(), documents_in):
        yield from batch.column("text").to_pylist()


def _is_enough(file: TokenFile, wanted: int | None, sample: "_Sample") -> bool:
    return (wanted is not None and int(file.lengths.sum()) >= wanted) or len(file) == sample.n


@dataclass(frozen=True)
class _Sample:
    """Documents, or pieces of them, with keyed numbers up to a limit."""

    survivors: Survivors
    key: int
    cut: int | None
    limit: float = ALL

    @property
    def n(self) -> int:
        """How many documents or pieces there are, whatever the limit."""
        if self.cut is None:
            return self.survivors.n_documents
        return sum(len(self._places(shard)[0]) for shard in self.survivors.shards)

    def limited(self, n_bytes: int) -> "_Sample":
        """Return those with the smallest numbers that have at least so many bytes; memory is the sample's."""
        numbers, sizes = np.empty(0), np.empty(0, np.int64)
        limit = ALL
        for shard in self.survivors.shards:
            *_, found, of_found = self._places(shard)
            numbers, sizes = np.concatenate([numbers, found]), np.concatenate([sizes, of_found])
            order = np.argsort(numbers, kind="stable")
            n = int(np.searchsorted(np.cumsum(sizes[order]), n_bytes)) + 1
            numbers, sizes, is_all = numbers[order[:n]], sizes[order[:n]], n > len(order)
            limit = ALL if is_all else float(numbers[-1])
        return replace(self, limit=limit)

    def items(self) -> list[tuple[Shard, int]]:
        """Return the row groups that have documents of the sample."""
        found = []
        for shard in self.survivors.shards:
            row, _, number, _ = self._places(shard)
            wanted = np.zeros(shard.rows, np.bool_)
            wanted[row[number <= self.limit]] = True
            groups = enumerate(shard.row_groups)
            found += [(shard, group) for group, (start, n) in groups if wanted[start : start + n].any()]
        return found

    def read(self, item: tuple[Shard, int]) -> pa.RecordBatch:
        """Return what of the sample is in one row group: doc_key and text."""
        shard, group = item
        start, n = shard.row_groups[group]
        row, piece, number, _ = self._places(shard)
        wanted = (row >= start) & (row < start + n) & (number <= self.limit)
        rows, of_row = np.unique(row[wanted], return_inverse=True)
        batch = shard.read_group(group, ["doc_key", "text"]).take(pa.array(rows - start))
        texts = [text or "" for text in batch.column("text").to_pylist()]
        if self.cut is not None:
            texts = list(_cut(texts, of_row.tolist(), piece[wanted].tolist(), self.cut))
        keys = batch.column("doc_key").to_numpy()[of_row] + piece[wanted].astype(np.uint64) * _NEXT_PIECE
        return pa.record_batch({"doc_key": keys, "text": pa.array(texts, pa.large_string())})

    def _places(self, shard: Shard) -> tuple[Ids, Ids, npt.NDArray[np.float64], Ids]:
        """Return the row, the number within it, the keyed number and the bytes of each document or piece."""
        row = np.flatnonzero(self.survivors.mask(shard))
        size = shard.read_column("n_bytes").to_numpy()[row]
        doc_key = shard.read_column("doc_key").to_numpy()[row]
        if self.cut is None:
            return row, np.zeros_like(row), uniform(doc_key, self.key), size
        n_pieces = np.maximum(1, -(-size // self.cut))
        piece = np.arange(n_pieces.sum()) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
        row, size, doc_key = (np.repeat(of_document, n_pieces) for of_document in (row, size, doc_key))
        number = uniform(doc_key + piece.astype(np.uint64) * _NEXT_PIECE, self.key)
        return row, piece, number, np.minimum(self.cut, size - piece * self.cut)


def _cut(texts: list[str], of_text: list[int], pieces: list[int], cut: int) -> Iterator[str]:
    """Yield pieces of texts, each between multiples of `cut` bytes, without the characters that these cut in two."""
    encoded = [text.encode() for text in texts]
    for text, piece in zip(of_text, pieces, strict=True):
        yield encoded[text][piece * cut : (piece + 1) * cut].decode(errors="ignore")


def _batches(maps: Maps, name: str, sample: _Sample, tokenizer: Tokenizer) -> Iterator[pa.RecordBatch]:
    """Yield the documents of the sample as token ids."""

    def tokenised(item: tuple[Shard, int]) -> pa.RecordBatch:
        batch = sample.read(item)
        texts = batch.column("text").to_pylist()
        ids = [np.array(one.ids, np.uint32) for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        offsets = np.cumsum([0, *map(len, ids)])
        values = np.concatenate(ids) if ids else np.empty(0, np.uint32)
        lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values, pa.uint32()))
        return pa.record_batch([batch.column("doc_key"), lists], schema=TOKENS)

    return maps.map(name, tokenised, sample.items(), documents_in)
