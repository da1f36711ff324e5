"""The small model that is trained on every choice: its settings, its tokenizer, and the weights that it begins with.

The same for all choices: a seed's number alone decides on new weights, and the tokenizer is learned from a sample of
the pool, not of a choice, so that all losses are about the same tokens.

The learning rate is constant after a warm-up. A curve is then a training to each of its points, and "how many tokens
bring this loss" has an answer; under a cosine only the last point would be. The price: all losses are higher than with
a rate that falls, and from `start` the first ones may be higher than that model's, whose rate fell.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from tokenizers import Tokenizer

from ..features.byte_bpe import SMALLEST, train_tokenizer
from ..features.causal_loading import LENGTHS, check_vocabulary, read_causal_model
from ..features.causal_tokens import begin_tokens, read_tokenizer
from ..features.decoder import SIZES, Decoder, build
from ..features.packing import Packing
from ..features.torch_precision import check_device, chosen_device, chosen_precision
from ..features.training_settings import Settings
from ..selectors.keyed import stream_key
from ..storage.fingerprint import fingerprint
from ..storage.model_files import model_digest, model_json
from ..storage.survivors import Survivors
from .token_samples import sampled_texts
from .work import Maps

TOKENIZER_BYTES = 8 << 20
"""Text that the tokenizer is learned from at most."""
_LOADING = Lock()
"""One thread at a time: transformers is imported name by name when it is first used, and may not be by two at once."""
MOST_CONTEXT = 512
"""Tokens that a model which is gone on from sees at once: the choices are compared, not what it could read."""


@dataclass(frozen=True)
class ProxySettings:
    """How choices are compared by trainings; the defaults take minutes."""

    tokens: int = 262_144
    """Tokens of a training, if the smallest choice has as many."""
    seeds: int = 3
    """Trainings of each choice: other first weights, other documents of it, another order."""
    shape: Decoder = SIZES["tiny"]
    """Of a new model."""
    vocabulary: int = 4096
    """Of a new model."""
    start: Path | None = None
    """The folder of a model that is gone on from, with its tokenizer, instead of new weights."""
    rate: float = 1e-3
    """The learning rate after the warm-up."""
    warmup: int = 20
    """Updates in which it rises in a line; at most a tenth of all."""
    batch: int = 4
    """Sequences of an update."""
    held_out_tokens: int = 8_192
    """Tokens of each target, and of the pool, that losses are taken of at most."""
    points_a_doubling: int = 1
    """How often losses are taken while the tokens double."""
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    """That of the configuration: of all random numbers."""

    def __post_init__(self) -> None:
        least = {"seeds": 1, "batch": 1, "warmup": 0, "points_a_doubling": 1, "held_out_tokens": 2, "tokens": 2}
        for name, smallest in (least | {"vocabulary": SMALLEST}).items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {smallest}")
        if not self.rate > 0:
            raise ValueError(f"rate is {self.rate}, expected more than 0")
        check_device(self.device)

    def key(self, purpose: str, number: int = 0) -> int:
        """Return the key of random numbers."""
        return stream_key(self.seed, "proxy", purpose, number)


@dataclass(frozen=True)
class Proxy:
    """The model before its training."""

    settings: ProxySettings
    tokenizer: Tokenizer
    begin: tuple[int, ...]
    """Tokens before each document."""
    context: int
    """Tokens of a sequence."""
    name: str
    """Digest of the tokenizer and of what the weights follow from."""

    @property
    def device(self) -> str:
        """Where it is trained."""
        return chosen_device(self.settings.device)

    @property
    def update(self) -> int:
        """Tokens of an update."""
        return self.settings.batch * self.context

    def weights(self, number: int) -> Any:
        """Return the model with the weights that the training with this number begins with."""
        settings = self.settings
        with _LOADING:
            if settings.start is not None:
                model = read_causal_model(settings.start, "fp32")
                check_vocabulary(self.tokenizer, model, settings.start)
            else:
                key = settings.key("weights", number) >> 1  # torch wants 63 bits
                model = build(settings.shape, settings.vocabulary, key).eval()
            return model.to(self.device)

    def training(self, tokens: int) -> Settings:
        """Return the settings of a training on so many tokens."""
        steps = max(1, tokens // self.update)
        settings = self.settings
        return Settings(
            steps, batch=settings.batch, accumulation=1, peak_rate=settings.rate, final_share=1.0,
            warmup_share=min(0.1, settings.warmup / steps),
            precision="bf16" if chosen_precision(settings.precision, self.device, "bf16") == "bf16" else "fp32",
        )  # fmt: skip


def proxy_model(maps: Maps, pool: Survivors, settings: ProxySettings) -> Proxy:
    """Return the model of the settings; its tokenizer is learned from the pool where the lake does not have it.

    Raises ConfigError where `start` is no model.
    """
    if settings.start is not None:
        folder = settings.start
        tokenizer, _ = read_tokenizer(folder)
        return Proxy(settings, tokenizer, begin_tokens(folder), _context(folder), model_digest(folder))
    key = settings.key("tokenizer")
    recipe = {"tokenizer": settings.vocabulary, "bytes": TOKENIZER_BYTES, "pool": pool.digest, "key": key}
    path = maps.lake.state(fingerprint(recipe)) / "tokenizer.json"
    if not path.exists():
        texts = sampled_texts(maps, "proxy tokenizer", pool, key, TOKENIZER_BYTES)
        maps.lake.publish_bytes(path, train_tokenizer(texts, settings.vocabulary).to_str().encode())
    tokenizer = Tokenizer.from_file(str(path))
    name = fingerprint([tokenizer.to_str(), settings.vocabulary, asdict(settings.shape)])
    return Proxy(settings, tokenizer, Packing.begin, settings.shape.context, name)


def _context(folder: Path) -> int:
    config = model_json(folder / "config.json") or {}
    return min([MOST_CONTEXT, *(int(config[name]) for name in LENGTHS if config.get(name))])
