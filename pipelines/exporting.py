"""The last stage of a flow: write what is left, in every form that is asked for."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .. import __version__
from ..storage.export import Piece, card, write_shards
from ..storage.fingerprint import fingerprint
from ..storage.lake import read_json
from ..storage.survivors import Survivors
from .forms import Item, form_of, score_reader
from .outputs import Output
from .runs import RunRecord, Stage
from .work import Work


@dataclass(frozen=True)
class Chosen:
    """What a run chose."""

    name: str
    """Of the mixture."""
    run: RunRecord
    survivors: Survivors
    selection: str
    """Key of its last step."""


def export(work: Work, chosen: Chosen, outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """Write every output that is not there yet under the name of the mixture; return the manifests."""
    return [work.stage(f"export {output.format}", partial(_export, work, chosen, output)) for output in outputs]


def _export(work: Work, chosen: Chosen, output: Output, stage: Stage) -> dict[str, Any]:
    run, survivors = chosen.run, chosen.survivors
    form = form_of(work, output, lru_cache(2)(score_reader(work.lake, chosen.selection)))
    key = fingerprint({"selection": chosen.selection, **form.recipe})
    folder = work.lake.mixture(chosen.name, key)
    if (folder / "manifest.json").exists():
        stage.reused = 1
        found: dict[str, Any] = read_json(folder / "manifest.json")
        return found
    stage.computed = 1
    about = {
        "mixture": chosen.name, "key": key, "format": output.format, "run": run.run, "tamis": __version__,
        "corpus": survivors.corpus, "snapshot": run.snapshot, "selection": chosen.selection, "seed": work.config.seed,
        "tokenizer": work.config.tokenizer, **form.about,
    }  # fmt: skip
    sources: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    read = partial(form.read, survivors)
    items = _items(survivors)
    pieces = work.map(f"export {output.format}", read, list(items), items.__getitem__)
    sink = form.sink({**about, "steps": run.steps, "config": work.config.model_dump(mode="json")})
    limit = output.shard_bytes if form.sharded else None
    manifest = about | write_shards(work.lake, folder, limit, _counted(pieces, sources, tokens), sink)
    for name, data in form.beside.items():
        work.lake.publish_bytes(folder / name, data)
        manifest["files"].append({"file": name, "sha256": hashlib.sha256(data).hexdigest()})
    composition = [{"source": s, "documents": n, "tokens": tokens[s]} for s, n in sources.most_common()]
    work.lake.publish_bytes(folder / "card.md", card(about, [manifest], run.steps, composition).encode())
    work.lake.publish_json(folder / "manifest.json", manifest)
    return manifest


def _items(survivors: Survivors) -> dict[Item, int]:
    """Return the row groups that have chosen documents, and how many."""
    found = {}
    for shard in survivors.shards:
        mask = survivors.mask(shard)
        for group, (start, n) in enumerate(shard.row_groups):
            if count := int(np.count_nonzero(mask[start : start + n])):
                found[shard, group] = count
    return found


def _counted(pieces: Iterable[Piece], sources: Counter[str], tokens: Counter[str]) -> Iterator[Piece]:
    """Count what goes by, by source."""
    for piece in pieces:
        for source, n in zip(piece.table.column("source").to_pylist(), piece.n_tokens.tolist(), strict=True):
            sources[source or "(none)"] += 1
            tokens[source or "(none)"] += n
        yield piece
