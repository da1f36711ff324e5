"""How well a causal language model predicts a document: what perplexity filters and hardness scores are made of.

The numbers depend on the document alone, bit for bit, whatever is computed beside it: see `canonical_batches` and
`causal_model`. A token's loss is as exact as the logits: with bf16 these have 8 bits, with fp16 11.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..storage.model_files import model_digest, model_folder
from .base import Feature
from .causal_loading import load_causal_model
from .causal_model import CausalModel
from .text_buffers import slices, text_buffers
from .torch_precision import Precision, check_device, chosen_device, chosen_precision

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Losses(Feature):
    """Compute a document's loss under a causal language model, `model`, in nats.

    Every token is predicted once from those before it in its window. The first is not, unless the tokenizer begins with
    a token of its own (BOS). What a model cannot compute is NaN, as are means of nothing. Source of min_k: Shi et al.
    2024, https://arxiv.org/abs/2310.16789.
    """

    name: ClassVar[str] = "losses"
    version: ClassVar[int] = 1
    cost: ClassVar[int] = 3
    no_numbers: ClassVar[tuple[str, ...]] = ("device",)

    model: str
    """A model's folder (relative to flows.yaml), as Hugging Face lays it out and with tokenizer.json, or a name on the
    Hugging Face Hub."""
    context: int | None = None
    """Tokens in a window; default: the model's own maximum, which it may not exceed, but no more than 2,048."""
    stride: int | None = None
    """How many tokens a window begins after the one before; default: context. Less gives tokens more context, and
    takes context / stride times as long."""
    min_k: float | None = None
    """Min-K%: a column min_k, the mean loss of this share of the document's tokens, those predicted worst. 0.2 is
    usual; documents that the model was trained on have less."""
    precision: Precision = "auto"
    """fp32, bf16 or fp16; auto: bf16 on a GPU and on a CPU with instructions for it, else fp32. What auto comes to is
    part of the numbers' name."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1 or mps. It is no part of the numbers' name, though their last
    digits follow it."""

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 1:
            raise ValueError(f"context is {self.context}, expected at least 1")
        if self.stride is not None and not 1 <= self.stride <= (self.context or self.stride):
            raise ValueError(f"stride is {self.stride}, expected 1 to the context")
        if self.min_k is not None and not 0 < self.min_k <= 1:
            raise ValueError(f"min_k is {self.min_k}, expected a share above 0, at most 1")
        check_device(self.device)

    @property
    def columns(self) -> pa.Schema:
        """Sum (nll) and mean of the losses, in nats; perplexity; bits_per_byte of UTF-8; min_k where asked for."""
        kinds = {"nll": pa.float32(), "n_predicted": pa.int64()}
        means = ["loss", "perplexity", "bits_per_byte", *(["min_k"] if self.min_k is not None else [])]
        return pa.schema(
            [pa.field(n, k, nullable=False) for n, k in (kinds | dict.fromkeys(means, pa.float64())).items()]
        )

    def identity(self) -> dict[str, Any]:
        """Return the digest of the model's files, and the precision. Raises ConfigError where there is no model."""
        return {"model": model_digest(self._folder()), "precision": self._precision(chosen_device(self.device))}

    def load(self, device: str = "cpu") -> CausalModel:
        """Return the model, on the device of the parameters; `device` where that says auto. Raises ConfigError."""
        folder = self._folder()
        chosen = chosen_device(self.device, device)
        return load_causal_model(folder, chosen, self._precision(chosen), self.context, self.stride)

    def compute(self, batch: pa.RecordBatch, model: CausalModel | None = None) -> pa.RecordBatch:
        """Return the losses of each document; a null is an empty text."""
        loaded = self.load() if model is None else model
        text = batch.column("text")
        offsets, _ = text_buffers(text)
        documents = []
        for start, stop in slices(offsets):
            documents += loaded.tokens([one or "" for one in text.slice(start, stop - start).to_pylist()])
        nats, counts = loaded.losses(documents)
        of_document = np.split(nats, np.cumsum(counts)[:-1]) if len(counts) else []
        nll = np.array([one.sum(dtype=np.float64) for one in of_document], np.float32)
        columns: dict[str, Numbers] = {"nll": nll, "n_predicted": counts, **_means(nll, counts, np.diff(offsets))}
        if self.min_k is not None:
            columns["min_k"] = np.array([min_k_loss(one, self.min_k) for one in of_document], np.float64)
        return pa.record_batch([pa.array(columns[f.name], f.type) for f in self.columns], schema=self.columns)

    def _folder(self) -> Path:
        return model_folder(self.model, owner="")

    def _precision(self, device: str) -> str:
        return chosen_precision(self.precision, device, on_gpu="bf16")


def min_k_loss(nats: Numbers, ratio: float) -> float:
    """Return the mean of the int(ratio * T) largest of T losses, at least of one; NaN where one is or none is."""
    if not len(nats):
        return float("nan")
    worst = np.sort(nats)[-max(1, int(ratio * len(nats))) :]  # NaN is sorted last, and so counted
    return float(worst.mean(dtype=np.float64))


def _means(nll: Numbers, n_predicted: Numbers, n_bytes: Numbers) -> dict[str, Numbers]:
    """Return a document's loss a token and a byte; NaN where no token was predicted."""
    total = np.where(n_predicted > 0, nll.astype(np.float64), np.nan)
    loss = total / np.maximum(1, n_predicted)
    with np.errstate(over="ignore"):
        perplexity = np.exp(loss)
    bits = np.where(n_bytes > 0, total, np.nan) / np.log(2) / np.maximum(1, n_bytes)
    return {"loss": loss, "perplexity": perplexity, "bits_per_byte": bits}
