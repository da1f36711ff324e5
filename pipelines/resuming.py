"""A training that may be killed: it goes on from its newest checkpoint, and makes one every 50 seconds.

So a kill costs a minute at most. What the caller measures meanwhile lies in the same checkpoint as the weights, or the
two would tell of different steps.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..features.packing import Ids
from ..features.training import Progress, Sequences, train
from ..features.training_settings import Settings
from ..features.training_state import History, State
from ..storage.checkpoints import newest_checkpoint, publish_checkpoint

SECONDS_BETWEEN_CHECKPOINTS = 50.0


class Resuming:
    """What an earlier process left of a training, and how it goes on."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Read the newest checkpoint of a folder. Raises LakeError where all are damaged."""
        found = newest_checkpoint(folder)
        self._folder, self._scratch = folder, scratch
        self._state = None if found is None else State.of(found.tensors, found.rest)
        self._before: float = 0.0 if found is None else found.rest["seconds"]
        self._begun = time.monotonic()
        self.step = 0 if self._state is None else self._state.history.step
        """Steps that were done before."""
        self.kept: dict[str, Any] = {} if found is None else found.rest.get("kept", {})
        """What the caller measures, as JSON types; it may change it in `after`."""

    @property
    def seconds(self) -> float:
        """How long the training has taken, in all processes."""
        return self._before + time.monotonic() - self._begun

    def train(
        self, model: Any, sequences: Sequences, settings: Settings, held_out: Sequence[Ids] = (),
        after: Callable[[History], object] = lambda _: None,
    ) -> History:  # fmt: skip
        """Train to the end as `train` does; `after` is called after every step, before its checkpoint."""
        last = self._begun = time.monotonic()

        def on_progress(progress: Progress) -> None:
            nonlocal last
            after(progress.history)
            if time.monotonic() - last >= SECONDS_BETWEEN_CHECKPOINTS:
                tensors, rest = progress.state().parts()
                rest |= {"seconds": self.seconds, "kept": self.kept}
                publish_checkpoint(self._folder, self._scratch, progress.history.step, tensors, rest)
                last = time.monotonic()

        return train(model, sequences, settings, held_out, self._state, on_progress)
