"""Find the rounds of a pool: the marks between which each of them lies, in passes of which none holds the pool.

with      each round is a cut of its own order; the ends of all are found at once
without   an order is used up block by block (a sweep). The round in which it ends takes its rest, and is filled up from
          the next order without that rest, whose documents come in the order's next blocks instead: so a round has its
          exact size, and over whole sweeps all documents have been in as many rounds
official  as the authors' code has it: the last round of a sweep takes its rest and the beginning of the same order, and
          has one document less than the others

A document that is larger than a round is in none. Each group has rounds, sweeps and orders by itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..storage.errors import SelectionError
from .boundary import PoolRows, Taken, take
from .budget import Part, Parts, group_codes, in_pool
from .cut_kernels import Bools, Int64s
from .cut_rule import CutRule
from .marks import Mark, Rows, before_all, chains, places
from .order_blocks import Limits, Ordered, find_blocks
from .rounds import Round, Span

SPARE_BITS = 11
"""Places have 52 bits, the ranks of a cut 64: of these the first and the last are nobody's."""
CUTS_AT_ONCE = 4096


@dataclass(frozen=True)
class Entrants:
    """Who can be in a round at all; `limits` are those of a round, by group in the order of `names`."""

    rule: CutRule
    names: tuple[str, ...]
    limits: tuple[Limits, ...]

    def rows(self, part: Part) -> Rows:
        """Return the rows of a part; those that the rule excludes or that are larger than a round have code -1."""
        codes = {name: code for code, name in enumerate(self.names)}
        code = np.where(in_pool(part, self.rule), group_codes(part, self.rule, codes), -1)
        most = np.array([limits.weight if limits.n_documents else -1 for limits in self.limits], np.int64)
        return Rows(part.doc_key, np.where(part.weight <= most[code], code, -1), part.doc_ids)


@dataclass
class _Group:
    """What is known of one group: what there is, what a round may hold, and its rounds so far."""

    n_documents: int
    weight: int
    limits: Limits
    n_rounds: int
    rounds: list[Round] = field(default_factory=list)
    rest: Round | None = None
    """What the last sweep has left: at most a round."""
    chain: tuple[Mark, ...] = ()
    """A document before all of these is not in the rest."""
    fill: tuple[Mark, ...] = ()
    """A document before all of these has filled up a round already; none: there is no such document."""
    filled: tuple[int, int] = (0, 0)

    @property
    def n_open(self) -> int:
        """How many rounds are not known yet."""
        return self.n_rounds - len(self.rounds)

    def close(self, rest: Round, stop: Mark, taken: Taken, within: tuple[Mark, ...] = ()) -> None:
        """Add the round that has the rest and what was taken up to a mark."""
        spans = (*rest.spans, Span(None, stop, within)) if taken.n_docs else rest.spans
        self.rounds.append(Round(spans, rest.n_documents + taken.n_docs, rest.weight + taken.weight))
        self.rest = None


@dataclass(frozen=True)
class RoundSearch:
    """A pool whose rounds are looked for; `orders` has as many keys as there are rounds: enough for all modes."""

    parts: Parts
    entrants: Entrants
    orders: tuple[int, ...]

    def find(self, mode: str) -> dict[str, tuple[Round, ...]]:
        """Return the rounds of each group. Raises SelectionError where mode: official is given weights."""
        groups = self._groups()
        if mode == "official" and any(group.weight != group.n_documents for group in groups):
            raise SelectionError(
                "rs2: mode: official counts documents; give the budget in documents, or take mode: without"
            )
        if mode == "with":
            self._independent(groups)
        else:
            self._sweeps(groups, mode == "official")
        return {name: tuple(group.rounds) for name, group in zip(self.entrants.names, groups, strict=True)}

    def _groups(self) -> list[_Group]:
        """Count the documents that can be in a round; a group that fits into one has its rounds already."""
        n = len(self.entrants.names)
        pool = np.zeros((n, 2), np.int64)
        for part, rows in self._rows():
            inside = rows.code >= 0
            pool[:, 0] += np.bincount(rows.code[inside], minlength=n)
            np.add.at(pool[:, 1], rows.code[inside], part.weight[inside])
        limited = zip(pool.tolist(), self.entrants.limits, strict=True)
        groups = [_Group(n, weight, limits, len(self.orders)) for (n, weight), limits in limited]
        for group in groups:
            if group.n_documents <= group.limits.n_documents and group.weight <= group.limits.weight:
                group.rounds = [Round((Span(),), group.n_documents, group.weight)] * group.n_rounds
        return groups

    def _rows(self) -> Iterator[tuple[Part, Rows]]:
        return ((part, self.entrants.rows(part)) for part in self.parts())

    def _independent(self, groups: list[_Group]) -> None:
        """Find the rounds of mode: with, as many at once as the search has room for."""
        n, open_groups = len(groups), np.array([group.n_open > 0 for group in groups])
        n_rounds = len(self.orders) if open_groups.any() else 0
        at_once = max(1, CUTS_AT_ONCE // max(1, n))
        for first in range(0, n_rounds, at_once):
            orders = range(first, min(n_rounds, first + at_once))

            def stream(orders: range = orders) -> Iterator[PoolRows]:
                for part, rows in self._rows():
                    mine = (rows.code >= 0) & open_groups[rows.code]
                    for i, order in enumerate(orders):
                        yield self._pool_rows(part, np.where(mine, rows.code + i * n, -1), order)

            pool = np.array([(g.n_documents, g.weight) if g.n_open else (0, 0) for g in groups] * len(orders), np.int64)
            found = take(stream, pool, [(g.limits.n_documents, g.limits.weight) for g in groups] * len(orders))
            for i, taken in enumerate(found):
                if open_groups[i % n]:
                    stop = _mark(first + i // n, taken)
                    groups[i % n].close(Round((), 0, 0), stop, taken)

    def _sweeps(self, groups: list[_Group], official: bool) -> None:
        """Find the rounds of the other modes, order by order."""
        for order in range(len(self.orders)):
            if not any(group.n_open for group in groups):
                return
            if not official:
                self._fill_up(groups, order)
            self._blocks(groups, order)
            if official:
                self._begin_again(groups, order)

    def _fill_up(self, groups: list[_Group], order: int) -> None:
        """Fill up the rounds that have the rest of the last sweep, from an order without that rest."""
        others = chains([group.chain for group in groups], self.orders, 0)
        for group, rest, taken in self._taken(groups, order, 0, lambda rows: before_all(others, rows)):
            stop = _mark(order, taken)
            group.fill, group.filled = ((), (0, 0)) if not taken.n_docs else (
                (stop, *group.chain), (taken.n_docs, taken.weight))  # fmt: skip
            group.close(rest, stop, taken, group.chain)

    def _begin_again(self, groups: list[_Group], order: int) -> None:
        """Close a sweep of mode: official with the first documents of its own order, one less than are missing."""
        for group, rest, taken in self._taken(groups, order, 1, None):
            group.close(rest, _mark(order, taken), taken)

    def _taken(
        self, groups: list[_Group], order: int, less: int, among: Callable[[Rows], Bools] | None
    ) -> list[tuple[_Group, Round, Taken]]:
        """Return for each group with a rest what an order begins with, `less` documents less than the rest lacks."""
        pool, limits = np.zeros((len(groups), 2), np.int64), [(0, 0)] * len(groups)
        for i, group in enumerate(groups):
            if rest := group.rest:
                missing = group.limits.n_documents - rest.n_documents - less, group.limits.weight - rest.weight - less
                limits[i] = missing if min(missing) > 0 else (0, 0)
                inside = (rest.n_documents, rest.weight) if among else (0, 0)
                pool[i] = group.n_documents - inside[0], group.weight - inside[1]
        mine = np.array([group.rest is not None for group in groups])

        def stream() -> Iterator[PoolRows]:
            for part, rows in self._rows():
                inside = (rows.code >= 0) & mine[rows.code]
                if among:
                    inside &= among(rows)
                yield self._pool_rows(part, np.where(inside, rows.code, -1), order)

        found = take(stream, pool, limits)
        return [(group, group.rest, taken) for group, taken in zip(groups, found, strict=True) if group.rest]

    def _blocks(self, groups: list[_Group], order: int) -> None:
        """Find the rounds that lie in one order as a whole, and its rest."""
        mine = np.array([group.n_open > 0 for group in groups])
        gone = chains([group.fill for group in groups], self.orders, 0)

        def stream() -> Iterator[Ordered]:
            for part, rows in self._rows():
                inside = (rows.code >= 0) & mine[rows.code]
                if gone:
                    inside &= ~before_all(gone, rows)
                code = np.where(inside, rows.code, -1)
                yield Ordered(code, places(part.doc_key, self.orders[order]), part.weight, part.doc_ids)

        n_rows = sum(group.n_documents for group in groups if group.n_open)
        found = find_blocks(stream, n_rows, [g.limits for g in groups], [group.n_open for group in groups])
        for group, blocks in zip(groups, found, strict=True):
            start, without = None, group.fill
            for (place, doc_id), size in zip(blocks.ends, blocks.sizes, strict=True):
                stop = Mark(order, place, doc_id)
                group.rounds.append(Round((Span(start, stop, (), without),), *size))
                start, without = stop, ()
            if group.n_open:
                n, weight = group.n_documents - group.filled[0], group.weight - group.filled[1]
                span = Span(start, None, (), without)
                group.rest = Round((span,), n - blocks.n_before, weight - blocks.weight_before)
                group.chain = (start,) if start else group.fill

    def _pool_rows(self, part: Part, code: Int64s, order: int) -> PoolRows:
        rank = places(part.doc_key, self.orders[order]) << np.uint64(SPARE_BITS)
        return PoolRows(code, rank, part.weight, part.doc_key, part.doc_ids)


def _mark(order: int, taken: Taken) -> Mark:
    """Return the mark at which `take` has ended."""
    return Mark(order, taken.edge.rank >> SPARE_BITS, taken.edge.doc_id)
