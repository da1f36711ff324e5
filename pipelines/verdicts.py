"""What the cuts of a select step decide about every document: kept or not and why, its score, and its rank."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.base import Choice
from ..selectors.budget import Cut, Part, group_codes
from ..selectors.ranks import Placed, ranks
from ..storage.selections import Verdicts
from ..storage.shards import Shard
from ..storage.survivors import Survivors
from .cut_inputs import Streams
from .work import Work

GROUPS_OF_A_CUT = 1 << 32


def decide(work: Work, streams: Streams, choice: Choice, survivors: Survivors) -> Iterator[tuple[Shard, Verdicts]]:
    """Yield what the cuts decided, shard by shard."""
    placed = ranks(
        work.lake, lambda: (d.placed for d in _decided(streams, choice)), len(survivors.shards), survivors.n_documents
    )
    for shard, decided, rank in zip(survivors.shards, _decided(streams, choice), placed, strict=True):
        why_not = pc.if_else(decided.score.is_valid(), pa.scalar("below the cut"), streams.not_eligible(shard))
        kept = decided.copies > 0
        reason = pc.if_else(pa.array(kept), pa.scalar(None, pa.string()), why_not)
        yield shard, Verdicts(
            decided.placed.part.row, kept, reason=reason, score=decided.score, rank=rank, copies=decided.copies,
            cut_group=decided.cut_group,
        )  # fmt: skip


@dataclass(frozen=True)
class _Decided:
    """What the cuts decided about the rows of a shard, and the order that each row was judged in."""

    placed: Placed
    copies: Any
    score: pa.Array
    cut_group: pa.Array | None


def _decided(streams: Streams, choice: Choice) -> Iterator[_Decided]:
    """Yield each shard's decisions: a row belongs to the first cut that chose it, or to the last."""
    for parts in zip(*(streams.parts(column)() for column in choice.cuts), strict=True):
        shape = parts[0].row.size
        kept, copies = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int32)
        keys, score = np.full(shape, math.nan), np.full(shape, math.nan)
        group, has_score = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
        for number, (part, cut) in enumerate(zip(parts, choice.cuts.values(), strict=True)):
            left = replace(part, eligible=part.eligible & ~kept)
            new = cut.copies(left)
            mine = left.eligible
            keys[mine], score[mine] = cut.keys(left)[mine], part.score[mine]
            group[mine] = number * GROUPS_OF_A_CUT + _group_codes(part, cut)[mine]
            has_score |= part.eligible
            copies += new
            kept |= new > 0
        named = _group_names(parts[0], cut) if choice.stated else None
        yield _Decided(Placed(parts[0], keys, group), copies, pa.array(score, mask=~has_score), named)


def _group_codes(part: Part, cut: Cut) -> Any:
    """Return a small number for the group of each row."""
    return group_codes(part, cut.rule, {name: code for code, name in enumerate(cut.edges)})


def _group_names(part: Part, cut: Cut) -> pa.Array:
    """Return the name of each row's group; null for the code -1 of a row in none."""
    return pa.array([*cut.edges, None], pa.string()).take(pa.array(_group_codes(part, cut) % (len(cut.edges) + 1)))
