"""A mixture of tokens for PyTorch: packed sequences, split over ranks and workers, that a resume finds again exactly.

The order of an epoch's sequences follows the seed, the epoch and the documents alone. At its place g the rank
`g % world` reads, so that whatever the number of ranks, after s samples the first s of the order are what was seen, and
going on is arithmetic: on any number of ranks, at once, without reading what was before. Therefore the position is
`{"epoch", "samples_seen"}`, counted over all ranks, and the training loop knows it (steps times the samples of a step);
the main process does not, because the workers of a DataLoader read ahead. A process needs 40 bytes a document, and
40 more while it makes an epoch's order.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..selectors.rounds import RoundPlan
from ..storage.errors import ConfigError
from ..storage.exported_tokens import ExportedTokens
from ..storage.fingerprint import fingerprint
from .packed_order import Order, PackedEpoch, packed_epoch

IGNORED = -100
"""The label that no loss counts."""
Last = Literal["drop", "pad", "even"]
Documents = Callable[[int], npt.ArrayLike]
"""Return the numbers of an epoch's documents; a number may occur several times."""


def torch_dataset(
    folder: Path | str, context: int, seed: int = 0, rank: int | None = None, world: int | None = None,
    order: Order | None = None, *, last: Last = "drop", batch_size: int | None = None,
    documents: Documents | None = None,
) -> "PackedSequences":  # fmt: skip
    """Return a mixture of the format `tokens` or `megatron` as sequences of `context` tokens.

    A sample is `{"input_ids", "labels"}`, int64, both the same: models of Hugging Face shift the labels themselves.

    - `rank`, `world`: default those of torch.distributed, else of the environment (RANK, WORLD_SIZE), else one rank.
      Say `rank=0, world=1` where Accelerate prepares the DataLoader on several processes: it splits by itself.
    - `order`: default "stored" for a mixture that has an order of its own (a curriculum), else "shuffle".
      "shuffle" documents and sequences; "sequences" alone, packed as they are stored, which reads a sequence
      from one place on the disk; or "stored", no shuffling.
    - `last`: of each epoch "drop" leaves out the tokens that do not fill a sequence, and ranks may differ by one
      sample; "pad" fills it up with end tokens that no loss counts; "even" drops up to `world` - 1 sequences more, so
      that all ranks have equally many, from the position on.
    - `batch_size`: that of the DataLoader; needed with several workers, for each of which makes whole batches.
    - `documents`: the documents of an epoch; default: all, once, or where the choice was made by `rs2`, those of the
      round with the epoch's number.

    Raises ConfigError for a folder without tokens, and for what cannot be.
    """
    if context < 2:
        raise ConfigError(f"context is {context}, expected at least 2: one token and the one that it predicts")
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}, expected at least 1")
    rank, world = _place(rank, world)
    tokens = ExportedTokens(folder)
    if order is None:
        order = "stored" if tokens.is_ordered else "shuffle"
    if documents is None and tokens.rounds is not None:
        documents = RoundDocuments(tokens, RoundPlan.from_json(tokens.rounds))
    return PackedSequences(tokens, context, seed, rank, world, order, last, batch_size, documents)


@dataclass(frozen=True)
class RoundDocuments:
    """The documents of each round of `rs2`, which is an epoch of the reader."""

    tokens: ExportedTokens
    plan: RoundPlan

    def __call__(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the numbers of a round's documents. Raises ConfigError where there is no such round."""
        if not 0 <= epoch < self.plan.n_rounds:
            raise ConfigError(
                f"epoch {epoch}: the choice has {self.plan.n_rounds} rounds, counted from 0; "
                "give `rs2` as many `rounds` as the training has epochs"
            )
        inside = [np.empty(0, np.bool_)]
        for spans in self.tokens.spans(["doc_id", "doc_key", "cut_group"]):
            kept = pa.array(np.ones(spans.num_rows, np.bool_))
            inside.append(self.plan.members(spans.append_column("kept", kept), epoch))
        return np.flatnonzero(np.concatenate(inside))


def _place(rank: int | None, world: int | None) -> tuple[int, int]:
    """Return this process's rank and the number of ranks."""
    if (rank is None) != (world is None):
        raise ConfigError(f"rank is {rank} and world is {world}, expected both or neither")
    if rank is None or world is None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            rank, world = distributed.get_rank(), distributed.get_world_size()
        else:
            rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if not 0 <= rank < world:
        raise ConfigError(f"rank is {rank} of {world} ranks, expected one from 0 to {world - 1}")
    return rank, world


def _whole(state: Mapping[str, Any], name: str) -> int:
    """Return a number of a state. Raises ConfigError where there is none."""
    number = state.get(name)
    if not isinstance(number, int):
        raise ConfigError(f"the state's {name!r} is {number!r}, expected a whole number; it has {', '.join(state)}")
    return number


class PackedSequences(IterableDataset):  # type: ignore[misc]
    """Sequences of one rank; `torch_dataset` makes it. Iterating again gives the same until the epoch is set."""

    def __init__(
        self, tokens: ExportedTokens, context: int, seed: int, rank: int, world: int, order: Order, last: Last,
        batch_size: int | None, documents: Documents | None,
    ) -> None:  # fmt: skip
        self.tokens, self.context, self.rank, self.world = tokens, context, rank, world
        self._seed, self._order, self._last = seed, order, last
        self._batch_size, self._documents = batch_size, documents
        # epoch and samples seen: shared, because workers that outlive an epoch would not hear of the next one
        self._position = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._made: tuple[int, PackedEpoch] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}  # a spawned worker computes the order itself

    @cached_property
    def key(self) -> str:
        """What names the order of all epochs, but for `documents`."""
        return fingerprint([self.tokens.key, self.context, self._seed, self._order, self._last == "pad"])

    @property
    def epoch(self) -> int:
        """The epoch, counted from 0."""
        return int(self._position[0])

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; the one that a state was loaded for goes on after what was seen of it."""
        if epoch != self.epoch:
            self._position[:] = torch.tensor([epoch, 0])

    def state_dict(self, samples_seen: int) -> dict[str, Any]:
        """Return the position after so many samples of this epoch, on all ranks together."""
        return {"epoch": self.epoch, "samples_seen": samples_seen, "key": self.key}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a position: `epoch` and `samples_seen`, on all ranks together, of any number of ranks.

        Raises ConfigError where it is none of this mixture, context, seed and order (its `key`, where it has one).
        """
        if state.get("key", self.key) != self.key:
            raise ConfigError(
                "the state is of another mixture, context, seed or order; expected those it was saved with"
            )
        epoch, seen = (_whole(state, name) for name in ("epoch", "samples_seen"))
        n_samples = self._epoch(epoch).n_sequences
        if not 0 <= seen <= n_samples:
            raise ConfigError(f"samples_seen is {seen:,}, expected 0 to {n_samples:,}: it counts those of its epoch")
        self._position[:] = torch.tensor([epoch, seen])

    @property
    def n_samples(self) -> int:
        """Samples of the epoch, on all ranks together, those before the position included."""
        n, seen = self._epoch(self.epoch).n_sequences, int(self._position[1])
        return n - (n - seen) % self.world if self._last == "even" else n

    def __len__(self) -> int:
        """Return this rank's samples of the whole epoch."""
        return len(range(self.rank, self.n_samples, self.world))

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield this rank's samples (of this worker) from the position on."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        if workers > 1 and self._batch_size is None:
            raise ConfigError(
                f"a DataLoader with {workers} workers, each of which makes whole batches; "
                "give torch_dataset its batch_size, or the order of samples would depend on the workers"
            )
        block = self._batch_size or 1
        epoch = self._epoch(self.epoch)
        places = range(int(self._position[1]) + self.rank, self.n_samples, self.world)
        for start in range(worker * block, len(places), workers * block):
            for place in places[start : start + block]:
                yield self._sample(epoch, place)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        """Return the sample at a place of the epoch's order, whatever the rank."""
        if not 0 <= place < self.n_samples:
            raise IndexError(f"sample {place:,}: the epoch has those from 0 to {self.n_samples - 1:,}")
        return self._sample(self._epoch(self.epoch), place)

    def _sample(self, epoch: PackedEpoch, place: int) -> dict[str, torch.Tensor]:
        spans = epoch.spans(place)
        ids = np.full(self.context, self.tokens.end, np.int64)
        at = 0
        for document, offset, n in spans:
            ids[at : at + n] = self.tokens.read(int(self._starts[document]) + offset, n)
            at += n
        labels = ids.copy()
        labels[at:] = IGNORED
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}

    def positions(self, place: int) -> npt.NDArray[np.int64]:
        """Return for each token of a sample its position in the mixture, for `tamis.locate`; padding has none."""
        spans = self._epoch(self.epoch).spans(place)
        starts = [int(self._starts[s.document]) + s.offset for s in spans]
        return np.concatenate([np.arange(at, at + s.n_tokens) for at, s in zip(starts, spans, strict=True)])

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self.tokens.lengths) - self.tokens.lengths

    def _epoch(self, epoch: int) -> PackedEpoch:
        if self._made is None or self._made[0] != epoch:
            numbers = None if self._documents is None else np.asarray(self._documents(epoch), np.int64)
            tokens = self.tokens
            made = packed_epoch(
                tokens.lengths, tokens.doc_keys, numbers, self.context, self._seed, epoch, self._order,
                self._last == "pad",
            )  # fmt: skip
            self._made = epoch, made
        return self._made[1]
