"""What a selector is: pure functions from features to scores, and one rule that cuts them.

A selector is one frozen dataclass in one file; its fields are its hyper-parameters and the schema of `with:` in
`flows.yaml`. It never opens a file and never keeps state on itself, so the same code runs for one shard or ten
thousand, in threads or on a cluster. The driver calls, in this order::

    summarise(batch)            for every row group of the pool, blind to the others
    merge(summaries)            exactly: the result must not depend on how the rows were cut into batches
    subtract(summary, gone)     exactly too, where that can be done at all
    fit(summary, targets, draw) once; with a `sample_size`, the summary is a random sample of the pool
    fit_from(parent, ...)       instead, with `refit: warm`: from the state of an earlier pool
    score(batch, state)         for every row group
    select(parts, state, ...)   once, over the streamed scores; the default is the shared cut
    health(...)                 once, numbers that say whether the selection can be trusted
    reasons(batch, state, ...)  when asked, later: why single documents have their scores

A selector with `groups = True` decides inside groups of documents instead (deduplication): its `score` gives the column
`group`, the driver brings the rows of each group together, and `within` says which of them stay, or scores them for a
cut over all groups. A parameter that is a `Feature` is the name of an entry of `features` in `flows.yaml`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..features.base import Feature
from .budget import Cut, CutRule, Part, Parts, make_cut
from .clusters import Clustered
from .reasons import Reason

Draw = Callable[[str], int]
"""Give the 64-bit key of a stream of random numbers for a purpose of this step; see `keyed`."""

Batches = Callable[[], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Target:
    """A sample of what is wanted, without its held-out part.

    `weight` is its share of the budget; None leaves that to the selector.
    """

    name: str
    weight: float | None
    batches: Batches


@dataclass(frozen=True)
class Around:
    """What there is beside the documents that are asked about."""

    most: int
    """So many parts are wanted."""
    targets: Callable[[], Sequence[Target]]
    """As `fit` saw them, their batches with `doc_id` and `text`; without those that the lake has no more."""
    pool: Callable[[Callable[[pa.Table], npt.NDArray[np.bool_]]], Iterator[tuple[str, pa.RecordBatch, pa.Table]]]
    """Stream the documents that entered the step and whose scores pass, which are shown a shard at a time: the name of
    the shard, what `score` saw with `doc_id`, and the scores with `kept` and `judged`."""


@dataclass(frozen=True)
class Selector(ABC):
    """Choose documents; the fields of a subclass are its hyper-parameters."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised when the scores change: it is part of every fingerprint."""
    needs_target: ClassVar[bool] = False
    groups: ClassVar[bool] = False
    per: ClassVar[str | None] = None
    """The score column by which the budget is divided; None: by what `cut.per` says."""
    log_weights: ClassVar[bool] = False
    """Whether a score is the logarithm of the weight that a document should be drawn with, whatever the cut."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Columns of the document shard that the batches carry, beside `row`, `doc_key` and the features of `needs`."""
    summary_type: ClassVar[type[Any] | None] = None
    """Frozen dataclass that `summarise` returns; None: nothing to learn from the pool."""
    summary_parameters: ClassVar[tuple[str, ...] | None] = None
    """Names of the parameters that `summarise` depends on, beside the features of `needs`; None: all."""
    fit_parameters: ClassVar[tuple[str, ...] | None] = None
    """Names of the parameters that `fit` depends on, beside the features of `needs`; None: all, and expressions."""
    score_parameters: ClassVar[tuple[str, ...] | None] = None
    """Names of the parameters that `score` depends on, those of `fit` among them; None: all."""
    merges: ClassVar[bool] = True
    """Whether `fit` sees nothing of the pool but its merged summary or its sample: only then can a fit be merged."""
    asks_models: ClassVar[bool] = False
    """Whether `reasons` runs the models of its features again: seconds, where others take a fraction of one."""
    state_type: ClassVar[type[Any]]
    """Frozen dataclass that `fit` returns: arrays, numbers, strings, mappings and tuples."""

    @property
    def needs(self) -> Mapping[str, Feature]:
        """Features that the batches carry, as columns `<name>.<column>`; by default those that parameters name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Feature)}

    @property
    def expressions(self) -> Mapping[str, str]:
        """Columns of numbers that the batches of the pool carry beside, by name: SQL over features and documents."""
        return {}

    @property
    def first_shares(self) -> Literal["equal", "proportional"] | None:
        """How a step with `refine` divides the budget of its first round between the clusters (`clustering`).

        None: this selector cannot be refined. One that can makes a single cut of the column `score`, the same documents
        in the same order however often it is asked, and takes the shares of `rule` in place of its own.
        """
        return None

    @property
    def sample_size(self) -> int:
        """How many documents of the pool `fit` sees as its summary; 0: what `merge` returns.

        They are drawn at random by their keys, and come as one batch in the order of their random numbers.
        """
        return 0

    @property
    def learns(self) -> bool:
        """Whether the state depends on the pool."""
        return self.summary_type is not None or self.sample_size > 0

    @property
    def verdict(self) -> CutRule | None:
        """What cuts the scores that `within` returns, over all groups; None: `within` itself says what stays."""
        return None

    def identity(self) -> dict[str, Any]:
        """Return what the scores depend on beside version, parameters and features: versions of libraries."""
        return {}

    def clustering(self, state: Any) -> Clustered | None:
        """Return the clusters that the score columns `cluster` (of deduplication: `group`) and `distance` speak of.

        A document whose distance is null is in none of them. None: this selector has no clusters.
        """
        return None

    def summarise(self, batch: pa.RecordBatch) -> Any:
        """Return what this selector learns from some rows of the pool (`summary_type`)."""
        return None

    def merge(self, summaries: Sequence[Any]) -> Any:
        """Return the summary of all rows; associative and exact. `summaries` is never empty."""
        return summaries[0]

    def subtract(self, summary: Any, gone: Sequence[Any]) -> Any:
        """Return what `merge` gave without some of its summaries, exactly; None: that cannot be told."""
        return None

    @abstractmethod
    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> Any:
        """Return the state (`state_type`) for the pool's summary (None: an empty pool, or nothing to learn from it)."""

    def fit_from(self, parent: Any, summary: Any, targets: Sequence[Target], draw: Draw) -> Any:
        """Return the state as `fit` does, starting from that of an earlier pool: it depends on history."""
        raise NotImplementedError(f"{self.name} has nothing to start from")

    def score(self, batch: pa.RecordBatch, state: Any) -> pa.Table:
        """Return one row a document of the batch, in its order.

        `score` (float64): larger is better; NaN ranks last; null: may not be chosen, `reason` says why. Further columns
        are kept.
        """
        raise NotImplementedError(f"{self.name} does not score documents")

    def within(self, block: pa.Table, state: Any) -> pa.Table:
        """Return `keep` (bool) and `ref` (string: id of the document that stands for it) for a block of whole groups.

        With a `verdict`, `score` (float64, the largest stay) takes the place of `keep`. `block` has `group`, `row`,
        `doc_key`, `doc_id`, the columns that the selector reads, its features, and what else `score` returned.
        """
        raise NotImplementedError(f"{self.name} does not decide within groups")

    def select(self, parts: Callable[[str], Parts], state: Any, rule: CutRule, draw: Draw) -> "Choice":
        """Cut the scores; `parts(column)` streams one score column again and again."""
        return Choice({"score": make_cut(parts("score"), rule, draw("cut"))})

    def health(self, state: Any, scores: Batches, chosen: Batches) -> dict[str, float]:
        """Return numbers about the selection that its users should look at.

        `scores` streams what `score` returned, `chosen` the batches of the chosen documents, as `score` saw them.
        """
        return {}

    def reasons(
        self, batch: pa.RecordBatch, state: Any, scores: pa.Table, around: Around
    ) -> Sequence[Reason | None] | None:
        """Say why each document of a batch has its score; None: there is no more to say than the score.

        `batch` has some documents of any shards: what `score` saw, `shard`, `doc_id` and `text`. `scores` has what
        `score` returned for them, `kept`, and `judged`: the score that they were cut by, null where they had none.
        """
        return None


@dataclass(frozen=True)
class Choice:
    """One cut for each score column, in order: a document that an earlier one chose is not seen by the later ones."""

    cuts: dict[str, Cut]
    stated: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest of the selection says beside, as JSON."""


def remaining(parts: Parts, earlier: Parts, cut: Cut) -> Parts:
    """Stream parts without what a cut chose from `earlier`, which streams the same rows in the same order."""

    def stream() -> Iterator[Part]:
        for part, seen in zip(parts(), earlier(), strict=True):
            yield replace(part, eligible=part.eligible & ~cut.kept(seen))

    return stream
