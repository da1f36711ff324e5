"""Rounds of random subsets as a rule: which documents are in one is computed from their keys, no round is ever stored.

A round is spans of keyed orders: a document is in it where its place in an order, a hash of its key, lies between two
marks. Any round of any file expands by itself, alone: 10^9 documents and 100 rounds are some hundred marks a group, not
10^11 rows. Marks are as exact as a cut: where two documents have the same place, the mark says the id. All numbers of
an order are integers below 2^53, which JSON and SQL hold: the catalogue evaluates the same rule (`rs2_round`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .marks import AFTER_ALL, Bools, Mark, Marks, Rows, UInt64s, before_all, chains, places


@dataclass(frozen=True)
class Span:
    """The documents from `start` (None: the first) up to `stop` (None: the last), as far as the rest holds."""

    start: Mark | None = None
    stop: Mark | None = None
    within: tuple[Mark, ...] = ()
    """Only documents before all of these, each in its own order."""
    without: tuple[Mark, ...] = ()
    """Not the documents before all of these; none: nothing is left out."""


@dataclass(frozen=True)
class Round:
    """What one round has of one group."""

    spans: tuple[Span, ...]
    """They share no document."""
    n_documents: int
    weight: int


@dataclass(frozen=True)
class RoundPlan:
    """All rounds of a selection."""

    mode: str
    orders: tuple[int, ...]
    """The key of each order: a document's place is 2^52 - (mix64(doc_key ^ key) >> 12), so 1 comes first."""
    shuffles: tuple[int, ...]
    """The key of each round's own order, in which its documents are shown."""
    groups: Mapping[str, tuple[Round, ...]]

    @property
    def n_rounds(self) -> int:
        """Number of rounds, which are counted from 0."""
        return len(self.shuffles)

    def members(self, table: pa.Table | pa.RecordBatch, number: int) -> Bools:
        """Return which rows are in a round: of a selection's file, with `doc_key`, `doc_id`, `kept` and `cut_group`."""
        return self.has(self._rows(table), number)

    def places_in_round(self, doc_keys: UInt64s, number: int) -> UInt64s:
        """Return numbers that order the members of a round as a reader should show them; ties go by doc_id."""
        return places(doc_keys, self.shuffles[number])

    def has(self, rows: Rows, number: int) -> Bools:
        """Return which rows are in a round."""
        inside = np.zeros(len(rows.code), np.bool_)
        for spans in self._compiled[number]:
            inside |= spans.of(rows)
        return inside

    def copies(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Return in how many rounds each row is."""
        copies = np.zeros(len(rows.code), np.int32)
        for number in range(self.n_rounds):
            copies += self.has(rows, number)
        return copies

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON; a mark is [order, place, id], and what a span does not have is left out."""
        groups = [{"name": name, "rounds": [_round_json(r) for r in rounds]} for name, rounds in self.groups.items()]
        return {
            "mode": self.mode, "orders": list(self.orders), "shuffles": list(self.shuffles), "groups": groups,
        }  # fmt: skip

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> "RoundPlan":
        """Return the plan that a manifest states (`rounds`)."""
        groups = {group["name"]: tuple(map(_round_of, group["rounds"])) for group in stated["groups"]}
        return cls(stated["mode"], tuple(stated["orders"]), tuple(stated["shuffles"]), groups)

    def _rows(self, table: pa.Table | pa.RecordBatch) -> Rows:
        codes = {name: code for code, name in enumerate(self.groups)}
        encoded = pa.array(table.column("cut_group").to_pylist(), pa.string()).dictionary_encode()
        of_name = np.array([*(codes.get(name, -1) for name in encoded.dictionary.to_pylist()), -1], np.int64)
        code = of_name[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)]
        kept = np.asarray(table.column("kept"))
        ids = table.column("doc_id")
        return Rows(
            np.asarray(table.column("doc_key")), np.where(kept, code, -1), lambda at: ids.take(pa.array(at)).to_pylist()
        )

    @cached_property
    def _compiled(self) -> list[list["SpanOfGroups"]]:
        """Return the spans of each round with arrays instead of objects: the first span of every group, and so on."""
        compiled = []
        for number in range(self.n_rounds):
            spans = [rounds[number].spans for rounds in self.groups.values()]
            slots = range(max(map(len, spans), default=0))
            compiled.append([span_of_groups([s[i] if i < len(s) else None for s in spans], self.orders) for i in slots])
        return compiled


@dataclass(frozen=True)
class SpanOfGroups:
    """A span of every group, evaluated for rows of all of them at once."""

    there: Bools
    start: list[Marks]
    stop: list[Marks]
    """Also the marks of `within`."""
    without: list[Marks]

    def of(self, rows: Rows) -> Bools:
        """Return which rows are in the span of their group."""
        inside: Bools = self.there[rows.code]
        if self.stop:
            inside = inside & before_all(self.stop, rows)
        for marks in (self.start, self.without):
            if marks:
                inside = inside & ~before_all(marks, rows)
        return inside


def span_of_groups(spans: Sequence[Span | None], orders: Sequence[int]) -> SpanOfGroups:
    """Return one span a group as arrays; None: the group has none."""
    each = [span or Span() for span in spans]
    start = chains([(span.start,) if span.start else () for span in each], orders, 0)
    stop = chains([(span.stop,) if span.stop else () for span in each], orders, AFTER_ALL)
    within = chains([span.within for span in each], orders, AFTER_ALL)
    without = chains([span.without for span in each], orders, 0)
    there = np.array([*(span is not None for span in spans), False])
    return SpanOfGroups(there, start, [*stop, *within], without)


def _round_json(one: Round) -> dict[str, Any]:
    spans = []
    for span in one.spans:
        ends = {name: _mark_json(mark) for name in ("start", "stop") if (mark := getattr(span, name))}
        lists = {name: list(map(_mark_json, marks)) for name in ("within", "without") if (marks := getattr(span, name))}
        spans.append({**ends, **lists})
    return {"documents": one.n_documents, "weight": one.weight, "spans": spans}


def _mark_json(mark: Mark) -> list[Any]:
    return [mark.order, mark.place, mark.doc_id]


def _round_of(stated: Mapping[str, Any]) -> Round:
    spans = [
        Span(
            Mark(*span["start"]) if "start" in span else None,
            Mark(*span["stop"]) if "stop" in span else None,
            tuple(Mark(*mark) for mark in span.get("within", ())),
            tuple(Mark(*mark) for mark in span.get("without", ())),
        )
        for span in stated["spans"]
    ]
    return Round(tuple(spans), stated["documents"], stated["weight"])
