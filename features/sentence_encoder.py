"""A sentence-transformers model as a function from texts to vectors, a row depending on its text alone.

Tokens come from the model's Rust tokenizer, batches from `canonical_batches`, numbers from the modules' own `forward`.
On a CPU each batch has one thread and there are as many batches at once as torch would use threads, which is faster
than threads inside a batch, and shared by all who call. Batches of 512 tokens are as fast there as any larger. A GPU is
fed by one thread, which is also its lock, with batches of 32,768 tokens.

bf16 and fp16 on a CPU are those of the linear layers alone; sums, norms, attention and the residual stream stay
fp32. That is as fast as the whole model in bf16 (both 2.5 times fp32 with AVX512_BF16), with a third of its error. On a
GPU the whole model is of that type. Not taken: torch's dynamic int8, 1.25 times as fast as bf16 with a mean cosine of
0.92 to fp32; its activations share one scale a batch, so that rows depend on their neighbours.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ..storage.errors import ConfigError
from .canonical_batches import Shape, batches
from .stopping import stop_check

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
BATCH_TOKENS_CPU = 512
BATCH_TOKENS_GPU = 32_768
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
        check = stop_check()

        def run(job: tuple[npt.NDArray[np.int64], Shape]) -> Vectors:
            check()
            return self._run([windows[i] for i in job[0]], job[1])

        results = self.pool.map(run, jobs)
        out: Vectors = np.zeros((len(windows), dimension), np.float32)
        for (rows, _), found in zip(jobs, results, strict=True):
            out[rows] = found[:, :dimension]
        return out

    def _run(self, windows: Sequence[Ids], shape: Shape) -> Vectors:
        """Compute one batch; where memory lacks, two of half the rows, whose shape again does not follow the texts."""
        import torch

        try:
            return self._forward(windows, shape)
        except torch.OutOfMemoryError as error:
            if shape.rows == 1:
                raise ConfigError(
                    f"embeddings: one text of {shape.length} tokens is too much for the memory of {self.device} "
                    f"({str(error).strip().splitlines()[0][:200]}); set a smaller max_tokens or device: cpu"
                ) from error
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()  # outside of the except block, whose traceback holds the tensors
        half = Shape((shape.rows + 1) // 2, shape.length)
        parts = [windows[: half.rows], windows[half.rows :]]
        return np.concatenate([self._run(part, half) for part in parts if part])

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
    import torch

    model = _read(folder)
    tokenizer: Any = getattr(model, "tokenizer", None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(tokenizer, "model_input_names"):
        raise ConfigError(f'embeddings: "{folder}" has no transformer with a fast tokenizer; try static_embeddings')
    limit = int(model.max_seq_length or min(tokenizer.model_max_length, 512))
    if max_tokens is not None and max_tokens > limit:
        raise ConfigError(f"embeddings: max_tokens is {max_tokens}, but the model reads at most {limit}; lower it")
    length = max_tokens or limit
    on_cpu = device == "cpu"
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    model = _with_linears(model, dtype) if on_cpu else _moved(model, device, dtype)
    return SentenceEncoder(
        forward=model.forward,
        tokenizer=_windows_of(backend, length),
        max_tokens=length,
        device=device,
        batch_tokens=BATCH_TOKENS_CPU if on_cpu else BATCH_TOKENS_GPU,
        pool=_single_threads(torch.get_num_threads() if on_cpu else 1),
        inputs=tuple(n for n in ("input_ids", "attention_mask", "token_type_ids") if n in tokenizer.model_input_names),
        pad_id=int(tokenizer.pad_token_id or 0),
        pads_left=tokenizer.padding_side == "left",
        prompt=_prompt(model, folder),
    )


def _read(folder: Path) -> Any:
    """Return the SentenceTransformer of a folder, without the bar that transformers draws meanwhile."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True).eval()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f'embeddings: "{folder}" is not a sentence-transformers model ({reason})') from error
    finally:
        if drawn:
            logging.enable_progress_bar()


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


def _moved(model: Any, device: str, dtype: Any) -> Any:
    """Return the model on a device. Raises ConfigError where torch has no such device."""
    try:
        return model.to(device=device, dtype=dtype)
    except (AssertionError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"embeddings: the device {device!r} cannot be used ({reason}); try device: auto") from error


def _with_linears(model: Any, dtype: Any) -> Any:
    """Give the linear layers weights of a type; what goes in is rounded to it, what comes out is fp32 again."""
    import torch
    from torch.nn import functional

    class Linear(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, one: Any) -> None:
            super().__init__()
            self.weight = one.weight.detach().to(dtype)
            self.bias = None if one.bias is None else one.bias.detach().to(dtype)

        def forward(self, x: Any) -> Any:
            return functional.linear(x.to(dtype), self.weight, self.bias).float()

    if dtype != torch.float32:
        for module in list(model.modules()):
            for name, child in module.named_children():
                if type(child) is torch.nn.Linear:
                    setattr(module, name, Linear(child))
    return model.float() if dtype == torch.float32 else model


def _single_threads(n: int) -> ThreadPoolExecutor:
    """Return a pool whose threads compute alone; other threads of the process find torch as it was."""
    import torch

    before = torch.get_num_threads()
    started = Barrier(n + 1)

    def alone() -> None:
        torch.get_num_threads()  # a thread's first look takes the process's number, and must come first
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(n, thread_name_prefix="tamis-torch", initializer=alone)
    for _ in range(n):
        pool.submit(started.wait)  # makes every thread begin now
    started.wait()
    torch.set_num_threads(before)  # the number is also what threads begin with that come later
    return pool
