"""What can be wrong with a flow, found without reading the corpus; and what a flow asks for."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ..features.base import Feature
from ..storage.errors import ConfigError
from ..storage.inputs import list_inputs
from ..storage.plugins import nearest
from .aux_models import planned, refuse_untrained, targets_of, trained_by, with_ancestors
from .config import Config, FlowEntry
from .deduplicating import deduper
from .filtering import step_rules
from .loading import Loaded
from .outputs import TOKENS, Output
from .plugins import make_tokens, naming
from .round_scores import check_student, round_scores
from .selecting import chooser
from .step_entries import DecontaminateStep, DedupStep, FilterStep, SelectStep, TrainStep
from .tokenising import make_encoder

T = TypeVar("T")


def check_flow(loaded: Loaded, name: str, features: Mapping[str, Feature]) -> FlowEntry:
    """Return the flow of that name, checked as far as that needs no work. Raises ConfigError."""
    config = loaded.config
    return check_entry(loaded, name, known("flow", name, config.flows), features)


def check_entry(loaded: Loaded, name: str, flow: FlowEntry, features: Mapping[str, Feature]) -> FlowEntry:
    """Return a flow, checked as `check_flow` does. Raises ConfigError."""
    config = loaded.config
    corpus = known(f"flows.{name}: corpus", flow.corpus, config.corpora)
    trained: list[str] = []
    for step in flow.steps:
        _check_targets(config, step)
        asked = features_of(step, features)
        if isinstance(step, TrainStep):
            with naming(f"step {step.name!r}"):
                trained += [one.name for one in planned(config, loaded.root, step, trained)]
        elif isinstance(step, SelectStep):
            check_student(config, loaded.root, step, asked, trained)
        refuse_untrained(step.name, asked, config, [*trained, *trained_by(step)])
    if flow.outputs and all(isinstance(step, TrainStep) for step in flow.steps):
        raise ConfigError(f"flows.{name}: outputs, but no step chooses documents")
    check_outputs(loaded, flow.outputs)
    list_inputs(corpus.files, loaded.root)
    for target in target_names(config, flow):
        list_inputs(config.targets[target].files, loaded.root)
    return flow


def check_outputs(loaded: Loaded, outputs: Iterable[Output]) -> None:
    """Raise ConfigError where an output that holds tokens has no tokenizer for them."""
    for output in outputs:
        if output.format in TOKENS:
            make_encoder(output, make_tokens(loaded.config.tokenizer, loaded.root), loaded.root)


def training_flow(config: Config, model: str, name: str | None) -> tuple[str, FlowEntry]:
    """Return the part of a flow that ends with the training of a model, and the flow's name. Raises ConfigError."""
    known("model", model, config.models)
    flows = config.flows if name is None else {name: known("flow", name, config.flows)}
    found = {n: at for n, flow in flows.items() if (at := _where_trained(config, flow, model)) is not None}
    if len(found) > 1:
        raise ConfigError(f"model {model!r} is trained by the flows {', '.join(found)}; name one with --flow")
    for flow, at in found.items():
        last = TrainStep(name=flows[flow].steps[at].name, train=[model])
        return flow, flows[flow].model_copy(update={"steps": [*flows[flow].steps[:at], last], "outputs": []})
    if name is not None:
        raise ConfigError(f"flow {name!r} trains no model {model!r}; put {_step(model)} into its steps")
    if len(config.corpora) != 1:
        count = len(config.corpora)
        raise ConfigError(
            f"no flow trains the model {model!r}, and there are {count} corpora; put {_step(model)} into a flow"
        )
    step = TrainStep(name="models", train=[model])
    return f"train-aux {model}", FlowEntry(corpus=next(iter(config.corpora)), steps=[step])


def _step(model: str) -> str:
    return f"{{name: models, train: {model}}}"


def _where_trained(config: Config, flow: FlowEntry, model: str) -> int | None:
    """Return the number of the step that trains a model, itself or because another comes from it."""
    steps = enumerate(flow.steps)
    return next((at for at, s in steps if isinstance(s, TrainStep) and model in with_ancestors(config, s.train)), None)


def _check_targets(config: Config, step: Any) -> None:
    for target in step.decontaminate if isinstance(step, DecontaminateStep) else ():
        known(f"step {step.name!r}: target", target, config.targets)
    for name, weight in step.target.items() if isinstance(step, SelectStep) else ():
        known(f"step {step.name!r}: target", name, config.targets)
        if weight is not None and not 0 < weight < math.inf:
            raise ConfigError(f"step {step.name!r}: target {name!r} has the share {weight}, expected a number above 0")


def known(what: str, name: str, entries: Mapping[str, T]) -> T:
    """Return the entry of that name. Raises ConfigError with the nearest name there is."""
    if name not in entries:
        raise ConfigError(f"{what} {name!r} is not in the configuration{nearest(name, list(entries))}")
    return entries[name]


def target_names(config: Config, flow: FlowEntry) -> list[str]:
    """Return the targets of a flow: those that selectors and models see, and those that it is decontaminated of."""
    decontaminated = (n for step in flow.steps if isinstance(step, DecontaminateStep) for n in step.decontaminate)
    return list(dict.fromkeys([*wanted_names(config, flow), *decontaminated]))


def wanted_names(config: Config, flow: FlowEntry) -> list[str]:
    """Return the targets that selectors and models see."""
    selectors = [n for step in flow.steps if isinstance(step, SelectStep) for n in step.target]
    steps = [step for step in flow.steps if isinstance(step, TrainStep)]
    return [*selectors, *(n for step in steps for n in targets_of(config, step))]


def features_of(step: Any, features: Mapping[str, Feature]) -> list[Feature]:
    """Return the features that a step asks for. Raises ConfigError where the step cannot be right."""
    if isinstance(step, FilterStep):
        return [features[alias] for rule in step_rules(step, features) for alias in rule.aliases]
    if isinstance(step, DedupStep | SelectStep):
        inputs = deduper(step, features) if isinstance(step, DedupStep) else chooser(step, features)
        scores = round_scores(step, inputs.selector, features) if isinstance(step, SelectStep) else None
        asked = scores.asked if scores else ()
        return [column.feature for column in (*inputs.columns, *inputs.asked, *asked)]
    return []
