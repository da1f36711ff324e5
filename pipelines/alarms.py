"""What a person should look at before trusting a run: each alarm is a number of a step, and what it means.

Alarms are read from the manifest of a step, so one that the lake had already gives the same as one that was computed,
and other limits compute nothing again. They change no exit code; what a step was asked for and could not do (`unmet`)
is a warning as well, and that does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .alarm_limits import AlarmLimits

MET_FROM = 0.95
"""A budget counts as met from this share on: the first document that does not fit ends a cut."""
CORRELATED_FROM = 10
"""Of fewer documents a rank correlation above 0.9 is often chance."""

Manifest = Mapping[str, Any]

_IF_NOTHING = {
    "filter": "if rules should drop something, compare their bounds with the features of a few documents",
    "dedup": "if there should be duplicates, look at what differs between two of them",
    "decontaminate": "if there should be leaks, look at whether the targets are the evaluation sets that you mean",
    "select": "the cut takes everything; lower the budget, or leave the step out",
}


@dataclass(frozen=True)
class Alarm:
    """A number of a step that is beyond its limit."""

    step: str
    name: str
    value: float
    threshold: float
    message: str
    """What it means and what to look at."""

    @property
    def text(self) -> str:
        """The message with its step."""
        return f"step {self.step}: {self.message}"


def alarms(run: str, step: str, manifest: Manifest, limits: AlarmLimits) -> Iterator[Alarm]:
    """Yield the alarms of a step of a run. A number that the manifests of older versions lack gives none.

    `run` is its id: a message names the query that shows what the step dropped in it, and in no other.
    """
    if limits.removes_nothing is not None:
        yield from _removes_nothing(step, manifest, limits.removes_nothing)
    if limits.removes_most is not None:
        yield from _removes_most(run, step, manifest, limits.removes_most)
    if limits.nan_scores is not None:
        yield from _nan_scores(step, manifest, limits.nan_scores)
    if limits.follows_length is not None:
        yield from _follows_length(step, manifest, limits.follows_length)
    if limits.few_effective is not None:
        yield from _few_effective(step, manifest, limits.few_effective)
    if limits.budget_not_met:
        yield from _budget_not_met(step, manifest)


def unmet(step: str, manifest: Manifest) -> Iterator[Alarm]:
    """Yield what a step was asked for and could not do, whatever the limits."""
    yield from (alarm for alarm in _nan_scores(step, manifest, 0.0) if _no_number(manifest))
    yield from _budget_not_met(step, manifest)


def _removes_nothing(step: str, manifest: Manifest, limit: float) -> Iterator[Alarm]:
    entered, dropped = manifest["entered"], _dropped(manifest)
    if entered and dropped <= limit * entered:
        message = f"{_done(manifest)}; {_IF_NOTHING[manifest['kind']]}"
        yield Alarm(step, "removes_nothing", dropped / entered, limit, message)


def _removes_most(run: str, step: str, manifest: Manifest, limit: float) -> Iterator[Alarm]:
    """Judge a step that has no budget: one that has drops as much as it was told to."""
    entered, dropped = manifest["entered"], _dropped(manifest)
    if not _told_how_many(manifest) and dropped > limit * entered:
        where = f"run = '{run}' and step = '{step}' and reason is not null"
        look = f'tamis sql "from selection_steps where {where} limit 20"'
        yield Alarm(step, "removes_most", dropped / entered, limit, f"{_done(manifest)}; look at some: {look}")


def _dropped(manifest: Manifest) -> int:
    """Return how many documents a step dropped, or flagged where that is what it does; of `rs2` the first round."""
    if manifest.get("action") == "flag":
        return sum(manifest["reasons"].values())
    kept = sum(cut["n_kept"] for cut in manifest["cuts"].values()) if "cuts" in manifest else manifest["kept"]
    return int(manifest["entered"] - kept)


def _told_how_many(manifest: Manifest) -> bool:
    return manifest.get("kind") == "select" and (
        manifest["budget"] is not None or manifest["recipe"]["cut"]["percent"] is not None
    )


def _done(manifest: Manifest) -> str:
    """Say how many documents a step dropped, and each rule of a filter."""
    entered, dropped = manifest["entered"], _dropped(manifest)
    verb = "flags" if manifest.get("action") == "flag" else "drops"
    share = f" ({100 * dropped / entered:.3g}%)" if dropped else ""
    rules = dict.fromkeys((name for name, _ in manifest["recipe"].get("filter", ())), 0)
    found = sorted((rules | manifest["reasons"]).items(), key=lambda item: -item[1])
    why = f": {', '.join(f'{name} {n:,}' for name, n in found)}" if found else ""
    return f"{verb} {f'{dropped:,}' if dropped else 'none'} of {entered:,} documents{share}{why}"


def _nan_scores(step: str, manifest: Manifest, limit: float) -> Iterator[Alarm]:
    for column, found in manifest.get("scores", {}).items():
        if found["nan"] > limit * found["documents"]:
            message = (
                f"{found['nan']:,} of {found['documents']:,} documents have NaN as {column}, which ranks last; look "
                "for what makes it: an input that is missing, 0 / 0, a loss that overflows"
            )
            if _no_number(manifest):
                message = (
                    "no document has a number as its score, so the choice goes by the order of the ids; look at the "
                    "selector's parameters"
                )
            yield Alarm(step, "nan_scores", found["nan"] / found["documents"], limit, message)


def _no_number(manifest: Manifest) -> bool:
    """Say whether documents have scores, and none of them is a number."""
    counts = list(manifest.get("scores", {}).values())
    return bool(counts) and all(found["nan"] == found["documents"] > 0 for found in counts)


def _follows_length(step: str, manifest: Manifest, limit: float) -> Iterator[Alarm]:
    for name, value in manifest.get("health", {}).items():
        if not (name.startswith("correlation") and name.endswith("_with_length")):
            continue
        if value is not None and abs(value) > limit and manifest["entered"] >= CORRELATED_FROM:
            column = "score" + name.removeprefix("correlation").removesuffix("_with_length")
            message = (
                f"{column} and length in bytes have the rank correlation {value:.3f}: the "
                f"{'longest' if value > 0 else 'shortest'} documents are chosen, whatever they say; normalise the "
                "score by length, or cut the documents to equal lengths"
            )
            yield Alarm(step, "follows_length", value, limit, message)


def _few_effective(step: str, manifest: Manifest, limit: float) -> Iterator[Alarm]:
    """Compare the documents that the whole weight lies on with those that were drawn by it.

    Only of a Gumbel cut that left some: to take the top of a list is what other cuts are for.
    """
    for column, cut in manifest.get("cuts", {}).items() if _drawn_as_weighed(manifest) else ():
        effective = manifest["health"].get(f"effective_sample{column.removeprefix('score')}_size")
        if effective is not None and effective < limit * cut["n_kept"] and cut["n_kept"] < cut["n_eligible"]:
            share = effective / cut["n_kept"]
            message = (
                f"the weight of {column} lies on {effective:,.3g} documents, and {cut['n_kept']:,} were drawn by it "
                f"({100 * share:.2g}%), nearly all of them with next to no weight; compare the choice with that of "
                "`by: top` and of other temperatures (`from overlap('RUN', 'RUN')` of the catalogue)"
            )
            yield Alarm(step, "few_effective", share, limit, message)


def _drawn_as_weighed(manifest: Manifest) -> bool:
    """Say whether the cut drew by the weights whose size is given: manifests without `scores` took temperature 1."""
    cut = manifest["recipe"].get("cut", {})
    return cut.get("by") == "gumbel" and ("scores" in manifest or cut["temperature"] == 1)


def _budget_not_met(step: str, manifest: Manifest) -> Iterator[Alarm]:
    """Judge every budget, or share of one: too few documents, or the next one too large."""
    for cut in (manifest.get("cuts") or {}).values():
        for group in [_as_one(cut)] if manifest.get("divided") else cut["groups"]:
            if why := _why_short(group, manifest["budget"]):
                whose = f" for {group['name']!r}" if group["name"] != "all" else ""
                value = group["achieved"] / max(group["asked"], group["quota"], 1)
                limit = 1.0 if group["shortfall"] else MET_FROM
                yield Alarm(step, "budget_not_met", value, limit, f"the budget{whose} is not met, {why}")


def _as_one(cut: Manifest) -> dict[str, Any]:
    """Return the groups that a selector made, often thousands, as one group."""
    asked, quota = (sum(group[name] or 0 for group in cut["groups"]) for name in ("asked", "quota"))
    return {
        "name": "all", "asked": asked, "quota": quota, "achieved": cut["weight_kept"], "n_seen": cut["n_seen"],
        "shortfall": cut["shortfall"],
    }  # fmt: skip


def _why_short(group: Manifest, budget: Mapping[str, Any] | None) -> str | None:
    """Say why a group has clearly less than its part of the budget, or return None."""
    if not budget or group["quota"] is None:
        return None
    part = f"{group['achieved']:,} of {group['quota']:,} {budget['unit']}"
    if not group["n_seen"] and group["quota"]:
        return f"{part}: no document has that value"
    if group["shortfall"]:
        return f"{part}: there is no more"
    if group["achieved"] < MET_FROM * group["quota"]:
        return f"{part}: the next document in order is larger than what is left, and none is skipped"
    return None
