"""The same choice on another copy of the corpus, from a list of ids and hashes.

A document is meant where id and text are those of the list. Ids may differ between copies (where the files give none,
paths are in them), so what is not found that way is looked for by its text alone; of several with the same text as many
are taken as are listed, those with the first ids. Memory is the list's, some 150 bytes an entry,
and that of the corpus's documents with a listed text and another id.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.documents import doc_key
from ..storage.fingerprint import TableDigest, fingerprint
from ..storage.id_list import ID_LIST
from ..storage.selections import SelectionWriter, Verdicts, load_selection
from ..storage.shards import Shard
from ..storage.survivors import Survivors, selected
from .config import Corpus
from .exporting import Chosen
from .ingesting import ingest
from .measuring import measure, tokens_column, tokens_of
from .runs import Stage
from .work import Work

STEP = "replay"
Int64s = npt.NDArray[np.int64]
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
VERSION = 2
"""Raised when the same list and corpus give another choice."""


def choose_listed(work: Work, listed: tuple[pa.Table, dict[str, Any]], corpus: str, entry: Corpus) -> Chosen:
    """Choose from a corpus, newly read, what a list names; what is missing is a warning of the run."""
    table, recipe = listed
    record = work.log.record
    snapshot = ingest(work, corpus, entry)
    record.corpus, record.snapshot, record.counts = corpus, snapshot.key, dict(snapshot.counts)
    record.tokenizer, record.tokens_key = work.config.tokenizer, tokens_column(work).key
    survivors = Survivors.of(snapshot)
    measure(work, survivors, tokens_column(work))
    digest = TableDigest(ID_LIST)
    digest.update(table)
    made_by = {
        "step": STEP, "version": VERSION, "corpus": corpus, "list": digest.hexdigest(),
        "documents": survivors.digest, "tokens": record.tokens_key,
    }  # fmt: skip
    key = fingerprint(made_by)

    def chosen(stage: Stage) -> dict[str, Any]:
        found = load_selection(work.lake, key)
        stage.reused, stage.computed = int(found is not None), int(found is None)
        return found or _write(work, SelectionWriter(work.lake, key, STEP, corpus), table, survivors, made_by)

    manifest = work.stage(STEP, chosen)
    kept = ("selection", "entered", "kept", "bytes_kept", "tokens_entered", "tokens_kept", "reasons")
    record.steps.append({"name": STEP, "kind": STEP, **{name: manifest[name] for name in kept}})
    if missing := table.num_rows - manifest["kept"]:
        work.log.warn(f"{missing:,} of the {table.num_rows:,} listed documents are not in {corpus}")
    return Chosen(str(recipe["mixture"]), record, selected(work.lake, corpus, survivors.shards, key), key)


def _write(
    work: Work, writer: SelectionWriter, table: pa.Table, survivors: Survivors, made_by: dict[str, Any]
) -> dict[str, Any]:
    chosen, scores = _matched(table, survivors)
    for shard in survivors.shards:
        rows = np.flatnonzero(survivors.mask(shard)).astype(np.int64)
        kept = chosen[shard.digest][rows]
        reason = pa.array(np.where(kept, "", "not in the list"), mask=kept)
        score = pc.if_else(pa.array(kept), scores(shard).take(pa.array(rows)), pa.scalar(None, pa.float64()))
        verdicts = Verdicts(rows, kept, reason=reason, score=score)
        writer.write(shard, verdicts, tokens_of(work, shard, rows))
    return writer.finish(made_by)


class _Texts:
    """The different texts of a list, by the halves of their hashes, sorted once."""

    def __init__(self, hashes: pa.Array) -> None:
        high, low = _halves(hashes)
        order = np.lexsort((low, high))
        high, low = high[order], low[order]
        is_first = np.ones(len(high), np.bool_)
        is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        self.high, self.low = high[is_first], low[is_first]
        self.of_entry = np.empty(len(high), np.int64)
        self.of_entry[order] = np.cumsum(is_first) - 1
        """Number of each entry's text."""

    def numbers(self, hashes: pa.Array) -> Int64s:
        """Return the number of each text, -1 where the list has it not."""
        high, low = _halves(hashes)
        at = np.searchsorted(self.high, high)
        found = np.full(len(high), -1, np.int64)
        while (open_rows := np.flatnonzero((found < 0) & (at < len(self.high)))).size:
            same = self.high[at[open_rows]] == high[open_rows]
            hit = same & (self.low[at[open_rows]] == low[open_rows])
            found[open_rows[hit]] = at[open_rows[hit]]
            at[open_rows] = np.where(same, at[open_rows] + 1, len(self.high))  # texts that share half a hash are rare
        return found


def _halves(hashes: pa.Array) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return both halves of hashes of 16 bytes."""
    data = np.frombuffer(b"".join(hashes.to_pylist()), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    return data[:, 0], data[:, 1]


def _matched(table: pa.Table, survivors: Survivors) -> tuple[dict[str, npt.NDArray[np.bool_]], Any]:
    """Return which rows of each shard are meant, and what gives the listed score of each row of a shard."""
    texts = _Texts(table.column("text_hash").combine_chunks())
    wanted = np.bincount(texts.of_entry, minlength=len(texts.high))
    listed_ids = _Ids(texts.of_entry, table.column("doc_id"))
    chosen: dict[str, npt.NDArray[np.bool_]] = {}
    others = []
    for number, shard in enumerate(survivors.shards):
        text = texts.numbers(shard.read_column("text_hash"))
        rows = np.flatnonzero(survivors.mask(shard) & (text >= 0))
        ids = shard.read_column("doc_id").take(pa.array(rows))
        is_exact = listed_ids.have(text[rows], shard.read_column("doc_key").to_numpy()[rows])
        np.subtract.at(wanted, text[rows[is_exact]], 1)
        chosen[shard.digest] = np.zeros(shard.rows, np.bool_)
        chosen[shard.digest][rows[is_exact]] = True
        rest = rows[~is_exact]
        ids = ids.filter(pa.array(~is_exact))
        others.append(pa.table({"text": text[rest], "doc_id": ids, "shard": np.full(len(rest), number), "row": rest}))
    _fill(chosen, wanted, others, survivors)
    first = np.empty(len(texts.high), np.int64)
    first[texts.of_entry[::-1]] = np.arange(table.num_rows)[::-1]  # the first entry of each text
    scored = table.column("score").combine_chunks()

    def scores(shard: Shard) -> pa.Array:
        text = texts.numbers(shard.read_column("text_hash"))
        return scored.take(pa.array(first[np.maximum(text, 0)], mask=text < 0)) if len(first) else _no_scores(shard)

    return chosen, scores


def _no_scores(shard: Shard) -> pa.Array:
    return pa.nulls(shard.rows, pa.float64())


class _Ids:
    """The ids that a list has for each text, as keys; a wrong hit would be another document with the same text."""

    def __init__(self, text: Int64s, ids: pa.ChunkedArray) -> None:
        keys = np.fromiter(map(doc_key, ids.to_pylist()), np.uint64, len(ids))
        self._pairs = np.sort(_pairs(text, keys))

    def have(self, text: Int64s, doc_keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Say which pairs of a text's number and a document's key are in the list."""
        wanted = _pairs(text, doc_keys)
        at = np.minimum(np.searchsorted(self._pairs, wanted), max(0, len(self._pairs) - 1))
        return self._pairs[at] == wanted if len(self._pairs) else np.zeros(len(wanted), np.bool_)


def _pairs(text: Int64s, doc_keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    return doc_keys ^ (text.astype(np.uint64) * _SPREAD)


def _fill(
    chosen: dict[str, npt.NDArray[np.bool_]], wanted: npt.NDArray[np.int64], others: list[pa.Table],
    survivors: Survivors,
) -> None:  # fmt: skip
    """Take of each text that was not found under its ids as many as are still wanted."""
    if not others:
        return
    table = pa.concat_tables(others).sort_by([("text", "ascending"), ("doc_id", "ascending")])
    text, shard, row = (table.column(name).to_numpy() for name in ("text", "shard", "row"))
    place = np.arange(len(text)) - np.searchsorted(text, text)
    taken = place < wanted[text]
    for number, one in enumerate(survivors.shards):
        chosen[one.digest][row[taken & (shard == number)]] = True
