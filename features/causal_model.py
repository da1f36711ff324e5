"""A causal language model as a function from token ids to their negative log-likelihoods, each document by itself.

Rows are padded on the right and have no mask: a causal model never looks at what comes after, so attention stays inside
the document and keeps its fast kernel. The decoder runs on canonical batches; the layer of the vocabulary then runs on
predicted positions alone, in chunks of one size, so that the logits are never whole in memory (128 positions of
150,000 tokens: 77 MB; a batch of 512: 307) and no chunk's shape follows the neighbours. The model's own `forward` makes
logits of hidden states, with a decoder that hands on what it is given: soft caps and scales stay the model's business.
The numbers of a mixture of experts may differ in their last bits with the neighbours: experts see other shapes.
"""

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ..storage.errors import ConfigError
from .canonical_batches import Shape, batches
from .causal_tokens import read_tokenizer
from .torch_batches import batch_threads, run_in_parts, tokens_a_batch
from .torch_precision import placed, torch_type
from .transformers_loading import reading

Ids = npt.NDArray[np.int64]
Losses = npt.NDArray[np.float32]
MOST_CONTEXT = 2048
_CHUNK_CPU = 128
_CHUNK_GPU = 1024
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


class Window(NamedTuple):
    """What the model reads at once, and the token after it; the first `n_context` tokens predict nothing here."""

    ids: Ids
    n_context: int


@dataclass(frozen=True)
class CausalModel:
    """A loaded model; threads may share it."""

    decoder: Any
    """From token ids to hidden states."""
    head: Any
    """From hidden states, as `inputs_embeds`, to logits."""
    tokenizer: Tokenizer
    prefix: tuple[int, ...]
    """What the tokenizer puts before a text: context that is not predicted."""
    context: int
    stride: int
    device: str
    batch_tokens: int
    chunk: int
    pool: ThreadPoolExecutor

    def tokens(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text, without the prefix."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.int64) for one in encodings]

    def losses(self, documents: Sequence[Ids]) -> tuple[Losses, Ids]:
        """Return the nats of every predicted token, document after document, and how many each document has."""
        begin = np.array(self.prefix, np.int64)
        cut = [windows(np.concatenate([begin, ids]), len(begin), self.context, self.stride) for ids in documents]
        every = list(chain.from_iterable(cut))
        counts = np.array([sum(len(w.ids) - 1 - w.n_context for w in of_one) for of_one in cut], np.int64)
        n_read = np.array([len(window.ids) - 1 for window in every], np.int64)
        jobs = list(batches(n_read, self.context, self.batch_tokens))
        found: list[Losses] = [np.empty(0, np.float32)] * len(every)
        for (rows, _), nats in zip(jobs, self.pool.map(lambda job: self._run(every, *job), jobs), strict=True):
            for row, of_row in zip(rows.tolist(), nats, strict=True):
                found[row] = of_row
        return np.concatenate(found) if found else np.empty(0, np.float32), counts

    def _run(self, every: Sequence[Window], rows: Ids, shape: Shape) -> list[Losses]:
        chosen = [every[i] for i in rows.tolist()]
        return [*chain.from_iterable(run_in_parts(self._forward, chosen, shape, self.device, "losses", "context"))]

    def _forward(self, chosen: Sequence[Window], shape: Shape) -> list[Losses]:
        """Return the nats of each window's predicted tokens."""
        import torch

        ids = np.empty((shape.rows, shape.length), np.int64)
        for row in range(shape.rows):
            one = chosen[min(row, len(chosen) - 1)].ids[:-1]  # rows that lack are the last again
            ids[row, : len(one)], ids[row, len(one) :] = one, one[0]
        places = [row * shape.length + np.arange(w.n_context, len(w.ids) - 1) for row, w in enumerate(chosen)]
        place = np.concatenate(places)
        n_lacking = -len(place) % self.chunk
        place = np.pad(place, (0, n_lacking), mode="edge")
        target = np.pad(np.concatenate([w.ids[w.n_context + 1 :] for w in chosen]), (0, n_lacking), mode="edge")
        with torch.inference_mode():
            hidden = self.decoder(input_ids=torch.from_numpy(ids).to(self.device), use_cache=False)[0].flatten(0, 1)
            found = []
            for at in range(0, len(place), self.chunk):
                of_chunk = torch.from_numpy(place[at : at + self.chunk]).to(self.device)
                expected = torch.from_numpy(target[at : at + self.chunk]).to(self.device)
                logits = self.head(inputs_embeds=hidden[of_chunk][None], use_cache=False).logits[0].float()
                found.append(torch.nn.functional.cross_entropy(logits, expected, reduction="none"))
            nats: Losses = torch.cat(found).cpu().numpy()
        return np.split(nats, np.cumsum([len(one) for one in places]))[: len(chosen)]


def windows(ids: Ids, n_prefix: int, context: int, stride: int) -> list[Window]:
    """Return the windows of a document: every token behind the prefix and behind the first is predicted once.

    A window reads `context` tokens and predicts the one after each of them; the next begins `stride` tokens later.
    """
    first = max(0, n_prefix - 1)
    n_read = len(ids) - 1
    if n_read <= first:
        return []
    n_more = max(0, -(-(n_read - context) // stride))
    starts = [number * stride for number in range(n_more + 1)]
    return [Window(ids[at : at + context + 1], context - stride if at else first) for at in starts]


def load_causal_model(
    folder: Path, device: str, precision: str, context: int | None, stride: int | None
) -> CausalModel:
    """Return the model of a folder on a device. Raises ConfigError where it is none that this can run."""
    tokenizer, prefix = read_tokenizer(folder)
    model = _read(folder, torch_type("fp32" if device == "cpu" else precision))
    n_vectors = int(model.get_input_embeddings().weight.shape[0])
    if (n_ids := max(tokenizer.get_vocab().values(), default=-1) + 1) > n_vectors:
        raise ConfigError(f'losses: the tokenizer of "{folder}" has {n_ids} tokens, its model {n_vectors}')
    length = _context(model.config.get_text_config(), context)
    model = placed(model, device, precision, "losses")
    decoder, head = _parts(model, folder)
    return CausalModel(
        decoder=decoder,
        head=head,
        tokenizer=tokenizer,
        prefix=prefix,
        context=length,
        stride=_stride(length, stride),
        device=device,
        batch_tokens=tokens_a_batch(device),
        chunk=_CHUNK_CPU if device == "cpu" else _CHUNK_GPU,
        pool=batch_threads(device),
    )


def _read(folder: Path, dtype: Any) -> Any:
    """Return the model with all of its weights: transformers makes up those that a file lacks."""
    from transformers import AutoModelForCausalLM

    with reading(folder, "losses", "a causal language model of transformers"):
        model, found = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, output_loading_info=True
        )
    if lacking := sorted(found["missing_keys"]):
        raise ConfigError(
            f'losses: "{folder}" lacks {len(lacking)} weights of a causal language model, such as {lacking[0]}; '
            "get the model again, or take one that predicts tokens"
        )
    return model.eval()


def _context(config: Any, context: int | None) -> int:
    most = next((int(n) for name in _LENGTHS if (n := getattr(config, name, None))), None)
    if context is not None and most is not None and context > most:
        raise ConfigError(f"losses: context is {context}, but the model reads at most {most}; lower it")
    return context or min(most or MOST_CONTEXT, MOST_CONTEXT)


def _stride(context: int, stride: int | None) -> int:
    if stride is not None and stride > context:
        raise ConfigError(f"losses: stride is {stride}, but a window has {context} tokens; lower it")
    return stride or context


def _parts(model: Any, folder: Path) -> tuple[Any, Any]:
    """Return the decoder, and the model with a decoder that hands on hidden states; together they are the model.

    Raises ConfigError where they are not, or where a token's logits follow the tokens after it.
    """
    import torch

    class Given(torch.nn.Module):  # type: ignore[misc]
        def forward(self, *_: Any, inputs_embeds: Any = None, **__: Any) -> Any:
            return _Hidden(inputs_embeds)

        @property
        def decoder(self) -> Any:
            return self  # OPT asks for it by name

    name = model.base_model_prefix
    decoder = getattr(model, name, model)
    head = copy.copy(model)
    head.__dict__["_modules"] = {**model._modules, name: Given()}
    one = torch.arange(16, device=model.device) % int(model.get_input_embeddings().weight.shape[0])
    other = torch.where(torch.arange(16, device=model.device) < 12, one, one.flip(0))
    with torch.inference_mode(), reading(folder, "losses", "a model whose logits follow from its last hidden states"):
        expected = model(input_ids=torch.stack([one, other]), use_cache=False).logits.float()
        hidden = decoder(input_ids=torch.stack([one, other]), use_cache=False)[0]
        found = head(inputs_embeds=hidden, use_cache=False).logits.float()
    _require(found, expected, f'"{folder}" makes its logits of more than its last hidden states, which tamis cannot')
    _require(expected[0, :12], expected[1, :12], f'"{folder}" looks at later tokens: it is no causal language model')
    return decoder, head


class _Hidden(SimpleNamespace):
    """What decoders return: an attribute of any name, most of them None, and the hidden states at 0."""

    def __init__(self, hidden: Any) -> None:
        super().__init__(last_hidden_state=hidden)

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, place: Any) -> Any:
        return (self.last_hidden_state,)[place]


def _require(found: Any, expected: Any, otherwise: str) -> None:
    """Raise ConfigError where logits differ by more than rounding; NaN is equal to itself."""
    import torch

    tolerance = 0.01 * float(torch.nan_to_num(expected, posinf=0.0, neginf=0.0).abs().max())
    if not torch.allclose(found, expected, rtol=0.0, atol=tolerance, equal_nan=True):
        raise ConfigError(f"losses: {otherwise}; take another model")
