"""RS2: a fresh random subset of the pool for every round (epoch) of training, instead of one for all.

Okanovic et al. 2024, "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning", ICLR,
https://arxiv.org/abs/2305.18424: a strong baseline that costs nothing. The budget of the cut is that of one round, in
any unit, and `per` makes the rounds stratified. A document is kept where any round has it; the selection's
`multiplicity` says how many do, its manifest states the rule (`rounds`), and `rs2_round` of the catalogue expands one.
Scores and ranks are those of the first order: of mode: without its rounds follow the ranks. The learning rate is to
decay over the steps that are made, rounds times documents of a round, not over as many epochs of the whole pool.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..storage.errors import ConfigError
from .base import Around, Choice, Draw, Selector, Target
from .budget import Cut, Part, Parts, document_limit, make_cut
from .cut_kernels import MAX_WEIGHT, Bools
from .cut_rule import CutRule
from .keyed import uniform
from .order_blocks import Limits
from .random_baseline import RandomState
from .reasons import Reason
from .round_search import Entrants, RoundSearch
from .rounds import RoundPlan

Mode = Literal["without", "with", "official"]


@dataclass(frozen=True)
class RoundsCut(Cut):
    """A cut that keeps what any round has; its numbers are those of the first round."""

    plan: RoundPlan
    entrants: Entrants

    def kept(self, part: Part) -> Bools:
        """Return which rows are in a round."""
        found: Bools = self.copies(part) > 0
        return found

    def copies(self, part: Part) -> npt.NDArray[np.int32]:
        """Return in how many rounds each row is."""
        return self.plan.copies(self.entrants.rows(part))


@dataclass(frozen=True)
class Rs2(Selector):
    """Choose a fresh random subset for every round of training; the budget is that of one round."""

    name = "rs2"
    version = 1
    fit_parameters = ()
    score_parameters = ()
    state_type = RandomState

    rounds: int = 1
    """How many subsets: as many as training has epochs."""
    mode: Mode = "without"
    """without: no document again before all have been in a round; a round in which they run out is filled up from the
    next sweep, so all have one size. with: each round by itself. official: as the authors' code without replacement,
    where such a round begins its sweep again, so that some documents come twice and it lacks one (documents only)."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"rs2: rounds is {self.rounds}, expected 1 or more")
        if self.mode not in get_args(Mode):
            raise ConfigError(f"rs2: mode is {self.mode!r}, expected one of {', '.join(get_args(Mode))}")

    def fit(self, summary: Any, targets: Sequence[Target], draw: Draw) -> RandomState:
        """Return the key of the first order."""
        return RandomState(draw("order 0"))

    def score(self, batch: pa.RecordBatch, state: RandomState) -> pa.Table:
        """Return a uniform number in (0, 1) for each document: the largest are first in the first order."""
        return pa.table({"score": uniform(np.asarray(batch.column("doc_key")), state.key)})

    def reasons(
        self, batch: pa.RecordBatch, state: RandomState, scores: pa.Table, around: Around
    ) -> list[Reason | None]:
        """Say that it was chance."""
        about = "drawn by its key for every round; this number is that of the first order, the largest come first"
        return [Reason("chance", about, total=score) for score in scores.column("judged").to_pylist()]

    def select(self, parts: Callable[[str], Parts], state: RandomState, rule: CutRule, draw: Draw) -> Choice:
        """Find all rounds; of the cut's `by` only a limit counts, the order is the rounds' own."""
        stream = parts("score")
        cut = make_cut(stream, rule, draw("cut"))
        limits = (
            Limits(
                0 if group.quota == 0 else document_limit(rule, group.n_eligible),
                MAX_WEIGHT if group.quota is None else group.quota,
            )
            for group in cut.groups
        )
        entrants = Entrants(rule, tuple(group.name for group in cut.groups), tuple(limits))
        orders = tuple(draw(f"order {i}") for i in range(self.rounds))
        found = RoundSearch(stream, entrants, orders).find(self.mode)
        shuffles = tuple(draw(f"shuffle {i}") for i in range(self.rounds))
        plan = RoundPlan(self.mode, orders, shuffles, found)
        groups = tuple(
            replace(group, n_kept=found[group.name][0].n_documents, achieved=found[group.name][0].weight)
            for group in cut.groups
        )
        one = {field.name: getattr(cut, field.name) for field in fields(cut)}
        one |= {
            "groups": groups,
            "n_kept": sum(g.n_kept for g in groups),
            "weight_kept": sum(g.achieved for g in groups),
        }
        return Choice({"score": RoundsCut(**one, plan=plan, entrants=entrants)}, stated={"rounds": plan.to_json()})
