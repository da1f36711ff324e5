"""The texts by whose losses choices are compared: of each target, and of the pool, which tells what a choice narrows.

Those of the pool are a random sample of all of it, whoever chose them, and no training sees one of these texts, or of
the targets': every document with such a text is left out of every choice. So the sample does not depend on which
choices are compared. (Near copies are the business of `decontaminate`.) Of a long text only the beginning is taken, or
a loss would be that of a few documents.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..features.packing import Ids, Packing, Position
from ..selectors.keyed import uniform
from ..storage.documents import doc_key, text_hashes
from ..storage.errors import ConfigError
from ..storage.fingerprint import fingerprint
from ..storage.shards import Mask, Shard
from ..storage.survivors import MASKS_KEPT, Survivors
from .proxy_model import Proxy

TOKENS_A_TEXT = 64
"""What a document of the pool is taken to have at least, when they are sampled."""
MOST_OF_POOL = 0.1
"""Share of its documents."""


@dataclass(frozen=True)
class HeldOut:
    """Sequences that losses are taken of."""

    sequences: tuple[Ids, ...]
    texts: tuple[str, ...]
    """Those that they have the beginnings of."""
    digest: str

    @property
    def n_tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(map(len, self.sequences))


def held_out_of_targets(proxy: Proxy, targets: Mapping[str, Sequence[str]]) -> dict[str, HeldOut]:
    """Return sequences of each target's texts, in an order that follows these alone. Raises ConfigError."""
    key = proxy.settings.key("target texts")
    found = {}
    for name, texts in targets.items():
        numbers = uniform(np.array([doc_key(text) for text in texts], np.uint64), key)
        found[name] = _held_out(proxy, [texts[i] for i in np.argsort(numbers, kind="stable")])
        if not found[name].sequences:
            raise ConfigError(
                f"target {name}: its {len(texts):,} texts that are held out have no two tokens to take losses of; "
                "raise its `holdout`, or compare by other targets"
            )
    return found


def held_out_of_pool(proxy: Proxy, pool: Survivors) -> HeldOut:
    """Return sequences of a random sample of the pool. Raises ConfigError where there are none."""
    n = min(proxy.settings.held_out_tokens // TOKENS_A_TEXT, int(MOST_OF_POOL * pool.n_documents))
    found = _held_out(proxy, _keyed_texts(pool, proxy.settings.key("pool texts"), max(1, n)))
    if not found.sequences:
        raise ConfigError(f"the pool's {pool.n_documents:,} documents have no text to take losses of; compare others")
    return found


def without_texts(choices: Iterable[Survivors], held_out: Iterable[HeldOut]) -> list[Survivors]:
    """Return choices without the documents that have one of the texts, under whatever id."""
    texts = pa.array([text for part in held_out for text in part.texts], pa.large_string())
    hashes = pa.array(text_hashes(texts), pa.binary(16))

    @lru_cache(MASKS_KEPT)
    def others(shard: Shard) -> Mask:
        found: Mask = ~pc.is_in(shard.read_column("text_hash"), hashes).to_numpy(zero_copy_only=False)
        return found

    return [choice.narrowed(others) for choice in choices]


def _held_out(proxy: Proxy, texts: Sequence[str]) -> HeldOut:
    """Return the beginnings of texts, end to end, until there are tokens enough."""
    most = proxy.context - len(proxy.begin)
    encoded = [(text, ids[:most]) for text, ids in zip(texts, _encoded(proxy, texts), strict=True) if len(ids)]
    heads = [ids for _, ids in encoded]
    packing = Packing(lambda first: heads[first:], proxy.context, proxy.settings.held_out_tokens, proxy.begin)
    packed = list(packing(Position()))
    sequences = tuple(ids for ids, _ in packed)
    end = packed[-1][1] if packed else Position()
    n_texts = end.document + (end.offset > 0)
    return HeldOut(
        sequences, tuple(text for text, _ in encoded[:n_texts]), fingerprint([ids.tolist() for ids in sequences])
    )


def _encoded(proxy: Proxy, texts: Sequence[str]) -> list[Ids]:
    encodings = proxy.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(one.ids, np.int64) for one in encodings]


def _keyed_texts(survivors: Survivors, key: int, n: int) -> list[str]:
    """Return the texts with the n smallest keyed numbers, in their order."""
    places: list[tuple[float, int, int]] = []
    for number, shard in enumerate(survivors.shards):
        rows = np.flatnonzero(survivors.mask(shard))
        numbers = uniform(shard.read_column("doc_key").to_numpy()[rows], key)
        smallest = np.argsort(numbers, kind="stable")[:n]
        found = zip(numbers[smallest].tolist(), rows[smallest].tolist(), strict=True)
        places = sorted([*places, *((of_row, number, row) for of_row, row in found)])[:n]
    texts: dict[tuple[int, int], str] = {}
    for number, shard in enumerate(survivors.shards):
        texts |= {(number, row): text for row, text in _texts(shard, [r for _, s, r in places if s == number])}
    return [texts[number, row] for _, number, row in places]


def _texts(shard: Shard, rows: Sequence[int]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for group, (start, n) in enumerate(shard.row_groups):
        inside = sorted(row for row in rows if start <= row < start + n)
        if inside:
            column: Any = shard.read_group(group, ["text"]).column("text")
            texts = column.take(pa.array([row - start for row in inside])).to_pylist()
            found += zip(inside, (text or "" for text in texts), strict=True)
    return found
