"""What choices are worth to a training: the losses of a small model that is trained on each, on as many tokens of each.

Every choice, and random documents of the pool beside them, gets some trainings whose seeds decide on first weights,
documents and order. As many tokens as the smallest choice has are taken of each, counted by the model's tokenizer, so
that a large choice has no advantage. Losses are those of texts that no training sees: of each target, and of the pool,
which tells what a narrow choice costs. What a seed changes is all that an interval knows of: the held-out texts are the
same for all. Sources: CoLoR-Filter (https://arxiv.org/abs/2406.10670) and ZIP-FIT (https://arxiv.org/abs/2410.18194)
compare in this way.

Each training computes with one thread, and there are as many at once as workers, so no loss follows the number of
cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

from ..features.torch_batches import threads_alone
from ..storage.errors import ConfigError
from ..storage.lake import Lake
from ..storage.proxies import proxy_record
from ..storage.survivors import Survivors
from .engine import Threads
from .intervals import CONFIDENCE, estimate, estimate_ratio
from .learning_curves import times_fewer
from .progress import Reporter
from .proxy_model import Proxy, ProxySettings, proxy_model
from .proxy_texts import HeldOut, held_out_of_pool, held_out_of_targets, without_texts
from .proxy_training import ProxyTraining, size_of
from .work import Alone

RANDOM = None
"""Among the choices, the baseline: any name may be a flow's."""
Curves = list[list[tuple[float, float]]]
"""Of each seed."""


@dataclass(frozen=True)
class ProxyResult:
    """The finished trainings, of which `report` says what they mean."""

    proxy: Proxy
    tokens: int
    """Of each training."""
    sizes: Mapping[str | None, int]
    targets: Mapping[str, HeldOut]
    general: HeldOut
    trainings: Mapping[str | None, Sequence[ProxyTraining]]
    """Of each choice, and under None of random documents: one a seed."""
    records: Mapping[str, dict[str, Any]]
    """By the key of a training."""
    trained: int
    """How many were not in the lake before."""

    def report(self) -> dict[str, Any]:
        """Return everything as JSON types: losses in nats a token, `interval` is None with one seed.

        `choices` has under each name, `random` of random documents: `targets` (by name) and `general`, each with the
        `curve`, the `last` loss, it `minus_random` by seeds (below 0: better), and `times_fewer` tokens than random
        documents for the same loss (above 1: better).
        """
        return {
            "tokens": self.tokens, "seeds": self.proxy.settings.seeds, "confidence": CONFIDENCE,
            "parameters": next(iter(self.records.values()))["parameters"],
            "start": self.proxy.settings.start and str(self.proxy.settings.start),
            "vocabulary": self.proxy.tokenizer.get_vocab_size(), "context": self.proxy.context,
            "tokens_an_update": self.proxy.update, "rate": self.proxy.settings.rate,
            "held_out": {name: _described(part) for name, part in self.targets.items()},
            "held_out_general": _described(self.general),
            "trained": self.trained, "trainings": len(self.records),
            "seconds": sum(record["seconds"] for record in self.records.values()),
            "random": self._choice(RANDOM),
            "choices": {name: self._choice(name) for name in self.trainings if name is not None},
        }  # fmt: skip

    def curves(self, choice: str | None, part: HeldOut) -> Curves:
        """Return the curve of each seed."""
        return [one.losses(self.records[one.key], part) for one in self.trainings[choice]]

    def _choice(self, name: str | None) -> dict[str, Any]:
        size, wanted = self.sizes[name], self.proxy.settings.tokens
        return {
            "tokens": size if size < wanted else None,  # it has as many as were asked for, and nobody counted further
            "targets": {target: self._measured(name, part) for target, part in self.targets.items()},
            "general": self._measured(name, self.general),
        }

    def _measured(self, name: str | None, part: HeldOut) -> dict[str, Any]:
        found, random = self.curves(name, part), self.curves(RANDOM, part)
        last = [curve[-1][1] for curve in found]
        points = zip(*found, strict=True)
        measured = {
            "curve": [{"tokens": int(at[0][0]), **estimate([loss for _, loss in at])} for at in points],
            "last": estimate(last),
        }
        if name is RANDOM:
            return measured
        pairs = list(zip(random, found, strict=True))
        differences = [curve[-1][1] - other[-1][1] for other, curve in pairs]
        ratios = [times_fewer(other, curve) for other, curve in pairs]
        return measured | {"minus_random": estimate(differences), "times_fewer": estimate_ratio(ratios)}


def proxy_curves(
    lake: Lake, choices: Mapping[str, Survivors], pool: Survivors, targets: Mapping[str, Sequence[str]],
    settings: ProxySettings | None = None, reporter: Reporter | None = None, workers: int | None = None,
) -> ProxyResult:  # fmt: skip
    """Train a small model on each choice and on random documents of the pool, as far as the lake does not have it.

    `targets` are texts by target that no choice was made by. What is finished is in the lake, and the same call goes on
    after an interruption. Raises ConfigError where a choice is too small, a target has no text, or a loss is not
    finite.
    """
    proxy = proxy_model(Alone(lake), pool, settings or ProxySettings())
    parts = held_out_of_targets(proxy, targets)
    general = held_out_of_pool(proxy, pool)
    every = (*parts.values(), general)
    names: list[str | None] = [RANDOM, *choices]
    seen = dict(zip(names, without_texts([pool, *choices.values()], every), strict=True))
    engine = Threads.default(workers if proxy.device == "cpu" else 1)
    distinct = {one.digest: one for one in seen.values()}  # of two equal choices each would write the other's files
    counted = dict(zip(distinct, engine.map(partial(size_of, Alone(lake), proxy), distinct.values()), strict=True))
    sizes = {name: counted[one.digest] for name, one in seen.items()}
    tokens = _budget(proxy, sizes)
    numbers = range(proxy.settings.seeds)
    trainings = {name: [ProxyTraining(proxy, one, n, tokens, every) for n in numbers] for name, one in seen.items()}
    records, n_trained = _trained(lake, trainings, engine, reporter or Reporter(quiet=True))
    return ProxyResult(proxy, tokens, sizes, parts, general, trainings, records, n_trained)


def _budget(proxy: Proxy, sizes: Mapping[str | None, int]) -> int:
    """Return the tokens of every training: whole updates, as many as the smallest choice has."""
    name, size = min(sizes.items(), key=lambda item: item[1])
    tokens = min(size, proxy.settings.tokens) // proxy.update * proxy.update
    if tokens == 0:
        who = "the pool" if name is RANDOM else name
        raise ConfigError(
            f"{who} has {size:,} tokens to train the small model on, expected at least the {proxy.update:,} of an "
            "update; leave it out, or choose more"
        )
    return tokens


def _trained(
    lake: Lake, trainings: Mapping[str | None, Sequence[ProxyTraining]], engine: Threads, reporter: Reporter
) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the record of each training by its key, and how many were trained now: seed after seed."""
    in_order = {one.key: (name, one) for of_seed in zip(*trainings.values(), strict=True)
                for name, one in zip(trainings, of_seed, strict=True)}  # fmt: skip
    records = {key: found for key in in_order if (found := proxy_record(lake, key)) is not None}
    missing = [key for key in in_order if key not in records]
    if not missing:
        return records, 0
    lock, maps = Lock(), Alone(lake)
    total = sum(in_order[key][1].tokens for key in missing)
    with reporter.meter(total, "proxy", "tokens") as advance, threads_alone() as alone:

        def train(key: str) -> dict[str, Any]:
            name, one = in_order[key]
            alone()
            done = 0

            def after(step: int, loss: float) -> None:
                nonlocal done
                with lock:
                    note = f"{name or 'random'}, seed {one.number + 1} of {one.proxy.settings.seeds}: loss {loss:.3f}"
                    advance((step - done) * one.proxy.update, note)
                done = step

            found: dict[str, Any] = one.run(maps, after)
            return found

        records |= zip(missing, engine.map(train, missing), strict=True)
    return records, len(missing)


def _described(part: HeldOut) -> dict[str, int]:
    return {"tokens": part.n_tokens, "texts": len(part.texts)}
