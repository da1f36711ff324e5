"""All that a training needs to go on: weights, the optimizer's moments, the place in the data, and what was measured.

A state is tensors and JSON (`parts`, `State.of`), as `storage/checkpoints.py` keeps them. How many updates AdamW has
made follows from the steps and the skipped ones; random numbers there are none, for nothing is dropped out.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .packing import Position

Tensors = dict[str, npt.NDArray[np.float32]]
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class History:
    """What was measured, a step a number; losses are nats a predicted token."""

    losses: list[float | None] = field(default_factory=list)
    """Of each step before its update; None where it was skipped."""
    norms: list[float | None] = field(default_factory=list)
    """Lengths of the gradients before clipping."""
    held_out: list[tuple[int, float]] = field(default_factory=list)
    """Steps that were done, and the loss then."""

    @property
    def step(self) -> int:
        """Steps that were done, skipped ones included."""
        return len(self.losses)

    @property
    def n_skipped(self) -> int:
        """Steps that changed no weight, their loss or gradient not being finite."""
        return self.losses.count(None)

    @property
    def n_skipped_last(self) -> int:
        """Skipped steps in a row at the end."""
        return next((n for n, loss in enumerate(reversed(self.losses)) if loss is not None), self.step)

    @property
    def best(self) -> int:
        """Index of the lowest held-out loss, the first of equal ones."""
        return min(range(len(self.held_out)), key=lambda i: self.held_out[i][1])

    def is_exhausted(self, patience: int | None) -> bool:
        """Say whether so many held-out losses brought no new lowest one."""
        return bool(patience and self.held_out) and len(self.held_out) - 1 - self.best >= (patience or 0)


@dataclass(frozen=True)
class State:
    """A training between two steps."""

    position: Position
    history: History
    weights: Tensors
    moments: Tensors
    """`exp_avg/NAME` and `exp_avg_sq/NAME`; empty before the first update."""
    best: Tensors
    """Weights with the lowest held-out loss, where they are kept."""

    def parts(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the tensors and, as JSON types, the rest."""
        groups = {"weights": self.weights, "moments": self.moments, "best": self.best}
        tensors = {f"{group}/{name}": array for group, found in groups.items() for name, array in found.items()}
        return tensors, {"position": asdict(self.position), "history": asdict(self.history)}

    @classmethod
    def of(cls, tensors: Mapping[str, npt.NDArray[Any]], rest: Mapping[str, Any]) -> "State":
        """Return the state with these parts."""
        groups: dict[str, Tensors] = {"weights": {}, "moments": {}, "best": {}}
        for name, array in tensors.items():
            group, _, inside = name.partition("/")
            groups[group][inside] = array
        history = History(**rest["history"])
        history.held_out = [(int(step), float(loss)) for step, loss in history.held_out]
        return cls(Position(**rest["position"]), history, **groups)


def weights_of(model: Any) -> Tensors:
    """Return a copy of a model's parameters, tied ones once."""
    return {name: weight.detach().cpu().numpy().copy() for name, weight in model.named_parameters()}


def set_weights(model: Any, weights: Tensors) -> None:
    """Give a model other weights. Raises KeyError or RuntimeError where they are another model's."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(weights[name]))


def state_of(model: Any, optimizer: Any, position: Position, history: History, best: Tensors) -> State:
    """Return a copy of everything."""
    moments = {
        f"{kind}/{name}": optimizer.state[weight][kind].cpu().numpy().copy()
        for name, weight in model.named_parameters()
        for kind in _MOMENTS
        if weight in optimizer.state
    }
    return State(position, deepcopy(history), weights_of(model), moments, best)


def restore(model: Any, optimizer: Any, state: State) -> None:
    """Make a model and its new optimizer what they were."""
    import torch

    set_weights(model, state.weights)
    n_updates = state.history.step - state.history.n_skipped
    for name, weight in model.named_parameters() if state.moments else ():
        moments = {k: torch.from_numpy(state.moments[f"{k}/{name}"]).to(weight.device, copy=True) for k in _MOMENTS}
        optimizer.state[weight] = {"step": torch.tensor(float(n_updates), device=weight.device)} | moments
