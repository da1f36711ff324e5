"""A causal language model as a function from token ids to their negative log-likelihoods, each document by itself.

Rows are padded on the right and have no mask: a causal model never looks at what comes after, so attention stays inside
the document and keeps its fast kernel. The decoder runs on canonical batches; the layer of the vocabulary then runs on
predicted positions alone, in chunks of one size, so that the logits are never whole in memory (128 positions of
150,000 tokens: 77 MB; a window of 2,048: 1.2 GB) and no chunk's shape follows the neighbours. The numbers of a mixture
of experts may differ in their last bits with the neighbours all the same: its experts see other shapes.

Losses go to one array that is there before the first batch. Kept one by one, each would take a piece of the memory that
a batch's logits have just left, the next logits would not fit there any more, and memory would grow by them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from .canonical_batches import Shape, batches
from .torch_batches import map_batches, run_in_parts

Ids = npt.NDArray[np.int64]
Losses = npt.NDArray[np.float32]


class Window(NamedTuple):
    """What the model reads at once, and the token after it; the first `n_context` tokens predict nothing here."""

    ids: Ids
    n_context: int


@dataclass(frozen=True)
class CausalModel:
    """A loaded model; threads may share it."""

    decoder: Any
    """From token ids to hidden states."""
    head: Any
    """From hidden states, as `inputs_embeds`, to logits."""
    tokenizer: Tokenizer
    prefix: tuple[int, ...]
    """What the tokenizer puts before a text: context that is not predicted."""
    context: int
    stride: int
    device: str
    batch_tokens: int
    chunk: int
    pool: ThreadPoolExecutor

    def tokens(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text, without the prefix."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.int64) for one in encodings]

    def places(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return where each token of `tokens` stands in its text: first character, and the one after the last."""
        return [one.offsets for one in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def losses(self, documents: Sequence[Ids]) -> tuple[Losses, Ids]:
        """Return the nats of every predicted token, document after document, and how many each document has."""
        begin = np.array(self.prefix, np.int64)
        cut = [windows(np.concatenate([begin, ids]), len(begin), self.context, self.stride) for ids in documents]
        every = list(chain.from_iterable(cut))
        counts = np.array([sum(len(w.ids) - 1 - w.n_context for w in of_one) for of_one in cut], np.int64)
        n_read = np.array([len(window.ids) - 1 for window in every], np.int64)
        ends = np.cumsum([len(window.ids) - 1 - window.n_context for window in every])
        found = np.empty(ends[-1] if len(ends) else 0, np.float32)

        def run(job: tuple[Ids, Shape]) -> None:
            rows, shape = job
            chosen = [every[row] for row in rows.tolist()]
            parts = run_in_parts(self._forward, chosen, shape, self.device, "losses", "context")
            for row, nats in zip(rows.tolist(), chain.from_iterable(parts), strict=True):
                found[ends[row] - len(nats) : ends[row]] = nats  # see the module's text

        for _ in map_batches(self.pool, run, list(batches(n_read, self.context, self.batch_tokens))):
            pass
        return found, counts

    def _forward(self, chosen: Sequence[Window], shape: Shape) -> list[Losses]:
        """Return the nats of each window's predicted tokens."""
        import torch

        ids = np.empty((shape.rows, shape.length), np.int64)
        for row in range(shape.rows):
            one = chosen[min(row, len(chosen) - 1)].ids[:-1]  # rows that lack are the last again
            ids[row, : len(one)], ids[row, len(one) :] = one, one[0]
        places = [row * shape.length + np.arange(w.n_context, len(w.ids) - 1) for row, w in enumerate(chosen)]
        place = np.concatenate(places)
        n_lacking = -len(place) % self.chunk
        place = np.pad(place, (0, n_lacking), mode="edge")
        target = np.pad(np.concatenate([w.ids[w.n_context + 1 :] for w in chosen]), (0, n_lacking), mode="edge")
        with torch.inference_mode():
            # a copy waits until the device is idle: all of them come first, and it computes without a pause
            read, predicting, expected = (torch.from_numpy(a).to(self.device) for a in (ids, place, target))
            hidden = self.decoder(input_ids=read, use_cache=False)[0].flatten(0, 1)
            found = []
            for where, wanted in zip(predicting.split(self.chunk), expected.split(self.chunk), strict=True):
                logits = self.head(inputs_embeds=hidden[where][None], use_cache=False).logits[0].float()
                found.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
            nats: Losses = torch.cat(found).cpu().numpy()
        return np.split(nats, np.cumsum([len(one) for one in places]))[: len(chosen)]


def windows(ids: Ids, n_prefix: int, context: int, stride: int) -> list[Window]:
    """Return the windows of a document: every token behind the prefix and behind the first is predicted once.

    A window reads `context` tokens and predicts the one after each of them; the next begins `stride` tokens later.
    """
    first = max(0, n_prefix - 1)
    n_read = len(ids) - 1
    if n_read <= first:
        return []
    n_more = max(0, -(-(n_read - context) // stride))
    starts = [number * stride for number in range(n_more + 1)]
    return [Window(ids[at : at + context + 1], context - stride if at else first) for at in starts]
