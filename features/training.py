"""Train a decoder on sequences of tokens: AdamW, a cosine, accumulated and clipped gradients, held-out losses.

The loss is the mean over the predicted tokens of a whole update, however they lie in its batches, so that accumulation
changes only the rounding. On a CPU with the same number of threads, equal inputs give equal weights, bit for bit, also
where a training was interrupted and goes on from a state. A step whose loss or gradient is not finite changes nothing.
Sources: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101; https://arxiv.org/abs/2406.10670, appendix.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import Any

import numpy as np

from ..storage.errors import ConfigError
from .packing import Ids, Position
from .stopping import stop_if_asked
from .torch_memory import memory_kept
from .training_settings import Settings
from .training_state import History, State, Tensors, restore, set_weights, state_of, weights_of

Sequences = Callable[[Position], Iterator[tuple[Ids, Position]]]
_IGNORED = -100  # the target of a position behind a sequence's end


@dataclass(frozen=True)
class Progress:
    """A training after a step, all of it `history` and what `state()` returns."""

    history: History
    state: Callable[[], State]
    """Return a copy of all that is needed to go on; three times the size of the model."""


def train(
    model: Any,
    sequences: Sequences,
    settings: Settings,
    held_out: Sequence[Ids] = (),
    state: State | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> History:
    """Train a model, where it lies, until the steps, the sequences or the patience end; return what was measured.

    `sequences` gives those from a position on, as `Packing` does. `on_progress` is called after every step; where the
    run has ended, Stopped is raised after that call. With `patience` the model ends with its best weights. Raises
    ConfigError after `most_skipped` steps in a row without finite numbers.
    """
    if settings.patience is not None and not held_out:
        raise ConfigError("training: patience is set, but there are no held-out sequences; give some, or no patience")
    run = _Run(model, _optimizer(model, settings), settings, held_out, History(), Position(), {})
    if state is None:
        run.evaluate()
    else:
        run.go_on_from(state)
    with memory_kept():
        run.go_through(sequences(run.position), on_progress)
    if run.best:
        set_weights(model, run.best)
    return run.history


@dataclass
class _Run:
    """What changes while a model is trained."""

    model: Any
    optimizer: Any
    settings: Settings
    held_out: Sequence[Ids]
    history: History
    position: Position
    best: Tensors

    @property
    def is_done(self) -> bool:
        return self.history.step >= self.settings.steps or self.history.is_exhausted(self.settings.patience)

    def go_through(self, stream: Iterator[tuple[Ids, Position]], on_progress: Callable[[Progress], None]) -> None:
        """Make updates from sequences until one of the ends."""
        while not self.is_done:
            stop_if_asked()
            taken = list(islice(stream, self.settings.batch * self.settings.accumulation))
            if not taken:
                break
            _step(self.model, self.optimizer, [ids for ids, _ in taken], self.settings, self.history)
            self.position = taken[-1][1]
            if self.settings.is_due(self.history.step):
                self.evaluate()
            on_progress(Progress(self.history, self.state))
        self.evaluate()

    def go_on_from(self, state: State) -> None:
        restore(self.model, self.optimizer, state)
        self.history, self.position, self.best = deepcopy(state.history), state.position, state.best

    def state(self) -> State:
        return state_of(self.model, self.optimizer, self.position, self.history, self.best)

    def evaluate(self) -> None:
        """Take the held-out loss, once a step, and keep the weights where they are the best and wanted."""
        losses = self.history.held_out
        if not self.held_out or (losses and losses[-1][0] == self.history.step):
            return
        losses.append((self.history.step, held_out_loss(self.model, self.held_out, self.settings)))
        if self.settings.patience is not None and self.history.best == len(losses) - 1:
            self.best = weights_of(self.model)


def held_out_loss(model: Any, sequences: Sequence[Ids], settings: Settings) -> float:
    """Return the mean loss of the predicted tokens, in nats; the model stays as it is."""
    import torch

    total = 0.0
    with torch.no_grad():
        for start in range(0, len(sequences), settings.batch):
            stop_if_asked()
            total += float(_loss_sum(model, sequences[start : start + settings.batch], settings))
    return total / _n_targets(sequences)


def _step(model: Any, optimizer: Any, taken: Sequence[Ids], settings: Settings, history: History) -> None:
    """Make one update, or none where its numbers are not finite, and note what was measured."""
    import torch

    optimizer.zero_grad(set_to_none=True)
    n_targets, total = _n_targets(taken), 0.0
    for start in range(0, len(taken), settings.batch):
        loss = _loss_sum(model, taken[start : start + settings.batch], settings)
        (loss / n_targets).backward()
        total += float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
    is_finite = isfinite(total) and isfinite(norm)
    if is_finite:
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(history.step)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    history.losses.append(total / n_targets if is_finite else None)
    history.norms.append(norm if is_finite else None)
    if history.n_skipped_last >= settings.most_skipped:
        raise ConfigError(
            f"training: no finite loss and gradient in {history.n_skipped_last} steps in a row, up to step "
            f"{history.step:,}; lower peak_rate (now {settings.peak_rate:g}) or set precision: fp32"
        )


def _loss_sum(model: Any, sequences: Sequence[Ids], settings: Settings) -> Any:
    """Return the summed loss of every token but the first of its sequence, each predicted from those before it.

    Shorter sequences are filled up behind their end, which a causal model does not see from before it.
    """
    import torch

    device = next(model.parameters()).device
    length = max(map(len, sequences))
    ids = np.zeros((len(sequences), length), np.int64)
    targets = np.full_like(ids, _IGNORED)
    for row, one in enumerate(sequences):
        ids[row, : len(one)] = targets[row, : len(one)] = one
    inputs, wanted = (torch.from_numpy(a).to(device) for a in (ids[:, :-1], targets[:, 1:]))
    with settings.autocast(device.type):
        logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), wanted.flatten(), ignore_index=_IGNORED, reduction="sum"
    )


def _n_targets(sequences: Sequence[Ids]) -> int:
    return sum(len(one) - 1 for one in sequences)


def _optimizer(model: Any, settings: Settings) -> Any:
    """Return AdamW in one pass over the weights, which decays matrices alone."""
    import torch

    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [w for w in weights if w.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.peak_rate, betas=settings.betas, eps=settings.eps, fused=True)
