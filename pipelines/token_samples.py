"""The documents that a model is trained on, as token ids: a keyed random sample of the pool, or a whole target.

The sample is the documents with the smallest keyed numbers until there are as many tokens as are wanted: the same for
any shards, workers and order of files. The first of them, some tokens, are held out. A training reads the others in
pieces, in a keyed order that is another in each pass: one document of 400,000 tokens, read through, would make a small
model forget the rest (the held-out loss of `tiny` rose by 0.3 nats).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
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
    maps: Maps, survivors: Survivors, tokenizer: Tokenizer, key: int, wanted: int | None, path: Path, stage: Stage
) -> TokenFile:
    """Return a file of documents with the smallest keyed numbers that have at least `wanted` tokens; None: of all.

    It has fewer where there are no more documents.
    """
    if path.exists() and _is_enough(found := TokenFile(path), wanted, survivors):
        stage.reused = 1
        return found
    n_bytes = None if wanted is None else BYTES_A_TOKEN * wanted
    while True:
        limit = ALL if n_bytes is None else _limit(survivors, key, n_bytes)
        publish_tokens(path, _batches(maps, stage.name, survivors, tokenizer, key, limit), maps.lake.scratch)
        stage.computed += 1
        if _is_enough(found := TokenFile(path), wanted, survivors):
            return found
        assert n_bytes is not None  # all documents are enough
        n_bytes *= 2


def sampled_texts(maps: Maps, name: str, survivors: Survivors, key: int, n_bytes: int) -> Iterator[str]:
    """Yield the texts with the smallest keyed numbers, of so many bytes together, shard after shard."""
    limit = _limit(survivors, key, n_bytes)
    read = partial(_read, survivors, key, limit)
    for batch in maps.map(name, read, _items(survivors, key, limit), documents_in):
        yield from (text or "" for text in batch.column("text").to_pylist())


def _is_enough(file: TokenFile, wanted: int | None, survivors: Survivors) -> bool:
    return len(file) == survivors.n_documents or (wanted is not None and int(file.lengths.sum()) >= wanted)


def _limit(survivors: Survivors, key: int, n_bytes: int) -> float:
    """Return the keyed number up to which documents have at least so many bytes; memory is the sample's."""
    numbers, sizes = np.empty(0), np.empty(0, np.int64)
    for shard in survivors.shards:
        found, inside = _numbers(survivors, shard, key)
        numbers = np.concatenate([numbers, found[inside]])
        sizes = np.concatenate([sizes, shard.read_column("n_bytes").to_numpy()[inside]])
        order = np.argsort(numbers, kind="stable")
        n = int(np.searchsorted(np.cumsum(sizes[order]), n_bytes)) + 1
        numbers, sizes, is_all = numbers[order[:n]], sizes[order[:n]], n > len(order)
    return ALL if not len(numbers) or is_all else float(numbers[-1])


def _numbers(survivors: Survivors, shard: Shard, key: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    return uniform(shard.read_column("doc_key").to_numpy(), key), survivors.mask(shard)


def _items(survivors: Survivors, key: int, limit: float) -> list[tuple[Shard, int]]:
    """Return the row groups that have documents of the sample."""
    found = []
    for shard in survivors.shards:
        numbers, inside = _numbers(survivors, shard, key)
        wanted = inside & (numbers <= limit)
        groups = enumerate(shard.row_groups)
        found += [(shard, group) for group, (start, n) in groups if wanted[start : start + n].any()]
    return found


def _read(survivors: Survivors, key: int, limit: float, item: tuple[Shard, int]) -> pa.RecordBatch:
    """Return the documents of the sample in one row group: doc_key and text."""
    shard, group = item
    start, n = shard.row_groups[group]
    batch = shard.read_group(group, ["doc_key", "text"])
    inside = survivors.mask(shard)[start : start + n]
    return batch.filter(pa.array(inside & (uniform(batch.column("doc_key").to_numpy(), key) <= limit)))


def _batches(
    maps: Maps, name: str, survivors: Survivors, tokenizer: Tokenizer, key: int, limit: float
) -> Iterator[pa.RecordBatch]:
    """Yield the documents of the sample as token ids."""

    def tokenised(item: tuple[Shard, int]) -> pa.RecordBatch:
        batch = _read(survivors, key, limit, item)
        texts = [text or "" for text in batch.column("text").to_pylist()]
        ids = [np.array(one.ids, np.uint32) for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        offsets = np.cumsum([0, *map(len, ids)])
        values = np.concatenate(ids) if ids else np.empty(0, np.uint32)
        lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values, pa.uint32()))
        return pa.record_batch([batch.column("doc_key"), lists], schema=TOKENS)

    return maps.map(name, tokenised, _items(survivors, key, limit), documents_in)
