"""The target documents that a document compresses best with, and the strings that it shares with them.

A score is the mean alignment with the target's sample less that with the pool's (`zip_fit`), so each sampled document
has its share of it. The samples are those that the score was made with, out of the state; a sampled piece is found
again in the target by its bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..features.text_buffers import text_buffers
from .alignment import Sample, Units
from .base import Around, Target
from .pilot import cut, text_keys
from .reasons import Mark, Reason, judged_by, largest_marks, not_scored
from .shared_strings import shared_strings
from .target_shares import score_columns

SHOWN = 300
"""Characters of a target document."""


@dataclass(frozen=True)
class Aligned:
    """What `ZipFit` made its scores with."""

    names: Sequence[str]
    """Of the targets; samples and shifts by them."""
    samples: Sequence[Sample]
    shifts: Sequence[float]
    """Added to the score of a document that is not refined."""
    units: Callable[..., Units]
    """From offsets and bytes of texts to what is compressed."""
    best: bool
    """Whether the best window counts, or the mean of all."""
    piece_bytes: int | None
    """Length of the pieces that the target's documents were cut to; None: they are whole."""

    def reasons(self, batch: pa.RecordBatch, scores: pa.Table, around: Around) -> list[Reason | None]:
        """Return the nearest of the target's sample of each document; the shares of all texts sum to its score.

        A part has `text` (the beginning), `weight` (its share), `alignment` (mean over the windows, or of the best),
        `shared` (the longest string that both have), and where the target is still there `doc_id`, `target` and
        `piece`, counted from 1. A mark weighs its bytes.
        """
        columns, keys = score_columns(self.names), text_keys(batch)
        found: list[Reason] = []
        shown: list[list[bytes]] = []
        for row, column in enumerate(judged_by(scores, columns)):
            if column is None:
                found.append(not_scored("targets", scores, row))
                shown.append([])
                continue
            refined = scores.column(column.replace("score", "refined", 1))[row].as_py()
            units = self.units(*text_buffers(batch.column("text").slice(row, 1)))
            reason, texts = self._reason(columns.index(column), units, int(keys[row]), bool(refined), around.most)
            found.append(reason)
            shown.append(texts)
        known = found_again(around.targets(), [text for texts in shown for text in texts], self.piece_bytes)
        for reason, texts in zip(found, shown, strict=True):
            for part, text in zip(reason.parts, texts, strict=False):
                part |= known.get(text, {})
        return [*found]

    def _reason(self, target: int, units: Units, key: int, refined: bool, most: int) -> tuple[Reason, list[bytes]]:
        """Return the reason of one document, with the texts of its parts; `units` are its windows."""
        sample = self.samples[target]
        met = np.arange(len(sample.texts)) if refined else sample.first()
        met = met[(met < sample.n) | (sample.keys[met] != key)]  # a text of the pool's sample does not meet itself
        of_target, of_pool = met[met < sample.n], met[met >= sample.n]
        pairs = sample.pairs(units)
        scores = pairs[:, of_target].sum(axis=1) / max(1, len(of_target))
        scores -= pairs[:, of_pool].sum(axis=1) / max(1, len(of_pool))
        window = int(scores.argmax())
        counted = slice(window, window + 1) if self.best else slice(None)
        alignment = pairs[counted][:, of_target].mean(axis=0)
        order = np.argsort(-alignment, kind="stable")[:most]
        texts = [sample.texts[place] for place in of_target[order].tolist()]
        low, high = int(units.starts[counted][0]), int(units.ends[counted][-1])
        mine = units.data[low:high].tobytes()
        parts: list[dict[str, Any]] = [
            {
                "text": text.decode(errors="replace")[:SHOWN], "weight": value / len(of_target), "alignment": value,
                "shared": _longest(mine, text),
            }
            for text, value in zip(texts, alignment[order].tolist(), strict=True)
        ]  # fmt: skip
        total = float(scores[counted].mean()) + (0.0 if refined else self.shifts[target])
        about = f"score {total:.4g} for {self.names[target]}: mean alignment with {len(of_target):,} of its documents"
        about += f", less that with {len(of_pool):,} texts of the pool as long" if len(of_pool) else ""
        marks = _marks(mine, len(units.data[int(units.starts[0]) : low].tobytes().decode()), texts)
        return Reason("targets", about, parts, marks, total, total - sum(part["weight"] for part in parts)), texts


def _longest(mine: bytes, text: bytes) -> str:
    spans = shared_strings(mine, [text])
    start, stop = max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
    return mine[start:stop].decode()


def _marks(mine: bytes, before: int, texts: Sequence[bytes]) -> list[Mark]:
    """Return the strings of a piece of a document, `before` characters into it, that it shares with texts."""
    places = np.cumsum([0, *((np.frombuffer(mine, np.uint8) & 0xC0) != 0x80)])
    return largest_marks(
        [
            (before + int(places[start]), before + int(places[stop]), float(stop - start))
            for start, stop in shared_strings(mine, texts)
        ]
    )


def found_again(
    targets: Sequence[Target], texts: Sequence[bytes], piece_bytes: int | None
) -> dict[bytes, dict[str, Any]]:
    """Return of which documents of the targets these texts are; of several with one text it is the first."""
    missing, found = set(texts), {}
    for target in targets if missing else ():
        for batch in target.batches():
            for doc_id, text in zip(batch.column("doc_id").to_pylist(), batch.column("text").to_pylist(), strict=True):
                for number, piece in enumerate(_pieces(text.encode(), piece_bytes), 1):
                    if piece in missing:
                        missing.discard(piece)
                        found[piece] = {"doc_id": doc_id, "target": target.name, "piece": number}
    return found


def _pieces(text: bytes, piece_bytes: int | None) -> list[bytes]:
    """Return what `target_sample.pieces` made of one document."""
    if piece_bytes is None:
        return [text]
    found = []
    while text:
        found.append(cut(text, piece_bytes))
        text = text[len(found[-1]) :]
    return found
