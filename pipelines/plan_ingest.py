"""What reading the raw files will take: the ingestion itself, of slices of them, in a lake of its own."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..storage.inputs import InputFile
from ..storage.lake import Lake
from ..storage.usage import release_memory
from .config import Corpus
from .ingesting import ingest, ingest_options
from .plan_sample import raw_slices
from .plan_trials import Measured, Meter
from .runs import RunLog
from .work import Work

FIRST_BYTES, MOST_BYTES = 2 << 20, 32 << 20
"""Of raw files: of the first trial, which warms up, and of the largest."""


@dataclass(frozen=True)
class Ingested:
    """One trial ingestion."""

    raw_bytes: int
    text_bytes: int
    stage: Measured


def try_ingest(work: Work, corpus: str, entry: Corpus, unread: Sequence[InputFile], folder: Path) -> list[Ingested]:
    """Return trials on more and more raw bytes, of which the last two have the same amount."""
    total = sum(file.size for file in unread)
    sizes = [size for size in (FIRST_BYTES, 4 * FIRST_BYTES, MOST_BYTES) if size < total / 2] or [total // 4]
    sizes = [*sizes, total] if len(sizes) < 2 else sizes
    return [_try(work, corpus, entry, unread, size, folder / f"ingest-{at}")
            for at, size in enumerate([*sizes, sizes[-1]])]  # fmt: skip


def _try(work: Work, corpus: str, entry: Corpus, unread: Sequence[InputFile], n_bytes: int, folder: Path) -> Ingested:
    release_memory()
    try:
        files = raw_slices(work, unread, n_bytes, folder / "slices", ingest_options(entry))
        lake = Lake.open(folder / "lake", create=True)
        meter = Meter(lake.scratch)
        log = meter.log = RunLog(lake, "plan", "")
        sliced = entry.model_copy(update={"files": [str(file.path) for file in files], "on_bad": "quarantine"})
        snapshot = ingest(replace(work, lake=lake, log=log, execute=meter), corpus, sliced)
        text = sum(shard.n_bytes for shard in snapshot.shards)
        return Ingested(sum(file.size for file in files), text, meter.found[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
