"""One training of the small model on one choice: its documents' tokens, its curve of losses, and what is published.

The record is named by all that decides it, so a choice that was compared before is not trained on again, whatever it
was compared with; only other texts, another budget or other settings make it another training. Names of choices and
targets are no part of it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from ..features.decoder import n_parameters
from ..features.packing import Ids, Packing
from ..features.training import Sequences, held_out_loss
from ..features.training_settings import Settings
from ..features.training_state import History
from ..storage.errors import ConfigError
from ..storage.fingerprint import fingerprint
from ..storage.proxies import proxy_record, publish_proxy
from ..storage.publish import remove_tree
from ..storage.survivors import Survivors
from ..storage.trainings import training_alone
from .learning_curves import log_spaced
from .proxy_model import Proxy
from .proxy_texts import HeldOut
from .resuming import Resuming
from .runs import Stage
from .token_samples import PIECE, TokenSample, read_tokens
from .work import Maps

VERSION = 1
"""Raised when the same training gives other losses."""
CUT = 2048
"""Bytes of the pieces that are sampled."""
DOUBLINGS = 5
"""Losses are taken from this many doublings before the last update on."""
Points = list[list[float]]
"""At each point the tokens, and the loss of each part."""


def train_with_losses(
    model: Any, sequences: Sequences, settings: Settings, parts: Sequence[Sequence[Ids]], grid: set[int],
    update: int, run: Resuming, after: Callable[[int, float], object] = lambda step, loss: None,
) -> Points:  # fmt: skip
    """Train from where `run` is; return tokens and losses before the first step and after each step of `grid`.

    `update` is the tokens of a step; after each, `after` is called with it and the loss of its sequences. Raises
    ConfigError where a loss is not finite.
    """
    points: Points = run.kept.setdefault("points", [])

    def measure(step: int) -> None:
        losses = [held_out_loss(model, part, settings) for part in parts]
        if not all(map(isfinite, losses)):
            raise ConfigError(f"no finite loss after {step:,} steps; lower the rate (now {settings.peak_rate:g})")
        points.append([step * update, *losses])

    def after_step(history: History) -> None:
        if history.step in grid:
            measure(history.step)
        after(history.step, history.losses[-1] or float("nan"))

    if not points:
        measure(0)
    run.train(model, sequences, settings, after=after_step)
    return points


@dataclass(frozen=True)
class ProxyTraining:
    """One training and what it follows from."""

    proxy: Proxy
    documents: Survivors
    number: int
    """Of the seed."""
    tokens: int
    parts: tuple[HeldOut, ...]

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides the losses."""
        return {
            "proxy": VERSION, "model": self.proxy.name, "documents": self.documents.digest, "tokens": self.tokens,
            "number": self.number, "seed": self.proxy.settings.seed, "context": self.proxy.context,
            "begin": self.proxy.begin, "cut": [CUT, PIECE], "settings": asdict(self.proxy.training(self.tokens)),
            "points_a_doubling": self.proxy.settings.points_a_doubling, "parts": sorted(self._parts),
        }  # fmt: skip

    @property
    def key(self) -> str:
        """Name of the record."""
        return fingerprint(self.recipe)

    def losses(self, record: dict[str, Any], part: HeldOut) -> list[tuple[float, float]]:
        """Return the curve of one of the parts."""
        column = 1 + record["parts"].index(part.digest)
        return [(point[0], point[column]) for point in record["points"]]

    def run(self, maps: Maps, after: Callable[[int, float], object]) -> dict[str, Any]:
        """Train, publish the record and return it; where another process does, wait for its record."""
        with training_alone(maps.lake, self.key, "the same small model"):
            return proxy_record(maps.lake, self.key) or self._run(maps, after)

    def _run(self, maps: Maps, after: Callable[[int, float], object]) -> dict[str, Any]:
        folder = maps.lake.training(self.key)
        parts = dict(sorted(self._parts.items()))
        settings = self.proxy.training(self.tokens)
        model = self.proxy.weights(self.number)
        run = Resuming(folder / "checkpoints", maps.lake.scratch)
        with sampled(maps, self.proxy, self.documents, self.number, self.tokens, self.key) as sample:
            sequences = Packing(sample.pieces, self.proxy.context, self.tokens, ())
            of_parts = [part.sequences for part in parts.values()]
            grid, update = self._grid(settings.steps), self.proxy.update
            points = train_with_losses(model, sequences, settings, of_parts, grid, update, run, after)
            record = {
                "recipe": self.recipe, "parts": list(parts), "points": points, "parameters": n_parameters(model),
                "seconds": round(run.seconds, 1), "device": self.proxy.device,
            }  # fmt: skip
            return publish_proxy(maps.lake, self.key, record)

    @property
    def _parts(self) -> dict[str, HeldOut]:
        return {part.digest: part for part in self.parts}

    def _grid(self, steps: int) -> set[int]:
        """Return the steps after which losses are taken, without those that all but repeat the last."""
        a_doubling = self.proxy.settings.points_a_doubling
        found = log_spaced(max(1, steps >> DOUBLINGS), steps, a_doubling)
        return {step for step in found if step == steps or step <= steps * 2 ** (-0.5 / a_doubling)}


@contextmanager
def sampled(
    maps: Maps, proxy: Proxy, documents: Survivors, number: int, tokens: int, key: str
) -> Iterator[TokenSample]:
    """Yield random pieces of documents with so many tokens at least, or all; their file is removed at the end.

    Of whole documents a small sample would be mostly that of a few long ones. The keyed numbers of pieces follow the
    seed alone: of two choices with most documents in common, trainings with the same number have most in common too.
    """
    folder = maps.lake.training(key)
    of_sample, order = (proxy.settings.key(purpose, number) for purpose in ("documents", "order"))
    path, stage = folder / "tokens.arrow", Stage("proxy tokens")
    file = read_tokens(maps, documents, proxy.tokenizer, of_sample, tokens, path, stage, CUT)
    yield TokenSample(file, of_sample, lambda passed: order, proxy.begin, tokens, 0)
    remove_tree(folder)


def size_of(maps: Maps, proxy: Proxy, documents: Survivors) -> int:
    """Return how many tokens a choice has, beginnings included; with more than are asked for, what a sample has."""
    wanted = proxy.settings.tokens
    recipe = {
        "proxy size": VERSION, "documents": documents.digest, "wanted": wanted, "begin": proxy.begin, "cut": CUT,
        "tokenizer": fingerprint(proxy.tokenizer.to_str()), "seed": proxy.settings.seed,
    }  # fmt: skip
    key = fingerprint(recipe)
    found = proxy_record(maps.lake, key)
    if found is None:
        with training_alone(maps.lake, key, "the same small model"):
            found = proxy_record(maps.lake, key)
            if found is None:
                with sampled(maps, proxy, documents, 0, wanted, key) as sample:
                    found = publish_proxy(maps.lake, key, {"recipe": recipe, "tokens": sample.n_tokens})
    size: int = found["tokens"]
    return size
