"""How a folder becomes a causal language model: what reads tokens and what makes logits, taken apart and tried.

The decoder gives hidden states. The model's own `forward`, with a decoder that hands on what it is given, makes logits
of them: soft caps and scales stay the model's business. Sixteen tokens show that both together are the model, and that
no token's logits follow a later one: transformers also loads models as causal that are not, and makes up weights.
"""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer

from ..storage.errors import ConfigError
from ..storage.model_files import refuse_pickles
from .causal_model import CausalModel
from .causal_tokens import read_tokenizer
from .torch_batches import batch_threads, tokens_a_batch
from .torch_precision import placed, torch_type
from .transformers_loading import reading

MOST_CONTEXT = 2048
_CHUNK_CPU = 128
_CHUNK_GPU = 1024
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def load_causal_model(
    folder: Path, device: str, precision: str, context: int | None, stride: int | None
) -> CausalModel:
    """Return the model of a folder on a device. Raises ConfigError where it is none that this can run."""
    tokenizer, prefix = read_tokenizer(folder)
    model = read_causal_model(folder, "fp32" if device == "cpu" else precision)
    check_vocabulary(tokenizer, model, folder)
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


def read_causal_model(folder: Path, precision: str) -> Any:
    """Return the model with all of its weights, in fp32, bf16 or fp16, on the CPU. Raises ConfigError.

    transformers makes up weights that a file lacks.
    """
    from transformers import AutoModelForCausalLM

    refuse_pickles(folder)
    with reading(folder, "losses", "a causal language model of transformers"):
        model, found = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=torch_type(precision), local_files_only=True, output_loading_info=True,
            trust_remote_code=False, use_safetensors=True,  # without the first it asks at the terminal
        )  # fmt: skip
    if lacking := sorted(found["missing_keys"]):
        raise ConfigError(
            f'losses: "{folder}" lacks {len(lacking)} weights of a causal language model, such as {lacking[0]}; '
            "get the model again, or take one that predicts tokens"
        )
    return model.eval()


def check_vocabulary(tokenizer: Tokenizer, model: Any, folder: Path) -> None:
    """Raise ConfigError where a tokenizer has ids that the model knows nothing of."""
    n_vectors = int(model.get_input_embeddings().weight.shape[0])
    if (n_ids := max(tokenizer.get_vocab().values(), default=-1) + 1) > n_vectors:
        raise ConfigError(f'losses: the tokenizer of "{folder}" has {n_ids} tokens, its model {n_vectors}')


def _context(config: Any, context: int | None) -> int:
    most = next((int(n) for name in LENGTHS if (n := getattr(config, name, None))), None)
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
