"""The cut, the same for every selector: which of the scored documents are chosen, within a budget.

The order is key descending, NaN last, then doc_id ascending (by its UTF-8 bytes). Of it the cut keeps the longest
prefix whose summed weight does not exceed the budget; the first document that does not fit ends it, and none is
skipped to fill up. Scores stream: a cut reads them three times as a rule (more with thousands of groups, or with great
ties), and needs some 50 MB for any number of rows. Gumbel top-k is sampling without replacement in proportion to
exp(score / temperature) (Kool et al. 2019, arXiv 1903.06059).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..storage.errors import SelectionError
from .boundary import MAX_ROWS, NOTHING, Edge, PoolRows, Taken, take
from .cut_kernels import COUNTED, MAX_WEIGHT, NEGATIVE, Bools, Float64s, Int64s, census, gumbel_keys, rank_bits
from .cut_rule import CutRule
from .quotas import Shares, apportion, exact_shares, one_more, redistribute

__all__ = [
    "Cut",
    "CutRule",
    "GroupCut",
    "Part",
    "Parts",
    "document_limit",
    "group_codes",
    "in_pool",
    "make_cut",
    "value_codes",
]

WHOLE_POOL = "all"
"""The name of the one group of a cut that is not per group."""
NO_GROUP = ""
"""The name of the group of the documents that have no value in the `per` column."""


@dataclass(frozen=True)
class Part:
    """The scored rows of one shard; all arrays have one entry a row."""

    shard: str
    row: npt.NDArray[np.int64]
    doc_key: npt.NDArray[np.uint64]
    score: npt.NDArray[np.float64]
    """NaN is a score that ranks last."""
    eligible: npt.NDArray[np.bool_]
    """False: may never be chosen; counted in `n_seen` and nowhere else."""
    weight: npt.NDArray[np.int64]
    """In the unit of the budget: ones, tokens or bytes; 0 or more."""
    group: pa.Array | npt.NDArray[np.generic] | None
    """Values of the `per` column where the cut is per group, compared as text."""
    doc_ids: Callable[[npt.NDArray[np.int64]], Sequence[str]]
    """Return the doc_ids of rows by index into these arrays: costly, asked for ties only. No two rows share one."""


Parts = Callable[[], Iterable[Part]]
"""Each call streams all parts again, in any order."""


@dataclass(frozen=True)
class GroupCut:
    """What the cut did with one group; weights are in the unit of the budget."""

    name: str
    asked: int | None
    """Its part of the budget; None without a budget."""
    quota: int | None
    """`asked` after redistribution: differs only where unmet quota was moved."""
    achieved: int
    """Weight of the kept documents."""
    n_kept: int
    n_seen: int
    """All rows, also those that are not eligible."""
    n_eligible: int
    """Eligible rows, also those below `min_score`: what `percent` and the default shares are measured by."""
    weight_seen: int
    """Weight of the eligible documents."""
    shortfall: int
    """How much more was asked than there is; 0 where only the next document did not fit."""


@dataclass(frozen=True)
class Cut:
    """The chosen documents, as edges in the order of each group: which rows they are is a function of the part."""

    rule: CutRule
    gumbel_key: int
    edges: Mapping[str, Edge]
    groups: tuple[GroupCut, ...]
    """In the order of their names; one, named "all", where the cut is not per group. The numbers below are sums."""
    n_seen: int
    n_eligible: int
    n_kept: int
    weight_kept: int
    weight_seen: int
    """Weight of the eligible documents."""
    shortfall: int
    """How much of the budget no group could take, after redistribution if the rule has it."""

    def keys(self, part: Part) -> Float64s:
        """Return the number that orders each row: its score, or its Gumbel key."""
        return _keys(part, self.rule, self.gumbel_key)

    def kept(self, part: Part) -> Bools:
        """Return which rows are chosen. Rows of a group that the cut has never seen are not."""
        codes = {name: code for code, name in enumerate(self.edges)}
        edges = [*self.edges.values(), NOTHING]
        rows = _pool_rows(part, self.rule, self.gumbel_key, codes)
        edge_rank = np.array([edge.rank for edge in edges], np.uint64)[rows.code]
        kept = rows.rank < edge_rank
        divided = np.array([edge.doc_id is not None for edge in edges])
        tied = np.flatnonzero((rows.rank == edge_rank) & divided[rows.code])
        if len(tied):
            edge_ids = [edges[code].doc_id or "" for code in rows.code[tied].tolist()]
            kept[tied] = [doc_id < edge for doc_id, edge in zip(part.doc_ids(tied), edge_ids, strict=True)]
        return kept

    def copies(self, part: Part) -> npt.NDArray[np.int32]:
        """Return how many times each row is chosen: once, but for the rounds of `rs2`."""
        return self.kept(part).astype(np.int32)


def make_cut(parts: Parts, rule: CutRule, gumbel_key: int = 0, max_rows: int = MAX_ROWS) -> Cut:
    """Cut the streamed parts by a rule; `gumbel_key` is the `stream_key` of by: gumbel.

    At most `max_rows` rows are held at a time, beside one part. The result depends neither on the order of the parts
    nor on how the rows are split into them. Raises SelectionError for a negative weight, for weights whose sum is
    beyond int64, and for a part without groups where the rule needs them.
    """
    codes, tally = _count(parts, rule)
    names, pool = list(codes), tally[:, 3:5]

    def limited(n_limits: Sequence[int], weight_limits: Sequence[int]) -> list[Taken]:
        limits = list(zip(n_limits, weight_limits, strict=True))
        return take(lambda: (_pool_rows(part, rule, gumbel_key, codes) for part in parts()), pool, limits, max_rows)

    n_limits = [document_limit(rule, n_eligible) for n_eligible in tally[:, 1].tolist()]
    unlimited = [MAX_WEIGHT] * len(names)
    reach = limited(n_limits, unlimited)
    if rule.budget is None:
        return _result(rule, gumbel_key, codes, tally, reach, None)
    shares = _shares(rule, dict(zip(names, tally[:, 2].tolist(), strict=True)))
    asked = apportion(_asked_total(rule.budget, rule.shares), shares)
    available = {name: taken.weight for name, taken in zip(names, reach, strict=True)}
    quota = redistribute(asked, available, shares) if rule.redistribute else asked
    closed = {name for name in names if rule.budget == 0 or (rule.shares is not None and not shares[name])}
    n_limits = [0 if name in closed else limit for name, limit in zip(names, n_limits, strict=True)]
    taken = limited(n_limits, [quota[name] for name in names])
    if rule.remainders:
        further = limited([min(t.n_docs + 1, limit) for t, limit in zip(taken, n_limits, strict=True)], unlimited)
        more = _paid_by_remainders(names, {n: min(quota[n], available[n]) for n in names}, taken, further)
        taken = limited([t.n_docs + (name in more) for name, t in zip(names, taken, strict=True)], unlimited)
    return _result(rule, gumbel_key, codes, tally, taken, _Budget(asked, quota, available))


def _paid_by_remainders(
    names: Sequence[str], fillable: Mapping[str, int], taken: Sequence[Taken], further: Sequence[Taken]
) -> set[str]:
    """Return the groups that get one more document; `further` is `taken` with it.

    `fillable` are the quotas as far as there are documents: what a group lacks is no remainder, but missing.
    """
    left = sum(fillable.values()) - sum(t.weight for t in taken)
    both = [(name, t, f) for name, t, f in zip(names, taken, further, strict=True) if f.n_docs > t.n_docs]
    missing = {name: fillable[name] - t.weight for name, t, _ in both}
    return one_more(left, missing, {name: f.weight - t.weight for name, t, f in both})


@dataclass(frozen=True)
class _Budget:
    """The budget of each group by name: its share, this after redistribution, and the weight that it could take."""

    asked: Mapping[str, int]
    quota: Mapping[str, int]
    available: Mapping[str, int]


def _result(
    rule: CutRule, gumbel_key: int, codes: Mapping[str, int], tally: Int64s, taken: list[Taken], budget: _Budget | None
) -> Cut:
    """Return the cut with its numbers, groups in the order of their names."""
    groups = []
    for name, code in sorted(codes.items()):
        n_seen, n_eligible, weight_seen = tally[code, :3].tolist()
        asked, quota, shortfall = None, None, 0
        if budget is not None:
            asked, quota = budget.asked[name], budget.quota[name]
            shortfall = max(0, asked - budget.available[name])
        kept = taken[code]
        groups.append(
            GroupCut(name, asked, quota, kept.weight, kept.n_docs, n_seen, n_eligible, weight_seen, shortfall)
        )
    shortfall = 0
    if budget is not None and rule.budget is not None:
        met = sum(min(quota, budget.available[name]) for name, quota in budget.quota.items())
        shortfall = _asked_total(rule.budget, rule.shares) - met
    return Cut(
        rule=rule,
        gumbel_key=gumbel_key,
        edges={name: taken[codes[name]].edge for name in sorted(codes)},
        groups=tuple(groups),
        n_seen=sum(group.n_seen for group in groups),
        n_eligible=sum(group.n_eligible for group in groups),
        n_kept=sum(group.n_kept for group in groups),
        weight_kept=sum(group.achieved for group in groups),
        weight_seen=sum(group.weight_seen for group in groups),
        shortfall=shortfall,
    )


def document_limit(rule: CutRule, n_eligible: int) -> int:
    """Return how many documents of a group the rule may keep at most."""
    if rule.percent is None:
        return n_eligible
    return int(n_eligible * Fraction(str(rule.percent)) / 100)


def _shares(rule: CutRule, weight_seen: Mapping[str, int]) -> Shares:
    """Return the share of each group; without shares of the rule, in proportion to their eligible weight."""
    if rule.shares is None:
        return weight_seen
    return dict.fromkeys(weight_seen, Fraction(0)) | exact_shares(rule.shares)


def _asked_total(budget: int, shares: Mapping[str, float | Fraction] | None) -> int:
    """Return how much of the budget the shares ask for: all of it, unless they add up to less than 1."""
    if shares is None:
        return budget
    return int(budget * sum(exact_shares(shares).values(), Fraction(0)))


def _count(parts: Parts, rule: CutRule) -> tuple[dict[str, int], Int64s]:
    """Return the groups' codes by name and their tally (see `census`); groups of the shares are there in any case."""
    codes = {str(name): code for code, name in enumerate(rule.shares or ())}
    if not rule.per:
        codes = {WHOLE_POOL: 0}
    tally = np.zeros((len(codes), 5), np.int64)
    for part in parts():
        code = group_codes(part, rule, codes, learn=True)
        tally = np.pad(tally, ((0, len(codes) - len(tally)), (0, 0)))
        outcome = census(code, part.eligible, in_pool(part, rule), part.weight, tally)
        if outcome != COUNTED:
            what = "a weight below 0" if outcome == NEGATIVE else f"weights whose sum is above {MAX_WEIGHT:,}"
            raise SelectionError(f"cut: {part.shard} has {what}; expected 64-bit counts. Correct the weights.")
    if sum(tally[:, 2].tolist()) > MAX_WEIGHT:
        raise SelectionError(f"cut: the weights sum to more than {MAX_WEIGHT:,}; expected 64-bit counts. Cut in parts.")
    return codes, tally


def _pool_rows(part: Part, rule: CutRule, gumbel_key: int, codes: dict[str, int]) -> PoolRows:
    """Return what orders the rows of a part; rows that cannot be chosen have code -1."""
    code = np.where(in_pool(part, rule), group_codes(part, rule, codes), -1)
    rank = rank_bits(_keys(part, rule, gumbel_key).view(np.uint64))
    return PoolRows(code, rank, part.weight, part.doc_key, part.doc_ids)


def in_pool(part: Part, rule: CutRule) -> Bools:
    """Return which rows may be chosen at all."""
    if rule.min_score is None:
        return part.eligible
    return part.eligible & (part.score >= rule.min_score)


def _keys(part: Part, rule: CutRule, gumbel_key: int) -> Float64s:
    """Return the number that orders each row."""
    if rule.by != "gumbel":
        return part.score
    keys: Float64s = gumbel_keys(part.score, part.doc_key, np.uint64(gumbel_key), rule.temperature)
    return keys


def group_codes(part: Part, rule: CutRule, codes: dict[str, int], learn: bool = False) -> Int64s:
    """Return the code of each row's group, -1 for a group without one; `learn` gives a new group the next code."""
    if not rule.per:
        return np.zeros(len(part.row), np.int64)
    if part.group is None:
        raise SelectionError(f"cut: {part.shard} has no groups; expected the column that `per` names in the scores.")
    return value_codes(part.group, codes, learn)


def value_codes(values: pa.Array | npt.NDArray[np.generic], codes: dict[str, int], learn: bool = False) -> Int64s:
    """Return the codes of the groups that the values of a `per` column name; `learn` as in `group_codes`."""
    values = pa.array(values)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    encoded = values.dictionary_encode()
    index = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    names = [NO_GROUP if value is None else str(value) for value in [*encoded.dictionary.to_pylist(), None]]
    if learn:
        for name in names[: len(names) if encoded.null_count else -1]:
            codes.setdefault(name, len(codes))
    code: Int64s = np.array([codes.get(name, -1) for name in names], np.int64)[index]
    return code
