"""Llama-style decoders of three sizes, from nothing: the auxiliary models whose losses choose documents.

Parameters with a vocabulary of 8,192, embeddings included (they are tied, or they would be half of `tiny`):
`tiny` 3.3M, `small` 20.8M, `base` 160M, of which 152M are not embeddings: the shape of CoLoR-Filter's auxiliary models
(12 layers of 1,024 with 16 heads, context 512). Weights are drawn here in a fixed order, so they follow the seed alone
and not the version of transformers: normal, 0.02, and 1/sqrt(2 depth) of it for what is added to the residual stream.
Sources: Touvron et al. 2023, https://arxiv.org/abs/2302.13971; Brandfonbrener et al. 2024,
https://arxiv.org/abs/2406.10670; initial weights: Radford et al. 2019 (GPT-2).
"""

from dataclasses import dataclass
from typing import Any

from .byte_bpe import END_ID

_SPREAD = 0.02
_ADDED = ("o_proj.weight", "down_proj.weight")  # what writes to the residual stream


@dataclass(frozen=True)
class Decoder:
    """The shape of a decoder; `dataclasses.replace` adjusts a named one."""

    depth: int
    """Layers."""
    width: int
    """Numbers of the residual stream."""
    heads: int
    """Attention heads of a layer."""
    context: int
    """Tokens that it sees at most."""

    def __post_init__(self) -> None:
        for name in ("depth", "width", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.context < 2:
            raise ValueError(f"context is {self.context}, expected at least 2: one token and the one that it predicts")
        if self.width % (2 * self.heads):
            raise ValueError(f"width is {self.width}, expected a multiple of twice the {self.heads} heads")

    @property
    def inner(self) -> int:
        """Width inside the feed-forward layers: 8/3 of the stream's, the next multiple of 64."""
        return -(-8 * self.width // (3 * 64)) * 64


SIZES = {
    "tiny": Decoder(depth=4, width=192, heads=6, context=256),
    "small": Decoder(depth=10, width=384, heads=6, context=512),
    "base": Decoder(depth=12, width=1024, heads=16, context=512),
}


def build(config: Decoder, vocabulary: int, seed: int) -> Any:
    """Return a LlamaForCausalLM in fp32 on the CPU, with weights that follow the configuration and the seed alone."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=config.width,
        intermediate_size=config.inner,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        max_position_embeddings=config.context,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
        tie_word_embeddings=True,
        use_cache=False,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        model = LlamaForCausalLM(shape).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.dim() == 1:
                weight.fill_(1.0)
            else:
                spread = _SPREAD / (2 * config.depth) ** 0.5 if name.endswith(_ADDED) else _SPREAD
                weight.normal_(0.0, spread, generator=generator)
    return model.train()


def n_parameters(model: Any) -> int:
    """Return the number of a model's parameters, tied ones once."""
    return sum(weight.numel() for weight in model.parameters())
