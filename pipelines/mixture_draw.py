"""The draw of a mixture: which documents stand in it, and how often.

A share of N tokens that is asked for A gets A // N whole passes and, of the rest, the longest prefix of its documents
in a keyed order that fits: the shared cut, a group a share. So asked and achieved differ by less than one document, no
document of a share stands more than once more often than another, and a larger budget only adds.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.budget import Cut, CutRule, Part, make_cut
from ..selectors.keyed import uniform
from ..storage.draws import DRAW, draw_file
from ..storage.shards import Shard
from .measuring import tokens_of
from .mixture_entries import Mixture
from .mixture_parts import Int64s, Owned, Place, Pool, Share
from .mixture_shares import Supply, asked_of, epochs_of, merge, sums, supply
from .runs import Stage
from .work import Work

RULE = {
    "id": "a document (the same corpus and id) that several parts have belongs to the first of them in the list",
    "text": "of documents with the same text one stays: of the first part in the list that has any, the smallest key",
}
"""By `dedup`: whose a document is that several parts have. It stands in the manifest and on the card."""


@dataclass
class _Total:
    """What stands in the mixture of each source of each part, and in which shards the documents are."""

    documents: Counter[Share] = field(default_factory=Counter)
    copies: Counter[Share] = field(default_factory=Counter)
    tokens: Counter[Share] = field(default_factory=Counter)
    shards: dict[str, int] = field(default_factory=dict)
    n_bytes: int = 0
    meta_bytes: int = 0

    def add(self, place: Place, owned: Owned, times: Int64s, n_tokens: Int64s) -> None:
        self.documents.update(sums(owned, times > 0))
        self.copies.update(sums(owned, times))
        self.tokens.update(sums(owned, times * n_tokens))
        self.shards[f"{place.corpus}/{place.shard.digest}"] = int((times > 0).sum())
        self.n_bytes += int((place.shard.read_column("n_bytes").to_numpy()[owned.row] * times).sum())
        meta = pc.binary_length(place.shard.read_column("meta")).fill_null(0).to_numpy()
        self.meta_bytes += int((meta[owned.row].astype(np.int64) * times).sum())


def draw(
    work: Work, name: str, entry: Mixture, pool: Pool, key: str, recipe: Mapping[str, Any], stage: Stage
) -> dict[str, Any]:
    """Publish the drawn documents, and the manifest with what was asked and achieved; return it."""
    found = supply(work, name, pool)
    asked = asked_of(entry, found.available(entry))
    times = _times(work, name, entry, pool, found.available(entry), {share: most for share, (_, most) in asked.items()})

    def drawn(place: Place) -> tuple[Place, Int64s, pa.Table]:
        number = times(place)
        return place, number, _table(work, name, key, pool, place, number)

    total = _Total()
    for place, number, table in work.map(f"draw {name}", drawn, pool.places, lambda place: place.shard.rows):
        stage.computed += 1
        owned = pool.owned(place)
        if table.num_rows:
            total.add(place, owned, number, tokens_of(work, place.shard, owned.row))
            work.lake.publish_table(draw_file(work.lake, key, place.corpus, place.shard.digest), table)
    manifest = {
        "draw": key, "mixture": name, "recipe": dict(recipe), "rule": RULE[entry.dedup],
        **_report(entry, pool, found, asked, total),
    }  # fmt: skip
    work.lake.publish_json(work.lake.draw(key) / "manifest.json", manifest)
    return manifest


def _times(
    work: Work, name: str, entry: Mixture, pool: Pool, available: dict[Share, int], asked: dict[Share, int]
) -> Callable[[Place], Int64s]:
    """Return what says how often each document of a shard stands in the mixture."""
    code = {share: number for number, share in enumerate(available)}
    keys = [work.draw(f"mixture {name}")(f"draw {part.title}") for part in entry.parts]
    passes, rest = np.divmod(
        np.array([*asked.values()], np.int64), np.maximum(1, np.array([*available.values()], np.int64))
    )

    def part(place: Place) -> Part:
        owned = pool.owned(place)
        doc_key = place.shard.read_column("doc_key").to_numpy()[owned.row]
        number = np.empty(owned.row.size)
        for i in np.unique(owned.part).tolist():
            number[owned.part == i] = uniform(doc_key[owned.part == i], keys[i])
        shares, which = owned.shares(entry.per)

        def doc_ids(at: Int64s) -> Sequence[str]:
            ids: list[str] = place.shard.read_column("doc_id").take(pa.array(owned.row[at])).to_pylist()
            return ids

        return Part(
            f"{place.corpus}/{place.shard.digest}", owned.row, doc_key, number, np.ones(owned.row.size, np.bool_),
            tokens_of(work, place.shard, owned.row), np.array([code[s] for s in shares], np.int64)[which], doc_ids,
        )  # fmt: skip

    cut = _cut(lambda: map(part, pool.places), rest)

    def times(place: Place) -> Int64s:
        found = part(place)
        whole: Int64s = passes[np.asarray(found.group, np.int64)]
        return whole + cut.kept(found) if cut else whole

    return times


def _cut(parts: Callable[[], Any], rest: Int64s) -> Cut | None:
    """Cut each share to what is left of it after whole passes; None where nothing is."""
    budget = int(rest.sum())
    if not budget:
        return None
    shares = {str(code): Fraction(tokens, budget) for code, tokens in enumerate(rest.tolist())}
    return make_cut(parts, CutRule(budget=budget, shares=shares, per=True))


def _table(work: Work, name: str, key: str, pool: Pool, place: Place, times: Int64s) -> pa.Table:
    """Return the drawn documents of a shard (schema DRAW)."""
    owned = pool.owned(place)
    inside = np.flatnonzero(times)
    row, part = owned.row[inside], owned.part[inside]
    score, is_scored = np.zeros(row.size), np.zeros(row.size, dtype=np.bool_)
    for number in np.unique(part).tolist():
        if selection := pool.parts[number].selection:
            mine = part == number
            score[mine], is_scored[mine] = _scores(work, place.shard, selection, row[mine])
    columns: dict[str, Any] = {
        c: place.shard.read_column(c).take(pa.array(row)) for c in ("doc_id", "doc_key", "source")
    }
    constant = {"draw": key, "mixture": name, "corpus": place.corpus, "shard": place.shard.digest}
    columns |= {c: pa.repeat(pa.scalar(value), row.size) for c, value in constant.items()}
    columns |= {
        "row": row, "n_tokens": tokens_of(work, place.shard, row), "multiplicity": times[inside],
        "part": pa.array([p.title for p in pool.parts]).take(pa.array(part)), "score": pa.array(score, mask=~is_scored),
    }  # fmt: skip
    return pa.table([pa.array(columns[f.name]).cast(f.type) for f in DRAW], schema=DRAW)


def _scores(work: Work, shard: Shard, selection: str, rows: Int64s) -> tuple[Any, Any]:
    """Return the score of rows of a shard in a selection, and whether they have one."""
    table = work.lake.table(work.lake.selection(selection) / f"{shard.digest}.parquet", ["row", "score"])
    place = np.full(shard.rows, -1, dtype=np.int64)
    place[table.column("row").to_numpy()] = np.arange(table.num_rows)
    score = table.column("score").combine_chunks().take(pa.array(place[rows]))
    return score.fill_null(0.0).to_numpy(), score.is_valid().to_numpy(zero_copy_only=False)


def _report(
    entry: Mixture, pool: Pool, found: Supply, asked: dict[Share, tuple[int, int]], total: _Total
) -> dict[str, Any]:
    """Return what the manifest says of asked and achieved, of the parts and of their sources."""
    available, merged = found.available(entry), partial(merge, entry)
    documents, copies, tokens = merged(total.documents), merged(total.copies), merged(total.tokens)
    parts: list[dict[str, Any]] = [
        {
            "part": entry.parts[share.part].title, "source": share.source, "weight": wanted / entry.budget.tokens,
            "max_epochs": epochs_of(entry, entry.parts[share.part]), "available": available[share], "wanted": wanted,
            "asked": most, "achieved": tokens[share], "documents": documents[share], "copies": copies[share],
            "epochs": tokens[share] / max(1, available[share]),
        }
        for share, (wanted, most) in asked.items()
    ]  # fmt: skip
    origins = [
        {
            "part": part.title, "flow": part.entry.flow, "corpus": part.survivors.corpus, "recipe": part.recipe,
            "documents": sum(n for share, n in found.documents.items() if share.part == number),
            "lost": found.lost[number], "lost_tokens": found.lost_tokens[number],
            "absent": [s for s in part.entry.sources or () if Share(number, s) not in found.documents],
        }
        for number, part in enumerate(pool.parts)
    ]  # fmt: skip
    sources = [
        {"part": entry.parts[share.part].title, "source": share.source, "copies": n, "tokens": total.tokens[share]}
        for share, n in sorted(total.copies.items(), key=lambda item: (-total.tokens[item[0]], item[0])) if n
    ]  # fmt: skip
    whole = {name: sum(part[name] for part in parts) for name in ("asked", "achieved", "documents", "copies")}
    return {
        "budget": entry.budget.tokens, **whole, "bytes": total.n_bytes,
        "meta_bytes": total.meta_bytes, "parts": parts, "origins": origins,
        "sources": sources, "shards": dict(sorted(total.shards.items())),
    }  # fmt: skip
