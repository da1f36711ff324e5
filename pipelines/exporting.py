"""The last stage of a flow: write what is left as mixtures."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from .. import __version__
from ..storage.export import MIXTURE, card, write_mixture
from ..storage.fingerprint import fingerprint
from ..storage.lake import read_json
from ..storage.shards import Mask, Shard
from ..storage.survivors import Survivors
from .config import Output
from .measuring import tokens_column, tokens_of
from .runs import Stage
from .work import Work


def export(
    work: Work, mixture: str, outputs: Sequence[Output], survivors: Survivors, selection: str
) -> list[dict[str, Any]]:
    """Write every output that is not there yet under the name of the mixture; return the manifests."""
    return [
        work.stage(f"export {output.format}", partial(_export, work, mixture, output, survivors, selection))
        for output in outputs
    ]


def _export(
    work: Work, mixture: str, output: Output, survivors: Survivors, selection: str, stage: Stage
) -> dict[str, Any]:
    recipe = {"selection": selection, "tokens": tokens_column(work).key, **output.model_dump()}
    key = fingerprint(recipe)
    folder = work.lake.mixture(mixture, key)
    if (folder / "manifest.json").exists():
        stage.reused = 1
        found: dict[str, Any] = read_json(folder / "manifest.json")
        return found
    stage.computed = 1
    record = work.log.record
    sources: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    tables = _tables(work, survivors, selection, sources, tokens)
    about = {
        "mixture": mixture, "key": key, "run": record.run, "tamis": __version__, "corpus": survivors.corpus,
        "snapshot": record.snapshot, "selection": selection, "seed": work.config.seed,
        "tokenizer": work.config.tokenizer,
    }  # fmt: skip
    sizes = [n for shard in survivors.shards for n in _chosen_in_groups(survivors.mask(shard), shard) if n]
    shards = work.reporter.track(tables, sizes, f"export {output.format}", "documents")
    manifest = about | write_mixture(work.lake, folder, output.format, output.shard_bytes, shards)
    composition = [{"source": s, "documents": n, "tokens": tokens[s]} for s, n in sources.most_common()]
    page = card(about, [manifest], record.steps, composition)
    work.lake.publish_bytes(folder / "card.md", page.encode())
    work.lake.publish_json(folder / "manifest.json", manifest)
    return manifest


def _tables(
    work: Work, survivors: Survivors, selection: str, sources: Counter[str], tokens: Counter[str]
) -> Iterator[pa.Table]:
    """Yield the chosen documents of each row group, and count them by source."""
    for shard in survivors.shards:
        rows = np.flatnonzero(survivors.mask(shard)).astype(np.int64)
        scores = _scores(work, shard, selection)
        for group, (start, n) in enumerate(shard.row_groups):
            inside = rows[(rows >= start) & (rows < start + n)]
            if not inside.size:
                continue
            batch = shard.read_group(group, ["doc_id", "text", "source", "meta"]).take(pa.array(inside - start))
            n_tokens = tokens_of(work, shard, inside)
            columns = [*batch.columns, pa.array(n_tokens), scores.take(pa.array(inside))]
            for source, count in zip(batch.column("source").to_pylist(), n_tokens.tolist(), strict=True):
                sources[source or "(none)"] += 1
                tokens[source or "(none)"] += count
            yield pa.table(columns, schema=MIXTURE)


def _chosen_in_groups(mask: Mask, shard: Shard) -> list[int]:
    return [int(np.count_nonzero(mask[start : start + n])) for start, n in shard.row_groups]


def _scores(work: Work, shard: Shard, selection: str) -> pa.Array:
    """Return the score of every row of a shard in the last step, null where it has none."""
    table = work.lake.table(work.lake.selection(selection) / f"{shard.digest}.parquet", ["row", "score"])
    place = np.full(shard.rows, -1, dtype=np.int64)
    place[table.column("row").to_numpy()] = np.arange(table.num_rows)
    scores: pa.Array = table.column("score").combine_chunks().take(pa.array(place, mask=place < 0))
    return scores
