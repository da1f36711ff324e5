"""A sentence-transformers model as a function from texts to vectors, a row depending on its text alone.

Tokens come from the model's Rust tokenizer, batches from `canonical_batches` and `torch_batches`, numbers from the
modules' own `forward` in the precision of `torch_precision`. Not taken: torch's dynamic int8, 1.25 times as fast as
bf16 with a mean cosine of 0.92 to fp32; its activations share one scale a batch, so rows depend on their neighbours.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ..storage.errors import ConfigError
from ..storage.model_files import refuse_pickles
from .canonical_batches import Shape, batches
from .torch_batches import batch_threads, map_batches, run_in_parts, tokens_a_batch
from .torch_precision import placed
from .transformers_loading import reading

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
_CHARACTERS_A_TOKEN = 64


@dataclass(frozen=True)
class SentenceEncoder:
    """A loaded model; threads may share it."""

    forward: Any
    """From a dictionary of tensors to one with `sentence_embedding`."""
    tokenizer: Tokenizer
    max_tokens: int
    device: str
    batch_tokens: int
    pool: ThreadPoolExecutor
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    """What the model's tokenizer gives."""
    pad_id: int = 0
    pads_left: bool = False
    prompt: str = ""

    def tokens(self, texts: Sequence[str], max_windows: int) -> tuple[list[Ids], npt.NDArray[np.int64]]:
        """Return the token ids of each window of `max_tokens`, special tokens included, and each text's windows.

        Of a text no more than 64 characters a token are looked at, which bounds time and memory.
        """
        n_characters = _CHARACTERS_A_TOKEN * self.max_tokens * max_windows
        found, counts = [], np.empty(len(texts), np.int64)
        encodings = self.tokenizer.encode_batch_fast([self.prompt + text[:n_characters] for text in texts])
        for i, encoding in enumerate(encodings):
            windows = [encoding, *encoding.overflowing[: max_windows - 1]] if max_windows > 1 else [encoding]
            found += [np.array(window.ids, np.int64) for window in windows]
            counts[i] = len(windows)
        return found, counts

    def vectors(self, windows: Sequence[Ids], dimension: int) -> Vectors:
        """Return the first `dimension` numbers of each window's vector; a window without any token gets zeros."""
        n_tokens = np.array([len(ids) for ids in windows], np.int64)
        some = np.flatnonzero(n_tokens)
        jobs = [(some[rows], shape) for rows, shape in batches(n_tokens[some], self.max_tokens, self.batch_tokens)]
        results = map_batches(self.pool, lambda job: self._run([windows[i] for i in job[0]], job[1]), jobs)
        out: Vectors = np.zeros((len(windows), dimension), np.float32)
        for (rows, _), found in zip(jobs, results, strict=True):
            out[rows] = found[:, :dimension]
        return out

    def _run(self, windows: Sequence[Ids], shape: Shape) -> Vectors:
        parts = run_in_parts(self._forward, windows, shape, self.device, "embeddings", "max_tokens")
        return np.concatenate(parts)

    def _forward(self, windows: Sequence[Ids], shape: Shape) -> Vectors:
        import torch

        ids = np.full((shape.rows, shape.length), self.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row in range(shape.rows):
            one = windows[min(row, len(windows) - 1)]  # rows that lack are the last again: padded as their class is
            place = slice(shape.length - len(one), None) if self.pads_left else slice(len(one))
            ids[row, place], mask[row, place] = one, 1
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(arrays[name]).to(self.device) for name in self.inputs}
            found = self.forward(tensors)["sentence_embedding"][: len(windows)]
            vectors: Vectors = found.float().cpu().numpy()
        return vectors


def load_encoder(folder: Path, device: str, precision: str, max_tokens: int | None) -> SentenceEncoder:
    """Return the model of a folder on a device. Raises ConfigError where it is none that this can run."""
    model = _read(folder)
    tokenizer: Any = getattr(model, "tokenizer", None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(tokenizer, "model_input_names"):
        raise ConfigError(f'embeddings: "{folder}" has no transformer with a fast tokenizer; try static_embeddings')
    limit = int(model.max_seq_length or min(tokenizer.model_max_length, 512))
    if max_tokens is not None and max_tokens > limit:
        raise ConfigError(f"embeddings: max_tokens is {max_tokens}, but the model reads at most {limit}; lower it")
    length = max_tokens or limit
    model = placed(model, device, precision, "embeddings")
    return SentenceEncoder(
        forward=model.forward,
        tokenizer=_windows_of(backend, length),
        max_tokens=length,
        device=device,
        batch_tokens=tokens_a_batch(device),
        pool=batch_threads(device),
        inputs=tuple(n for n in ("input_ids", "attention_mask", "token_type_ids") if n in tokenizer.model_input_names),
        pad_id=int(tokenizer.pad_token_id or 0),
        pads_left=tokenizer.padding_side == "left",
        prompt=_prompt(model, folder),
    )


def _read(folder: Path) -> Any:
    """Return the SentenceTransformer of a folder."""
    from sentence_transformers import SentenceTransformer

    refuse_pickles(folder)
    with reading(folder, "embeddings", "a sentence-transformers model"):
        return SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        ).eval()  # fmt: skip


def _windows_of(backend: Any, max_tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _prompt(model: Any, folder: Path) -> str:
    """Return what `encode` puts before every text by default."""
    prompt = (model.prompts or {}).get(model.default_prompt_name or "") or ""
    if prompt and any(getattr(module, "include_prompt", True) is False for module in model):
        raise ConfigError(f'embeddings: "{folder}" leaves its prompt out of the mean, which tamis cannot; use another')
    return str(prompt)
