"""What a torch model computes in: its device, its precision, and how it comes to both.

bf16 and fp16 on a CPU are those of the linear layers alone; sums, norms, attention and the residual stream stay
fp32. For all-MiniLM that is as fast as the whole model in bf16 (both 2.5 times fp32 with AVX512_BF16), with a third of
its error. On a GPU the whole model is of that type.
"""

from importlib.metadata import version as installed
from typing import Any, Literal

from ..storage.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def check_device(device: str) -> None:
    """Raise ValueError where that is no name of a device."""
    if device not in ("auto", "cpu", "cuda", "mps") and not device.removeprefix("cuda:").isdigit():
        raise ValueError(f"device is {device!r}, expected auto, cpu, cuda, cuda:0 or mps")


def chosen_device(device: str, default: str = "cpu") -> str:
    """Return the device that auto means: `default`, where that is not cpu, else a GPU where there is one.

    torch's build for CPUs alone says so in its version, and is not imported.
    """
    if device != "auto":
        return device
    if default != "cpu":
        return default
    if installed("torch").endswith("+cpu"):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def chosen_precision(precision: Precision, device: str, on_gpu: Literal["bf16", "fp16"]) -> str:
    """Return the precision that auto means on a device; on a CPU bf16 where it has instructions for it, else fp32."""
    if precision != "auto":
        return precision
    if device != "cpu":
        return on_gpu
    return "bf16" if has_bf16() else "fp32"


def torch_type(precision: str) -> Any:
    """Return the torch dtype of fp32, bf16 or fp16."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def placed(model: Any, device: str, precision: str, feature: str) -> Any:
    """Return the model on a device in a precision. Raises ConfigError where torch has no such device."""
    dtype = torch_type(precision)
    if device == "cpu":
        return model.float() if precision == "fp32" else _with_linears(model.float(), dtype)
    try:
        return model.to(device=device, dtype=dtype)
    except (AssertionError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"{feature}: the device {device!r} cannot be used ({reason}); try device: auto") from error


def has_bf16() -> bool:
    """Say whether this CPU multiplies bf16: without the instructions it is slower than fp32."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return bool(features.get("avx512bf16") or features.get("amx-bf16"))


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

    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is torch.nn.Linear:
                setattr(module, name, Linear(child))
    return model
