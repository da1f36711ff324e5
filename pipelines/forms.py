"""The forms of a mixture: what each asks of the documents, and the files that it makes of them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.cards import README, hub_readme
from ..storage.croissant import CROISSANT, croissant
from ..storage.export import MIXTURE, JsonlSink, ParquetSink, Piece, Sink, write_shard, write_shards
from ..storage.id_list import ID_LIST, with_recipe
from ..storage.mds_export import INDEX, MdsSink, mds_index
from ..storage.schema import DOCUMENT
from ..storage.token_export import IDS, SPANS, MegatronSink, TokenSink
from .composition import NO_LICENCE, Composition
from .measuring import tokens_column
from .outputs import TOKENS, Output
from .room import TEXT_PACKED
from .tokenising import Encoder, make_encoder
from .work import Work

CHOSEN = pa.schema(
    [
        *DOCUMENT,
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("n_tokens", pa.int64(), nullable=False),  # of the configuration's tokenizer
        pa.field("score", pa.float64()),  # of the last step
        pa.field("cut_group", pa.string()),  # of the last step
        pa.field("part", pa.string()),  # of a mixture
    ]
)
"""What a form can ask of a chosen document."""
VERSION = 2
"""Raised when the same documents give other files, or more."""
BYTES_A_TOKEN = 4
_ALWAYS = ("source", "meta", "n_bytes")
"""What every form counts."""
MIXED = pa.schema([*MIXTURE, CHOSEN.field("corpus"), CHOSEN.field("part")])
"""What is written of each document of several parts."""

Counted = tuple[pa.Table, Piece]
"""Source and metadata of documents, and the documents as a sink takes them."""


@dataclass(frozen=True, kw_only=True)
class Form(ABC):
    """One way to write a mixture."""

    work: Work
    output: Output
    of_parts: bool = False
    """The documents are of several parts and corpora."""

    asked: ClassVar[tuple[str, ...]]
    sharded: ClassVar[bool] = True
    """Several files, or one."""
    never_empty: ClassVar[bool] = False
    """There is a file also where no document was chosen."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of CHOSEN that it needs."""
        return tuple(dict.fromkeys((*self.asked, *_ALWAYS, *(("corpus", "part") if self.of_parts else ()))))

    @property
    def recipe(self) -> dict[str, Any]:
        """What its files are made by, beside the selection."""
        return {"tokens": tokens_column(self.work).key, "format": self.output.format, "version": VERSION, **self._limit}

    @property
    def _limit(self) -> dict[str, Any]:
        return {"shard_bytes": self.output.shard_bytes} if self.sharded else {}

    @property
    def about(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {}

    def room(self, n_bytes: int) -> tuple[float, float]:
        """Return what so many bytes of text take: about, of what is compressed, and at least, of what is not."""
        return TEXT_PACKED * n_bytes, 0.0

    def beside(self, files: list[dict[str, Any]]) -> Mapping[str, bytes]:
        """Return small files that belong to it; `files` are its shards, as the manifest has them."""
        return {}

    @property
    def pages(self) -> Mapping[str, bytes]:
        """Small files for people and programs, which the manifest does not list."""
        return {}

    @abstractmethod
    def sink(self, recipe: dict[str, Any]) -> Callable[[Path], Sink]:
        """Return what opens a shard; `recipe` says how the mixture was made."""

    @abstractmethod
    def piece(self, documents: pa.Table) -> Piece:
        """Return documents, of which there are the columns that it needs, as the sink takes them."""

    def publish(
        self, folder: Path, pieces: Iterable[Counted], about: dict[str, Any], recipe: dict[str, Any]
    ) -> tuple[dict[str, Any], Composition]:
        """Publish all files but the card and the manifest; return the manifest, which begins with `about`."""
        limit = self.output.shard_bytes if self.sharded else None
        found = Composition()
        counted = _counted(pieces, found)
        files = write_shards(self.work.lake, folder, limit, counted, self.sink(about | recipe), self.never_empty)
        return self.described(folder, about, files, found), found

    def publish_shard(
        self, folder: Path, sink: Callable[[Path], Sink], number: int, pieces: Iterable[Counted]
    ) -> tuple[list[dict[str, Any]], Composition]:
        """Publish one shard; return what the manifest says of its files, and what is in them."""
        found = Composition()
        return write_shard(self.work.lake, folder, number, _counted(pieces, found), sink), found

    def described(
        self, folder: Path, about: dict[str, Any], files: dict[str, Any], found: Composition
    ) -> dict[str, Any]:
        """Publish what belongs to the shards, of which `files` is what the manifest says; return the manifest."""
        manifest = about | self.about | files
        for name, data in self.beside(manifest["files"]).items():
            self.work.lake.publish_bytes(folder / name, data)
            manifest["files"].append({"file": name, "sha256": hashlib.sha256(data).hexdigest()})
        described = croissant(manifest, self.parquet, [name for name, *_ in found.licences if name != NO_LICENCE])
        for name, data in {**self.pages, CROISSANT: described}.items():
            self.work.lake.publish_bytes(folder / name, data)
        return manifest

    def counted(self, documents: pa.Table) -> Counted:
        """Return documents as the sink takes them, with what they are counted by."""
        return documents.select(["source", "meta"]), self.piece(documents)

    @property
    def parquet(self) -> pa.Schema | None:
        """The schema of its files, where they are Parquet."""
        return None


@dataclass(frozen=True, kw_only=True)
class Texts(Form):
    """Texts with their metadata, in Parquet or JSON Lines."""

    asked = ("doc_id", "text", "source", "meta", "n_tokens", "score")

    @property
    def _schema(self) -> pa.Schema:
        return MIXED if self.of_parts else MIXTURE

    def sink(self, recipe: dict[str, Any]) -> Callable[[Path], Sink]:
        """Return what opens a shard."""
        return JsonlSink if self.output.format == "jsonl.zst" else partial(ParquetSink, schema=self._schema)

    def piece(self, documents: pa.Table) -> Piece:
        """Return rows of MIXTURE, or of MIXED."""
        columns = [documents.column({"id": "doc_id"}.get(name, name)) for name in self._schema.names]
        return _piece(pa.table(columns, names=self._schema.names).cast(self._schema), documents)

    @property
    def parquet(self) -> pa.Schema | None:
        """The schema of its files, where they are Parquet."""
        return self._schema if self.output.format == "parquet" else None

    @property
    def pages(self) -> Mapping[str, bytes]:
        """What tells `datasets.load_dataset` which files of the folder are documents."""
        return {README: hub_readme(f"part-*.{self.output.format}")}


@dataclass(frozen=True, kw_only=True)
class Mds(Texts):
    """The same for MosaicML's streaming."""

    def sink(self, recipe: dict[str, Any]) -> Callable[[Path], Sink]:
        """Return what opens a shard."""
        return partial(MdsSink, schema=self._schema)

    def room(self, n_bytes: int) -> tuple[float, float]:
        """Return what documents take: their texts lie there as they are."""
        return 0.0, n_bytes

    @property
    def pages(self) -> Mapping[str, bytes]:
        """None: `datasets` does not read them."""
        return {}

    def beside(self, files: list[dict[str, Any]]) -> Mapping[str, bytes]:
        """Return the index, which names the shards."""
        return {INDEX: mds_index(files, self._schema)}


@dataclass(frozen=True, kw_only=True)
class Ids(Form):
    """Ids, hashes and scores in one file."""

    asked = ("doc_id", "text_hash", "source", "n_tokens", "score")
    sharded = False
    never_empty = True

    def room(self, n_bytes: int) -> tuple[float, float]:
        """Return what the list takes: of a document of 2 KB some 60 bytes."""
        return n_bytes / 32, 0.0

    def sink(self, recipe: dict[str, Any]) -> Callable[[Path], Sink]:
        """Return what opens the one file."""
        return partial(ParquetSink, name="ids.parquet", schema=with_recipe(recipe))

    def piece(self, documents: pa.Table) -> Piece:
        """Return rows of ID_LIST."""
        return _piece(documents.select(ID_LIST.names).cast(ID_LIST), documents)


def _piece(table: pa.Table, documents: pa.Table) -> Piece:
    return Piece(table, documents.column("n_tokens").to_numpy(), pc.sum(documents.column("n_bytes")).as_py() or 0)


@dataclass(frozen=True, kw_only=True)
class TokenIds(Form):
    """Token ids, and where they came from."""

    encoder: Encoder
    rounds: Mapping[str, Any] | None = None
    """The rounds that the selection states, for the reader."""

    asked = ("doc_id", "doc_key", "text", "source", "file", "line", "shard", "row", "score", "cut_group")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of CHOSEN that it needs."""
        return tuple(dict.fromkeys(n for n in (*self.asked, *_ALWAYS, "corpus", "part") if self._is_there(n)))

    def _is_there(self, name: str) -> bool:
        return {"part": self.of_parts, "cut_group": self.rounds is not None}.get(name, True)

    @property
    def recipe(self) -> dict[str, Any]:
        """What its files are made by, beside the selection."""
        return {"format": self.output.format, "version": VERSION, "encoder": self.encoder.recipe, **self._limit}

    @property
    def about(self) -> dict[str, Any]:
        """What the manifest says of the tokens."""
        encoder = self.encoder
        rounds = {} if self.rounds is None else {"rounds": self.rounds}
        return {
            "encoded_with": encoder.name, "tokenizer_sha256": encoder.digest, "end": encoder.end,
            "dtype": encoder.dtype,
            **rounds,
        }  # fmt: skip

    def room(self, n_bytes: int) -> tuple[float, float]:
        """Return what documents take: a token has some bytes of text, which ones nobody knows before."""
        return n_bytes / BYTES_A_TOKEN * np.dtype(self.encoder.dtype).itemsize, 0.0

    def beside(self, files: list[dict[str, Any]]) -> Mapping[str, bytes]:
        """Return the tokenizer."""
        return {"tokenizer.json": self.encoder.text.encode()}

    def sink(self, recipe: dict[str, Any]) -> Callable[[Path], Sink]:
        """Return what opens a shard."""
        kind = MegatronSink if self.output.format == "megatron" else TokenSink
        return partial(kind, dtype=self.encoder.dtype)

    def piece(self, documents: pa.Table) -> Piece:
        """Return rows of SPANS with the ids, but without their start."""
        ids, lengths = self.encoder.encode(documents.column("text").combine_chunks())
        lists = pa.LargeListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int64()), pa.array(ids))
        of_documents = {name: documents.column(name) for name in SPANS.names if name in self.columns}
        absent = {name: pa.nulls(len(lengths), CHOSEN.field(name).type) for name in ("part", "cut_group")}
        table = pa.table({**absent, **of_documents, IDS: lists, "length": lengths})
        return Piece(table, lengths, pc.sum(documents.column("n_bytes")).as_py() or 0)


def _counted(pieces: Iterable[Counted], found: Composition) -> Iterator[Piece]:
    for documents, piece in pieces:
        found.add(documents, piece.n_tokens)
        yield piece


def form_of(work: Work, output: Output, of_parts: bool = False, rounds: Mapping[str, Any] | None = None) -> Form:
    """Return the form of an output. Raises ConfigError where it cannot be."""
    if output.format in TOKENS:
        encoder = make_encoder(output, work.tokens, work.root)
        return TokenIds(work=work, output=output, of_parts=of_parts, encoder=encoder, rounds=rounds)
    return {"ids": Ids, "mds": Mds}.get(output.format, Texts)(work=work, output=output, of_parts=of_parts)
