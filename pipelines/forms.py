"""The forms of a mixture: what each reads of the chosen documents, and the files that it makes of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.export import MIXTURE, JsonlSink, ParquetSink, Piece, Sink
from ..storage.id_list import ID_LIST, with_recipe
from ..storage.lake import Lake
from ..storage.shards import Shard
from ..storage.survivors import Survivors
from ..storage.token_export import IDS, SPANS, MegatronSink, TokenSink
from .measuring import tokens_column, tokens_of
from .outputs import TOKENS, Output
from .tokenising import Encoder, make_encoder
from .work import Work

Item = tuple[Shard, int]
"""A row group."""
Rows = npt.NDArray[np.int64]
Scores = Callable[[Shard], pa.Array]


class Part(NamedTuple):
    """The chosen documents of a row group."""

    corpus: str
    shard: Shard
    rows: Rows
    batch: pa.RecordBatch
    scores: pa.Array


@dataclass(frozen=True)
class Form(ABC):
    """One way to write a mixture."""

    work: Work
    output: Output
    scores: Scores
    """Return the score of every row of a shard."""

    columns: ClassVar[tuple[str, ...]] = ("doc_id", "text", "source", "meta", "n_bytes")
    """Of the shards that it reads."""
    sharded: ClassVar[bool] = True
    """Several files, or one."""

    @property
    def recipe(self) -> dict[str, Any]:
        """What its files are made by, beside the selection."""
        return {"tokens": tokens_column(self.work).key, "format": self.output.format, **self._limit}

    @property
    def _limit(self) -> dict[str, Any]:
        return {"shard_bytes": self.output.shard_bytes} if self.sharded else {}

    @property
    def about(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {}

    @property
    def beside(self) -> Mapping[str, bytes]:
        """Small files that belong to it."""
        return {}

    def sink(self, recipe: dict[str, Any]) -> Callable[[Path], Sink]:
        """Return what opens a shard; `recipe` says how the mixture was made."""
        return JsonlSink if self.output.format == "jsonl.zst" else ParquetSink

    def read(self, survivors: Survivors, item: Item) -> Piece:
        """Return the chosen documents of a row group, in row order."""
        shard, group = item
        start, n = shard.row_groups[group]
        inside = np.flatnonzero(survivors.mask(shard)[start : start + n])
        batch = shard.read_group(group, self.columns).take(pa.array(inside))
        rows = inside + start
        part = Part(survivors.corpus, shard, rows, batch, self.scores(shard).take(pa.array(rows)))
        return Piece(*self.table(part), pc.sum(batch.column("n_bytes")).as_py())

    @abstractmethod
    def table(self, part: Part) -> tuple[pa.Table, Rows]:
        """Return documents as the sink takes them, and the tokens of each."""


@dataclass(frozen=True)
class Texts(Form):
    """Texts with their metadata, in Parquet or JSON Lines."""

    def table(self, part: Part) -> tuple[pa.Table, Rows]:
        """Return rows of MIXTURE."""
        n_tokens = tokens_of(self.work, part.shard, part.rows)
        columns = [part.batch.column(name) for name in ("doc_id", "text", "source", "meta")]
        return pa.table([*columns, pa.array(n_tokens), part.scores], schema=MIXTURE), n_tokens


@dataclass(frozen=True)
class Ids(Form):
    """Ids, hashes and scores in one file."""

    columns = ("doc_id", "text_hash", "source", "n_bytes")
    sharded = False

    def sink(self, recipe: dict[str, Any]) -> Callable[[Path], Sink]:
        """Return what opens the one file."""
        return partial(ParquetSink, name="ids.parquet", schema=with_recipe(recipe))

    def table(self, part: Part) -> tuple[pa.Table, Rows]:
        """Return rows of ID_LIST."""
        n_tokens = tokens_of(self.work, part.shard, part.rows)
        columns = [part.batch.column(name) for name in ("doc_id", "text_hash", "source")]
        return pa.table([*columns, pa.array(n_tokens), part.scores], schema=ID_LIST), n_tokens


@dataclass(frozen=True)
class TokenIds(Form):
    """Token ids, and where they came from."""

    encoder: Encoder

    columns = ("doc_id", "doc_key", "text", "source", "file", "line", "n_bytes")

    @property
    def recipe(self) -> dict[str, Any]:
        """What its files are made by, beside the selection."""
        return {"format": self.output.format, "encoder": self.encoder.recipe, **self._limit}

    @property
    def about(self) -> dict[str, Any]:
        """What the manifest says of the tokens."""
        encoder = self.encoder
        return {
            "tokenizer": encoder.name, "tokenizer_sha256": encoder.digest, "end": encoder.end, "dtype": encoder.dtype,
        }  # fmt: skip

    @property
    def beside(self) -> Mapping[str, bytes]:
        """The tokenizer."""
        return {"tokenizer.json": self.encoder.text.encode()}

    def sink(self, recipe: dict[str, Any]) -> Callable[[Path], Sink]:
        """Return what opens a shard."""
        kind = MegatronSink if self.output.format == "megatron" else TokenSink
        return partial(kind, dtype=self.encoder.dtype)

    def table(self, part: Part) -> tuple[pa.Table, Rows]:
        """Return rows of SPANS with the ids, but without their start."""
        ids, lengths = self.encoder.encode(part.batch.column("text"))
        n = len(part.rows)
        columns = {
            IDS: pa.LargeListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int64()), pa.array(ids)),
            "length": lengths, "corpus": pa.repeat(part.corpus, n), "shard": pa.repeat(part.shard.digest, n),
            "row": part.rows, "score": part.scores,
            **{name: part.batch.column(name) for name in SPANS.names if name in self.columns},
        }  # fmt: skip
        return pa.table(columns), lengths


def form_of(work: Work, output: Output, scores: Scores) -> Form:
    """Return the form of an output. Raises ConfigError where it cannot be."""
    if output.format in TOKENS:
        return TokenIds(work, output, scores, make_encoder(output, work.tokens, work.root))
    return (Ids if output.format == "ids" else Texts)(work, output, scores)


def score_reader(lake: Lake, selection: str) -> Scores:
    """Return what reads the score of every row of a shard in the last step, null where it has none."""

    def scores(shard: Shard) -> pa.Array:
        table = lake.table(lake.selection(selection) / f"{shard.digest}.parquet", ["row", "score"])
        place = np.full(shard.rows, -1, dtype=np.int64)
        place[table.column("row").to_numpy()] = np.arange(table.num_rows)
        return table.column("score").combine_chunks().take(pa.array(place, mask=place < 0))

    return scores
