"""The same choice on another copy of the corpus, from a list of ids and hashes.

A document is meant where id and text are those of the list. Ids may differ between copies (where the files give none,
paths are in them), so what is not found that way is looked for by its text alone; of several with the same text as many
are taken as are listed, those with the first ids. Memory is the list's, some 150 bytes an entry.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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
VERSION = 1
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
    made_by = {"step": STEP, "version": VERSION, "list": digest.hexdigest(), "documents": survivors.digest,
               "tokens": record.tokens_key}  # fmt: skip
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


def _matched(table: pa.Table, survivors: Survivors) -> tuple[dict[str, npt.NDArray[np.bool_]], Any]:
    """Return which rows of each shard are meant, and what gives the listed score of each row of a shard."""
    hashes = table.column("text_hash").combine_chunks()
    texts = hashes.unique()
    wanted = np.bincount(pc.index_in(hashes, texts).to_numpy(), minlength=len(texts))
    pairs = _pairs(hashes, table.column("doc_id").combine_chunks())
    chosen: dict[str, npt.NDArray[np.bool_]] = {}
    others = []
    for number, shard in enumerate(survivors.shards):
        of_shard = shard.read_column("text_hash"), shard.read_column("doc_id")
        text = pc.index_in(of_shard[0], texts).fill_null(-1).to_numpy()
        inside = survivors.mask(shard) & (text >= 0)
        exact = inside & pc.is_in(_pairs(*of_shard), pairs).to_numpy(zero_copy_only=False)
        np.subtract.at(wanted, text[exact], 1)
        chosen[shard.digest] = exact
        rows = np.flatnonzero(inside & ~exact)
        ids = of_shard[1].take(pa.array(rows))
        others.append(pa.table({"text": text[rows], "doc_id": ids, "shard": np.full(len(rows), number), "row": rows}))
    _fill(chosen, wanted, others, survivors)
    scored = table.column("score").combine_chunks().take(pc.index_in(texts, hashes))

    def scores(shard: Shard) -> pa.Array:
        return scored.take(pc.index_in(shard.read_column("text_hash"), texts))

    return chosen, scores


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


def _pairs(hashes: pa.Array, ids: pa.Array) -> pa.Array:
    """Return hash and id as one value."""
    kind = pa.large_binary()
    return pc.binary_join_element_wise(hashes.cast(kind), ids.cast(kind), pa.scalar(b"", kind))
