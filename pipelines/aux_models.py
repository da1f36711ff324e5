"""Which models a flow trains, in what order, what names them, and the features that take their losses.

A model is named by all that it is made of: its shape and settings, its documents and its tokenizer's, and the model
that it goes on from. What runs on top is named by the digest of the weights, as with any other model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..features.base import Feature
from ..features.decoder import SIZES, Decoder
from ..features.torch_precision import check_device, chosen_device, chosen_precision
from ..features.training_settings import Settings
from ..storage.errors import ConfigError
from ..storage.model_files import model_digest, model_folder
from ..storage.plugins import nearest
from .config import Config
from .model_entries import ModelEntry
from .plugins import checked
from .step_entries import SelectStep, TrainStep

VERSION = 1
"""Raised when the same entry over the same documents gives another model."""
TOKENIZER_BYTES = 64 << 20
"""Text that a tokenizer is learned from at most."""
_FOR_TARGETS = {"patience": 3}
"""A target is small and read several times: the weights with the lowest held-out loss are kept."""


@dataclass(frozen=True)
class Plan:
    """One model to be trained."""

    name: str
    entry: ModelEntry
    settings: Settings
    """All but the number of steps, which follows from the tokens."""
    base: "Plan | Path | None"
    """What it goes on from; None: new weights."""

    @property
    def generation(self) -> int:
        """How many of `models` it descends from: each samples the pool anew."""
        return self.base.generation + 1 if isinstance(self.base, Plan) else 0

    @property
    def decoder(self) -> Decoder | None:
        """The shape of a new model."""
        if self.entry.size is None:
            return None
        given = {f.name: v for f in fields(Decoder) if (v := getattr(self.entry, f.name)) is not None}
        return replace(SIZES[self.entry.size], **given)

    @property
    def epochs(self) -> float:
        """Most passes."""
        if self.entry.epochs is not None:
            return self.entry.epochs
        return 1.0 if self.entry.target is None else 6.0

    @property
    def device(self) -> str:
        """Where it is trained."""
        return chosen_device(self.entry.device)

    def parents(self) -> Iterator["Plan"]:
        """Yield the models that it comes from, the first of them first."""
        if isinstance(self.base, Plan):
            yield from self.base.parents()
            yield self.base

    def recipe(self) -> dict[str, Any]:
        """Return what it is made by, beside the documents and the seed."""
        entry = self.entry
        base: Any = self.base
        if isinstance(base, Path):
            base = {"folder": model_digest(base)}
        elif base is not None:
            base = base.recipe()
        settings = {**asdict(self.settings), "accumulation": entry.parameters.get("accumulation")}
        settings |= {"precision": chosen_precision(self.settings.precision, self.device, "bf16")}
        return {
            "version": VERSION, "settings": settings, "base": base, "decoder": self.decoder and asdict(self.decoder),
            "vocabulary": entry.vocabulary, "tokenizer_bytes": TOKENIZER_BYTES, "target": entry.target,
            "budget": entry.tokens, "epochs": self.epochs, "context": entry.context,
            "held_out": entry.held_out, "evaluations": entry.evaluations,
        }  # fmt: skip


def plan(config: Config, root: Path, name: str, descendants: Sequence[str] = ()) -> Plan:
    """Return what a model of the configuration is made by, checked. Raises ConfigError."""
    place = f"models.{name}"
    if name not in config.models:
        raise ConfigError(f"model {name!r} is not in the configuration{nearest(name, list(config.models))}")
    entry = config.models[name]
    if name in descendants:
        raise ConfigError(f"{place}: it comes from itself, by way of {' and '.join(descendants)}; take one out")
    if entry.target is not None and entry.target not in config.targets:
        raise ConfigError(f"{place}: target {entry.target!r} is unknown{nearest(entry.target, list(config.targets))}")
    base: Plan | Path | None = None
    if entry.base in config.models:
        base = plan(config, root, entry.base, (*descendants, name))
    elif entry.base is not None:
        base = model_folder(str(root / entry.base) if (root / entry.base).is_dir() else entry.base, owner="")
    found = Plan(name, entry, _settings(entry, f"{place}: with"), base)
    try:
        check_device(entry.device)
        found.decoder  # noqa: B018 (its shape is checked)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None
    return found


def _settings(entry: ModelEntry, place: str) -> Settings:
    if computed := sorted({"steps", "evaluate_every"} & set(entry.parameters)):
        raise ConfigError(f"{place}: {computed[0]!r} follows from the tokens; set `budget`, `epochs` and `evaluations`")
    defaults = _FOR_TARGETS if entry.target is not None else {}
    if entry.held_out == 0:
        defaults = {name: value for name, value in defaults.items() if name != "patience"}
    return checked(Settings, {"steps": 1, **defaults, **entry.parameters}, place)


def planned(config: Config, root: Path, step: Any, trained: Iterable[str]) -> list[Plan]:
    """Return the models that a step trains, each after those that it comes from, without those that are trained."""
    found: dict[str, Plan] = {}
    for name in trained_by(step):
        one = plan(config, root, name)
        found |= {p.name: p for p in (*one.parents(), one)}
    return [p for p in found.values() if p.name not in set(trained)]


def trained_by(step: Any) -> list[str]:
    """Return the names of the models that a step trains, in itself or in its rounds."""
    if isinstance(step, TrainStep):
        return list(step.train)
    student = step.refine.train if isinstance(step, SelectStep) and step.refine else None
    return [student] if student else []


def targets_of(config: Config, step: TrainStep) -> list[str]:
    """Return the targets that the models of a step see, those of their ancestors included."""
    entries = [config.models[name] for name in with_ancestors(config, step.train) if name in config.models]
    return [entry.target for entry in entries if entry.target is not None]


def with_ancestors(config: Config, names: Iterable[str]) -> list[str]:
    """Return names of models and of all those that they come from."""
    found = list(names)
    for name in found:
        entry = config.models.get(name)
        if entry and entry.base in config.models and entry.base not in found:
            found.append(entry.base)
    return found


def refuse_untrained(step: str, features: Iterable[Feature], config: Config, trained: Sequence[str]) -> None:
    """Raise ConfigError where a step asks for losses of a model that no step before it trains."""
    for feature in features:
        name = model_of(feature, config.models)
        if name is not None and name not in trained:
            raise ConfigError(
                f"step {step!r}: it needs the losses of the model {name!r}, which no step before it trains; "
                f"put {{name: models, train: {name}}} before it"
            )


def model_of(feature: Feature, names: Iterable[str]) -> str | None:
    """Return which of the configuration's models a feature takes, None where it takes none of them."""
    named = getattr(feature, "model", None)
    return named if named in set(names) else None


def with_models(features: Mapping[str, Feature], folders: Mapping[str, Path]) -> dict[str, Feature]:
    """Return the features with the folders of trained models where they name these."""
    return {
        alias: replace(feature, model=str(folders[name])) if (name := model_of(feature, folders)) else feature  # type: ignore[call-arg]
        for alias, feature in features.items()
    }
