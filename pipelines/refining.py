"""The rounds of a refined select step: choose, score what was chosen, weigh the clusters anew, choose again.

The score is computed for a round's own documents, not for the pool: that is what makes a costly one possible. What a
round did is published once its documents are scored, by the name of the selection and its number, so a run that was
killed goes on with the round that it was in. The last round is not scored, because no round follows. A round itself
reads the selector's scores as a cut does, and takes 0.5 to 0.7 of its time (99,087 documents in 1,000 clusters).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..selectors.budget import Cut, CutRule, Part, make_cut
from ..selectors.exact_sums import ExactMeans
from ..selectors.refinement import (
    VERSION,
    Floats,
    Int64s,
    Round,
    left_over,
    next_weights,
    round_budget,
    shares_of,
    united,
)
from ..storage.lake import Lake
from ..storage.schema import CHOSEN_IN_ROUND
from ..storage.shards import Mask, Shard
from ..storage.survivors import MASKS_KEPT, Survivors
from .measuring import Reader, documents_in, measure, tokens_of
from .refine_entry import Refine
from .round_scores import RoundScores
from .runs import Stage
from .scoring import Scored
from .work import Work


def refine_recipe(refine: Refine, scores: RoundScores) -> Mapping[str, Any]:
    """Return what the rounds are made by, beside the scores of the selector and the budget."""
    return {"version": VERSION, "rounds": refine.rounds, "weights": refine.weights, **scores.recipe}


@dataclass(frozen=True)
class Refined:
    """What the rounds of a step did, and what was chosen after each: the last of the cuts is the choice."""

    rounds: tuple[Round, ...]
    cuts: tuple[Cut, ...]

    def publish_numbers(self, lake: Lake, key: str, shard: Shard, part: Part) -> None:
        """Publish in which round each document of a shard was chosen; `key` is the selection's."""
        n_cuts = np.sum([cut.kept(part) for cut in self.cuts], axis=0)  # a cut chose what those before it chose
        kept = n_cuts > 0
        table = pa.table([part.row[kept], len(self.cuts) + 1 - n_cuts[kept]], schema=CHOSEN_IN_ROUND)
        lake.publish_table(lake.rounds(key) / "documents" / f"{shard.digest}.parquet", table)

    def about(self) -> list[dict[str, Any]]:
        """Return what people ask about each round; what it did with each cluster is in the catalogue."""
        return [
            {
                "round": number, "asked": int(found.asked.sum()), "achieved": int(found.achieved.sum()),
                "chosen": int(found.chosen.sum()), "tokens": int(found.tokens.sum()), "scored": int(found.scored.sum()),
                "clusters": int((found.weight > 0).sum()),
            }
            for number, found in enumerate(self.rounds, 1)
        ]  # fmt: skip


@dataclass(frozen=True)
class Rounds:
    """The rounds of one step."""

    work: Work
    step: str
    refine: Refine
    scores: RoundScores
    scored: Scored
    part: Callable[[Shard], Part]
    """Return the documents of a shard for the cut, with their clusters."""
    rule: Callable[[], CutRule]
    key: str
    """Of the selection."""

    def run(self) -> Refined:
        """Return what all rounds chose; the lake has them afterwards."""
        rule, census, weights = self.work.stage(f"weights {self.step}", self._begin)
        rounds: list[Round] = []
        for number in range(1, self.refine.rounds + 1):
            name, path = f"round {number} {self.step}", self.work.lake.rounds(self.key) / f"{number}.parquet"
            if path.exists() and not self.work.mending:  # its documents' features may be gone
                self.work.stage(name, lambda stage: stage.reuse(1))
            else:
                found = self.work.stage(name, partial(self._choose, rule, census, weights, rounds))
                if number < self.refine.rounds:
                    found = self._score(census, rounds, found)
                self.work.lake.publish_table(path, found.table())
            rounds.append(Round.from_table(self.work.lake.table(path)))
            weights = self._next(number, rounds[-1])
        return Refined(tuple(rounds), tuple(united(census, rounds[:n]) for n in range(1, len(rounds) + 1)))

    def _begin(self, stage: Stage) -> tuple[CutRule, Cut, Floats]:
        """Return the rule with the whole budget, a cut that chose nothing, and the weights of the first round."""
        rule = self.rule()
        nothing = replace(rule, budget=0, shares=None, redistribute=False)
        census = make_cut(self._parts, nothing, self.work.draw(self.step)("cut"))
        clustered = self.scored.selector.clustering(self.scored.state)
        assert clustered is not None  # round_scores
        n = max(1, len(clustered.state.centroids))
        weights = np.full(n, 1 / n)
        if self.scored.selector.first_shares == "proportional" and census.weight_seen:
            seen = {group.name: group.weight_seen for group in census.groups}
            weights = np.array([seen.get(str(c), 0) for c in range(n)]) / census.weight_seen
        stage.computed = 1
        return rule, census, weights

    def _parts(self) -> Iterator[Part]:
        return (self.part(shard) for shard in self.scored.reader.survivors.shards)

    def _choose(self, rule: CutRule, census: Cut, weights: Floats, rounds: list[Round], stage: Stage) -> Round:
        """Return what the next round chooses of what the rounds before left."""
        assert rule.budget is not None  # round_scores
        so_far = united(census, rounds)
        budget = round_budget(rule.budget, len(rounds) + 1, self.refine.rounds, so_far.weight_kept)
        mine = replace(rule, budget=budget, shares=shares_of(weights))

        def left(column: str) -> Callable[[], Iterator[Part]]:
            assert column == "score"  # Selector.first_shares
            return lambda: (left_over(part, so_far) for part in self._parts())

        selector, state = self.scored.selector, self.scored.state
        (cut,) = selector.select(left, state, mine, self.work.draw(self.step)).cuts.values()
        chosen, tokens = np.zeros((2, len(weights)), np.int64)
        for shard, part in zip(self.scored.reader.survivors.shards, left("score")(), strict=True):
            kept = cut.kept(part)
            cluster = np.asarray(part.group)[kept]
            np.add.at(chosen, cluster, 1)
            np.add.at(tokens, cluster, tokens_of(self.work, shard, part.row[kept]))
        stage.computed = 1
        return Round.of(cut, weights, chosen, tokens)

    def _score(self, census: Cut, rounds: list[Round], found: Round) -> Round:
        """Return a round with the clusters' mean scores: of its documents, or (official) of everything so far."""
        before, after = united(census, rounds), united(census, [*rounds, found])
        columns = self.scores.columns(len(rounds) + 1, self._chosen(after))
        judged = self._chosen(after, None if self.refine.weights == "official" else before)
        for column in columns:
            measure(self.work, judged, column)
        expression = self.scores.expression
        reader = Reader(self.work.lake, judged, expression.document_columns, (), (expression,), columns)
        name = f"weigh {len(rounds) + 1} {self.step}"
        return self.work.stage(name, partial(self._weigh, name, reader, found))

    def _weigh(self, name: str, reader: Reader, found: Round, stage: Stage) -> Round:
        """Return a round with the means of the scores that `reader` reads; only finite numbers count."""
        means = ExactMeans(len(found.weight))

        def read(item: tuple[Shard, int]) -> tuple[Int64s, Floats]:
            batch = reader.read(item)
            score = pc.fill_null(batch.column("score"), math.nan).to_numpy(zero_copy_only=False)
            table, there = self.scored.table(item[0]), np.isfinite(score)
            place = np.searchsorted(table.column("row").to_numpy(), batch.column("row").to_numpy()[there])
            return table.column("cluster").to_numpy()[place], score[there]

        for cluster, score in self.work.map(name, read, reader.items(), documents_in, loads=reader.loads):
            means.add(cluster, score)
        stage.computed = 1
        return replace(found, mean_score=means.means(), scored=means.counts)

    def _chosen(self, after: Cut, before: Cut | None = None) -> Survivors:
        """Return what a cut chose, without what an earlier one did."""

        def mask(shard: Shard) -> Mask:
            part, inside = self.part(shard), np.zeros(shard.rows, np.bool_)
            kept = after.kept(part) if before is None else after.kept(part) & ~before.kept(part)
            inside[part.row[kept]] = True
            return inside

        survivors = self.scored.reader.survivors
        return Survivors(survivors.corpus, survivors.shards, lru_cache(MASKS_KEPT)(mask))

    def _next(self, number: int, last: Round) -> Floats:
        """Return the weights after a round, and warn where its scores say nothing."""
        if number < self.refine.rounds and last.chosen.any():
            why = None
            if not last.scored.any():
                why = "no document of it has a number as its score"
            elif self.refine.weights == "paper" and not np.nanmax(last.mean_score) > 0:
                why = "no cluster's mean score is above 0"
            if why:
                self.work.log.warn(
                    f"step {self.step}: after round {number} the clusters keep their weights, because {why}; look at "
                    "refine: score"
                )
        return next_weights(last.weight, last.mean_score, self.refine.weights)
