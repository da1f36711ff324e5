"""How a decoder is trained: steps, batches, precision, and the learning rate at each step.

bf16 is the default where a CPU has instructions for it: `tiny` at context 256 trains 1.7 times as fast as in fp32 (20
steps of 2,048 tokens each by turns, two cores with AVX512_BF16).
After 40 such steps on source code the held-out losses were 7.513 and 7.517. Without the instructions, auto is fp32.
"""

from dataclasses import dataclass
from math import cos, pi
from typing import Any, Literal

from .torch_precision import has_bf16


@dataclass(frozen=True)
class Settings:
    """The settings of AdamW under a cosine.

    Peak, warm-up, cosine and betas are CoLoR-Filter's; it has eps 1e-15, no weight decay, updates of 256 sequences and
    a z-loss, which is left out here. Source: Brandfonbrener et al. 2024, https://arxiv.org/abs/2406.10670, appendix.
    """

    steps: int
    """Updates, over which the learning rate follows its cosine; fewer where the sequences end."""
    batch: int = 8
    """Sequences that are computed together, which is what memory holds."""
    accumulation: int = 4
    """Batches whose gradients make one update."""
    peak_rate: float = 1e-3
    """The highest learning rate."""
    final_share: float = 0.1
    """The learning rate of the last update, as a share of the highest."""
    warmup_share: float = 0.05
    """Share of the steps in which the learning rate rises in a line."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    """Decoupled, of matrices and not of norms; 0 is the paper's."""
    clip: float = 1.0
    """Longest gradient, over all parameters."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: what matrices are multiplied in, under autocast; weights, sums and the optimizer are fp32. auto: bf16
    where the hardware has it."""
    evaluate_every: int = 0
    """Steps from one held-out loss to the next; 0: before the first step and after the last alone."""
    patience: int | None = None
    """Stop after so many held-out losses without a new lowest one, and keep the weights of that; default: neither."""
    most_skipped: int = 5
    """Steps in a row without a finite loss and gradient that end the training with an error."""

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "accumulation": 1, "most_skipped": 1, "evaluate_every": 0, "weight_decay": 0}
        for name, smallest in (least | ({} if self.patience is None else {"patience": 1})).items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {smallest}")
        for name in ("peak_rate", "clip", "eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")
        for name in ("warmup_share", "final_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")

    def rate(self, step: int) -> float:
        """Return the learning rate of an update, the first being 0: a line up to the peak, then half a cosine."""
        warmup = round(self.warmup_share * self.steps)
        if step < warmup:
            return self.peak_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - 1 - warmup)
        return self.peak_rate * (self.final_share + (1 - self.final_share) * (1 + cos(pi * min(1.0, done))) / 2)

    def is_due(self, step: int) -> bool:
        """Say whether the held-out loss is taken after so many steps."""
        return step in (0, self.steps) or bool(self.evaluate_every and step % self.evaluate_every == 0)

    def autocast(self, device: str) -> Any:
        """Return the context in which losses are computed on a device, "cpu", "cuda" or "mps"."""
        import torch

        bf16 = self.precision == "bf16" or (self.precision == "auto" and _multiplies_bf16(device))
        return torch.autocast(device, torch.bfloat16, enabled=bf16)


def _multiplies_bf16(device: str) -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported()) if device == "cuda" else device == "cpu" and has_bf16()
