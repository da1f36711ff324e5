"""What each choice consists of, beside the corpus: by source, by length, and by any expression that a rule could use.

Numbers are grouped by the deciles of a sample of the corpus; of text the values with most tokens are kept, the rest
becomes one. Counts are added up shard by shard.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..storage.survivors import Survivors
from .comparison_documents import Documents
from .comparison_views import ShardView
from .expressions import Expression, FeatureSchemas, compile_expression, values
from .measuring import Column, Reader, measure
from .pure_sql import connect
from .work import Work

SHOWN, OTHERS, NONE = 40, "(others)", "(none)"
NAMES_KEPT = 100_000
"""Values that are counted one by one: the first that were seen."""
LENGTHS = tuple(2**power for power in range(4, 18))
"""Tokens at which the groups of the composition by length begin, after the first, which begins at 0."""
DECILES_OF, DISTINCT = 20_000, 12
"""Deciles are those of so many documents; numbers with no more different values are taken as they are."""


class Composition:
    """Counts of documents and tokens by value, for the corpus (None) and each choice."""

    def __init__(self, column: str, title: str, ordered: Sequence[str] | None = None) -> None:
        self.column, self.title, self.ordered = column, title, ordered
        self._known: set[str] = set()
        self._counts: dict[str | None, dict[str, npt.NDArray[np.int64]]] = defaultdict(
            lambda: defaultdict(lambda: np.zeros(2, np.int64))
        )

    def add(self, name: str | None, found: pa.Array, n_tokens: npt.NDArray[np.int64]) -> None:
        """Count documents with these values."""
        table = pa.table({"value": pc.fill_null(found.cast(pa.string()), NONE), "tokens": n_tokens})
        grouped = table.group_by("value").aggregate([("tokens", "count"), ("tokens", "sum")])
        columns = (grouped.column(i).to_pylist() for i in range(3))
        for value, documents, tokens in zip(*columns, strict=True):
            if value not in self._known:
                if len(self._known) >= NAMES_KEPT:
                    value = OTHERS
                self._known.add(value)
            self._counts[name][value] += (documents, tokens)

    def rows(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the values with the most tokens, in the corpus or a choice, and each set's documents and tokens."""
        order = self._order(names)
        shown, rest = order[:SHOWN], order[SHOWN:]
        totals = {name: max(1, sum(int(n[1]) for n in self._counts[name].values())) for name in (None, *names)}

        def said(name: str | None, wanted: Sequence[str]) -> dict[str, Any]:
            found = sum((self._counts[name][v] for v in wanted if v in self._counts[name]), np.zeros(2, np.int64))
            return {"documents": int(found[0]), "tokens": int(found[1]), "share": int(found[1]) / totals[name]}

        rest = [*rest, *(value for value in shown if value == OTHERS)]
        groups = [(value, [value]) for value in shown if value != OTHERS] + ([(OTHERS, rest)] if rest else [])
        return {
            "column": self.column,
            "title": self.title,
            "ordered": self.ordered is not None,
            "values": [
                {"value": value, "corpus": said(None, of), "choices": {name: said(name, of) for name in names}}
                for value, of in groups
            ],
        }

    def _order(self, names: Sequence[str]) -> list[str]:
        if self.ordered is not None:
            there = {value for name in (None, *names) for value in self._counts[name]}
            return [value for value in self.ordered if value in there] + ([NONE] if NONE in there else [])
        share: dict[str, float] = defaultdict(float)
        for name in (None, *names):
            total = max(1, sum(int(n[1]) for n in self._counts[name].values()))
            for value, n in self._counts[name].items():
                share[value] = max(share[value], int(n[1]) / total)
        return sorted(share, key=lambda value: (-share[value], value))


def length_labels() -> list[str]:
    """Return what the groups of documents by tokens are called."""
    return [*(f"{a:,} to {b - 1:,}" for a, b in pairwise([0, *LENGTHS])), f"{LENGTHS[-1]:,} and more"]


def lengths_of(n_tokens: npt.NDArray[np.int64]) -> pa.Array:
    """Return the group of each document by its tokens."""
    return pa.array(length_labels()).take(pa.array(np.searchsorted(LENGTHS, n_tokens, "right")))


def expression(work: Work, text: str) -> Expression:
    """Return a checked expression to break the choices down by. Raises ConfigError."""
    return compile_expression("--by", "value", text, FeatureSchemas(work.features), None)


class Compositions:
    """Count sources, lengths and expressions while the corpus goes by."""

    def __init__(
        self, work: Work, survivors: Survivors, choices: Mapping[str, Documents], by: Sequence[Expression]
    ) -> None:
        self._choices = choices
        self._source = Composition("source", "Source")
        self._length = Composition("length", "Length in tokens", length_labels())
        self._by = [_Asked(work, survivors, one) for one in by]

    def see(self, view: ShardView) -> None:
        """Add a shard."""
        live = np.flatnonzero(view.live)
        found = {id(self._source): view.shard.read_column("source").take(pa.array(live))}
        found[id(self._length)] = lengths_of(view.n_tokens[live])
        for asked in self._by:
            found[id(asked.composition)] = asked.of_shard(view, live)
        for composition in (self._source, self._length, *(a.composition for a in self._by)):
            column = found[id(composition)]
            composition.add(None, column, view.n_tokens[live])
            for name, documents in self._choices.items():
                rows = documents.of_shard(view.place)
                composition.add(name, column.take(pa.array(np.searchsorted(live, rows))), view.n_tokens[rows])

    def rows(self) -> list[dict[str, Any]]:
        """Return each composition."""
        names = list(self._choices)
        return [c.rows(names) for c in (self._source, self._length, *(a.composition for a in self._by))]


class _Asked:
    """An expression as a composition: measured where it must be, numbers in deciles."""

    def __init__(self, work: Work, survivors: Survivors, asked: Expression) -> None:
        self._expression = asked
        columns = tuple(Column(alias, work.features[alias]) for alias in self._expression.aliases)
        for column in columns:
            measure(work, survivors, column)
        self._reader = Reader(work.lake, survivors, self._expression.document_columns, columns)
        self._edges = _edges(np.concatenate([*self._sampled(), np.empty(0)])) if self._expression.is_number else None
        labels = None if self._edges is None else decile_labels(self._edges)
        self.composition = Composition(asked.text, asked.text, labels)

    def _sampled(self) -> Iterator[npt.NDArray[np.float64]]:
        """Yield numbers of row groups spread over the corpus, until there are enough."""
        items, n = self._reader.items(), 0
        for item in items[:: max(1, len(items) * 4_000 // DECILES_OF)]:
            found = self._values(item).cast(pa.float64()).drop_null().to_numpy()
            yield found
            n += len(found)
            if n >= DECILES_OF:
                return

    def of_shard(self, view: ShardView, live: npt.NDArray[np.int64]) -> pa.Array:
        """Return the value of each document of a shard as text."""
        parts = [self._values(item) for item in self._reader.items([view.shard])]
        found = pa.chunked_array(parts, parts[0].type if parts else pa.string()).combine_chunks()
        if self._edges is None:
            return _plain(found)
        numbers = found.cast(pa.float64()).to_numpy(zero_copy_only=False)  # NULL is NaN
        place = np.searchsorted(self._edges, numbers, "right")
        return pa.array(decile_labels(self._edges)).take(pa.array(place, mask=np.isnan(numbers)))

    def _values(self, item: Any) -> pa.Array:
        batch = self._reader.read(item)
        with connect() as connection:
            return values(self._expression, batch, connection)


def _plain(found: pa.Array) -> pa.Array:
    """Return values as text, whole numbers without a point."""
    if not pa.types.is_floating(found.type):
        return found.cast(pa.string())
    return pa.array([None if x is None else f"{x:.12g}" for x in found.to_pylist()], pa.string())


def _edges(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Return where groups of numbers begin after the first; None where they have few values."""
    numbers = numbers[np.isfinite(numbers)]
    if len(np.unique(numbers)) <= DISTINCT:
        return None
    return np.unique(np.quantile(numbers, np.arange(1, 10) / 10))


def decile_labels(edges: npt.NDArray[np.float64]) -> list[str]:
    """Return what the groups between edges are called."""
    said = [f"{edge:,.4g}" for edge in edges]
    if len(set(said)) < len(said):  # numbers that differ late, such as times
        said = [f"{edge:,.15g}" for edge in edges]
    return [f"below {said[0]}", *(f"{a} to {b}" for a, b in pairwise(said)), f"{said[-1]} and more"]
