"""Rounds of choosing from clusters: what the documents of a round score decides how much the next takes of a cluster.

Yu et al. 2024, "Diversify and Conquer", Algorithm 1, https://arxiv.org/abs/2409.11378. Round r of N brings what is
chosen to r/N of the budget, so what one round cannot spend is the next one's. Inside a cluster all rounds go on in one
order: a round takes the documents after those that the rounds before it took. So everything chosen is the beginning of
each cluster's order, and a round on disk is a row a cluster. For `by: gumbel` and the random samplers this is the law
of new draws among what is left: Gumbel top-k draws its documents one after the other.

The paper and its code differ: the code takes the softmax of the means over everything chosen so far and forgets the
weights before; the paper multiplies the weights with the means of this round alone (eq. 5 and 6). The code also draws
how many documents each cluster gives; here the weights are shares of the budget, exactly. And its rounds after the
first are too small by the number of clusters (a division in the wrong place), which is not repeated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..storage.schema import ROUND
from .boundary import Edge
from .budget import Cut, GroupCut, Part

VERSION = 1
"""Raised when the same scores give other weights or rounds: it is part of the name of every choice in rounds."""

Reweighing = Literal["paper", "official"]
Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

_OF_GROUPS = ("asked", "quota", "achieved", "shortfall")


def next_weights(weights: Floats, means: Floats, by: Reweighing = "paper") -> Floats:
    """Return the clusters' weights for the next round: 0 or more, with the sum 1.

    `paper` (eq. 6): s_j / sum(s) * w_j, normalised, where a mean below 0 counts as 0: a cluster that falls to 0 stays
    there. `official`: softmax of the means. A cluster without a mean (NaN) keeps its weight, because nothing was learnt
    about it: eq. 6 gives the same where its mean is taken to be the weighted mean of the others. If no mean is above 0,
    all keep theirs.
    """
    known = ~np.isnan(means)
    gain = np.zeros_like(weights)
    if known.any():
        best = float(means[known].max())
        if by == "official":
            gain[known] = [math.exp(mean - best) for mean in means[known].tolist()]
        elif best > 0:
            gain[known] = np.maximum(0.0, means[known]) / best * weights[known]
    total, theirs = math.fsum(gain), math.fsum(weights[known])
    if not total:
        return weights.copy()
    new = np.where(known, gain / total * theirs, weights)
    return np.asarray(new / math.fsum(new))


def round_budget(budget: int, number: int, rounds: int, spent: int) -> int:
    """Return what round `number` (from 1) of `rounds` may take: so much that r/N of the budget is spent after it."""
    return max(0, budget * number // rounds - spent)


@dataclass(frozen=True)
class Round:
    """What a round did with each cluster: arrays by cluster, named as in `storage.schema.ROUND`."""

    weight: Floats
    chosen: Int64s
    tokens: Int64s
    asked: Int64s
    quota: Int64s
    achieved: Int64s
    shortfall: Int64s
    unmet: int
    edges: tuple[Edge, ...]
    mean_score: Floats
    scored: Int64s

    @classmethod
    def of(cls, cut: Cut, weight: Floats, chosen: Int64s, tokens: Int64s) -> "Round":
        """Return a round that nobody has scored yet; `cut` is of the documents that were left, by cluster."""
        groups = {group.name: group for group in cut.groups}
        mine = [groups[name] for name in shares_of(weight)]
        numbers = {name: np.array([getattr(g, name) for g in mine], np.int64) for name in _OF_GROUPS}
        edges = tuple(cut.edges[group.name] for group in mine)
        means, scored = np.full(len(mine), math.nan), np.zeros(len(mine), np.int64)
        return cls(weight, chosen, tokens, **numbers, unmet=cut.shortfall, edges=edges, mean_score=means, scored=scored)

    def table(self) -> pa.Table:
        """Return the round as it is kept."""
        n = len(self.weight)
        columns = {name: getattr(self, name) for name in ROUND.names if hasattr(self, name)} | {
            "cluster": np.arange(n),
            "mean_score": pa.array(self.mean_score, mask=np.isnan(self.mean_score)),
            "unmet": np.full(n, self.unmet),
            "edge_rank": pa.array([edge.rank for edge in self.edges], pa.uint64()),
            "edge_doc_id": pa.array([edge.doc_id for edge in self.edges], pa.string()),
        }
        return pa.table([pa.array(columns[name]) for name in ROUND.names], schema=ROUND)

    @classmethod
    def from_table(cls, table: pa.Table) -> "Round":
        """Return a round that was kept."""
        columns = {name: table.column(name).combine_chunks() for name in ROUND.names}
        ranks, ids = columns["edge_rank"].to_pylist(), columns["edge_doc_id"].to_pylist()
        return cls(
            weight=columns["weight"].to_numpy(),
            **{name: columns[name].to_numpy() for name in ("chosen", "tokens", "scored", *_OF_GROUPS)},
            unmet=columns["unmet"][0].as_py(),
            edges=tuple(Edge(rank, doc_id) for rank, doc_id in zip(ranks, ids, strict=True)),
            mean_score=columns["mean_score"].fill_null(math.nan).to_numpy(zero_copy_only=False),
        )


def shares_of(weights: Floats) -> dict[str, float]:
    """Return weights as the shares of a cut, whose groups are clusters by their number."""
    return {str(c): weight for c, weight in enumerate(weights.tolist())}


def united(census: Cut, rounds: Sequence[Round]) -> Cut:
    """Return everything that rounds chose as one cut; `census` is a cut of the same documents that chose nothing.

    A cluster is asked for what earlier rounds took of it and what the last one asks. What is missing of the budget is
    what the last round could not get.
    """
    if not rounds:
        return census
    last, clusters = rounds[-1], shares_of(rounds[0].weight)
    n_kept = np.sum([r.chosen for r in rounds], axis=0)
    achieved = np.sum([r.achieved for r in rounds], axis=0)
    before = achieved - last.achieved
    seen = {group.name: group for group in census.groups}
    groups = {**seen}
    for c, name in enumerate(clusters):
        groups[name] = replace(
            seen.get(name, GroupCut(name, 0, 0, 0, 0, 0, 0, 0, 0)), asked=int(before[c] + last.asked[c]),
            quota=int(before[c] + last.quota[c]), achieved=int(achieved[c]), n_kept=int(n_kept[c]),
            shortfall=int(last.shortfall[c]),
        )  # fmt: skip
    farthest = {name: max((r.edges[c] for r in rounds), key=_place) for c, name in enumerate(clusters)}
    edges, names = {**census.edges, **farthest}, sorted(groups)
    return replace(
        census, edges={name: edges[name] for name in names}, groups=tuple(groups[name] for name in names),
        n_kept=int(n_kept.sum()), weight_kept=int(achieved.sum()), shortfall=last.unmet,
    )  # fmt: skip


def left_over(part: Part, so_far: Cut) -> Part:
    """Return a part of which nothing may be chosen that was chosen before."""
    return replace(part, eligible=part.eligible & ~so_far.kept(part))


def _place(edge: Edge) -> tuple[int, str]:
    """Return where an edge lies in the order of its cluster."""
    return edge.rank, edge.doc_id or ""
