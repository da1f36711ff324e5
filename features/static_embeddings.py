"""A document's vector as the mean of its tokens' vectors: no network runs, only a tokenizer and a sum.

The table of vectors is distilled from a model (WordLlama, model2vec): it knows words, not their order. Most of the
time goes to the tokenizer. Cutting documents into words first, so that its cache of words works, is exact for
WordLlama's but slower (4.8 MB of text a core-second, not 5.6): the pattern costs more than it saves.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from ..storage.errors import ConfigError
from ..storage.model_files import model_digest, model_folder, packaged_model, read_tensors
from .base import Feature
from .static_kernels import mean_rows
from .text_buffers import slices, text_buffers

Table = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StaticModel:
    """A tokenizer, and the vectors of its ids."""

    tokenizer: Tokenizer
    table: Table
    unknown: int
    """The id that does not count; -1: all do."""


@dataclass(frozen=True)
class StaticEmbeddings(Feature):
    """Compute a document's unit vector as the mean of its tokens' vectors; without tokens it is zero.

    The model wordllama knows English and what is spelt like it. Documents in scripts that its tokenizer takes byte by
    byte (Arabic, Thai, Hindi, most of Chinese) are near to each other whatever they say: do not run semdedup on them.
    Source: https://github.com/dleemiller/WordLlama, https://github.com/MinishLab/model2vec.
    """

    name: ClassVar[str] = "static_embeddings"
    version: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    model: str = "wordllama"
    """A folder (relative to flows.yaml) or Hub name with tokenizer.json and model.safetensors, as model2vec and
    StaticEmbedding write them; or wordllama: 256 numbers, from the extra embeddings-offline."""

    @property
    def columns(self) -> pa.Schema:
        """One column, `vector`: float16, length 1 or 0."""
        kind = pa.list_(pa.float16(), _cached_table(self._files()[2])[0].shape[1])
        return pa.schema([pa.field("vector", kind, nullable=False)])

    def identity(self) -> dict[str, Any]:
        """Return the digest of the table and the tokenizer. Raises ConfigError where there is no model."""
        folder, *files = self._files()
        return {"model": model_digest(folder, files)}

    def load(self, device: str = "cpu") -> StaticModel:
        """Return the tokenizer and the table. Raises ConfigError."""
        _, path, weights = self._files()
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise ConfigError(f'static_embeddings: "{path}" is not a tokenizer.json ({error})') from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        table, counts_unknown = _cached_table(weights)
        n_ids = max(tokenizer.get_vocab().values(), default=-1) + 1
        if n_ids > len(table):
            raise ConfigError(
                f'static_embeddings: "{path}" has {n_ids} tokens, "{weights}" vectors for {len(table)}; '
                "they belong to different models"
            )
        unknown = -1 if counts_unknown else _unknown(tokenizer)
        return StaticModel(tokenizer, table, unknown)

    def compute(self, batch: pa.RecordBatch, model: StaticModel | None = None) -> pa.RecordBatch:
        """Return the vector of each document; a null is an empty text."""
        loaded = self.load() if model is None else model
        text = batch.column("text")
        vectors = np.empty((len(text), loaded.table.shape[1]), np.float32)
        for start, stop in slices(text_buffers(text)[0]):
            texts = [one or "" for one in text.slice(start, stop - start).to_pylist()]
            _mean(texts, loaded, vectors[start:stop])
        schema = self.columns
        values = pa.array(vectors.astype(np.float16).ravel(), pa.float16())
        return pa.record_batch([pa.FixedSizeListArray.from_arrays(values, type=schema.field(0).type)], schema=schema)

    def _files(self) -> tuple[Path, Path, Path]:
        """Return the folder, the tokenizer and the table."""
        if self.model == "wordllama":
            tokenizers, weights = packaged_model("wordllama", "tokenizers"), packaged_model("wordllama", "weights")
            names = tokenizers / "l2_supercat_tokenizer_config.json", weights / "l2_supercat_256.safetensors"
            return tokenizers.parent, *names
        folder = model_folder(self.model)
        for inside in (folder, folder / "0_StaticEmbedding"):
            found = inside / "tokenizer.json", inside / "model.safetensors"
            if all(path.is_file() for path in found):
                return folder, *found
        raise ConfigError(
            f'static_embeddings: "{folder}" lacks tokenizer.json or model.safetensors, expected both as model2vec and '
            "StaticEmbedding write them; for a transformer's folder use the feature embeddings"
        )


def _mean(texts: list[str], model: StaticModel, out: Table) -> None:
    lists = [one.ids for one in model.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    counts = np.fromiter(map(len, lists), np.int64, len(lists))
    ids = np.fromiter(chain.from_iterable(lists), np.int32, int(counts.sum()))
    if model.unknown >= 0:
        known = ids != model.unknown
        counts = np.diff(np.concatenate([[0], np.cumsum(known)])[np.concatenate([[0], np.cumsum(counts)])])
        ids = ids[known]
    mean_rows(model.table, ids, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), out)


def _cached_table(path: Path) -> tuple[Table, bool]:
    stat = path.stat()
    return _table(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4)
def _table(path: Path, n_bytes: int, mtime_ns: int) -> tuple[Table, bool]:
    """Return the vector of each token id, and whether the unknown token counts: not in model2vec's files."""
    tensors = read_tensors(path)
    name = next((n for n in ("embeddings", "embedding.weight") if n in tensors and tensors[n].ndim == 2), None)
    if name is None:
        raise ConfigError(
            f'static_embeddings: "{path}" has the tensors {sorted(tensors)}, expected embeddings or embedding.weight'
        )
    table = tensors[name].astype(np.float32)
    if name == "embeddings":
        table = table[tensors["mapping"]] if "mapping" in tensors else table
        table = table * tensors["weights"].astype(np.float32)[:, None] if "weights" in tensors else table
    return np.ascontiguousarray(table), name != "embeddings"


def _unknown(tokenizer: Tokenizer) -> int:
    model = json.loads(tokenizer.to_str())["model"]
    found = model.get("unk_id") if model.get("unk_token") is None else tokenizer.token_to_id(model["unk_token"])
    return -1 if found is None else int(found)
