"""What a small model learns from each choice, as the comparison shows it: curves, last losses and their intervals."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial, reduce
from typing import Any

import numpy as np

from ..storage.shards import Mask, Shard
from ..storage.survivors import MASKS_KEPT, Survivors, selected
from .comparison_choices import Choices
from .comparison_runs import RANDOM, ComparedRuns
from .comparison_texts import TargetTexts
from .comparison_views import decided
from .progress import Reporter
from .proxy import proxy_curves
from .proxy_model import ProxySettings

_GENERAL = "the rest of the corpus"


def proxy(
    runs: ComparedRuns, drawn: Choices, targets: Sequence[TargetTexts], settings: ProxySettings, workers: int | None,
    reporter: Reporter | None,
) -> dict[str, Any]:  # fmt: skip
    """Train a small model on each choice and on random documents of those that could be chosen; return the losses.

    The losses are those of the targets' parts that no selector saw; a target without such a part has none. What was
    trained before is in the lake.
    """
    corpus = Survivors.of(runs.snapshot)
    choices = {r.name: selected(runs.lake, corpus.corpus, corpus.shards, r.selection) for r in runs.runs}
    unseen = {target.name: target.unseen.to_pylist() for target in targets if len(target.unseen)}
    pool = corpus.narrowed(lru_cache(MASKS_KEPT)(partial(_could_be_chosen, runs, drawn.open_to_all)))
    found = proxy_curves(runs.lake, choices, pool, unseen, settings, reporter, workers).report()
    return {
        "about": _about(found),
        "losses": [
            *(_losses(found, name, lambda of, name=name: of["targets"][name], part) for name, part in
              found["held_out"].items()),
            _losses(found, _GENERAL, lambda of: of["general"], found["held_out_general"]),
        ],
        "report": found,
    }  # fmt: skip


def _could_be_chosen(runs: ComparedRuns, by_all: bool, shard: Shard) -> Mask:
    """Say which rows of a shard all runs could choose, or any of them: what random documents are drawn from."""
    entered = [decided(runs, run, shard).entered for run in runs.runs]
    return reduce(np.logical_and if by_all else np.logical_or, entered)


def _about(found: Mapping[str, Any]) -> str:
    start = "new weights" if found["start"] is None else f"the weights of {found['start']}"
    bands = (
        f"The bands are {found['confidence']:.0%} intervals over {found['seeds']} seeds, which decide on weights, "
        "documents and order."
    )
    return (
        f"A model of {found['parameters']:,} parameters, from {start}, reads {found['tokens']:,} of its own tokens of "
        "each choice and of random documents of the corpus, at a constant learning rate. "
        f"{bands if found['seeds'] > 1 else 'One seed gives no interval.'} Such a short training of a small model "
        "ranks choices; it does not say how a large model will do."
    )


def _losses(found: Mapping[str, Any], title: str, part: Any, held_out: Mapping[str, int]) -> dict[str, Any]:
    """Return one plot and its table: the loss on a target, or on other documents of the corpus."""
    measured = {**{name: part(of) for name, of in found["choices"].items()}, RANDOM: part(found["random"])}
    return {
        "title": title,
        "about": f"{held_out['texts']:,} documents that no training saw, {held_out['tokens']:,} tokens",
        "curves": [{"name": name, "points": [*_points(one["curve"])]} for name, one in measured.items()],
        "columns": [
            _column("last loss", "after all tokens, in nats a token", "lower", measured, "last"),
            _column(f"minus {RANDOM}", "last loss minus that of random documents, seed by seed; below 0 is better",
                    "lower", measured, "minus_random"),
            _column("times fewer tokens", "how many times fewer tokens than random ones it needs for the same loss",
                    "higher", measured, "times_fewer"),
        ],
    }  # fmt: skip


def _points(curve: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for point in curve:
        low, high = point["interval"] or (point["mean"], point["mean"])
        yield {"tokens": point["tokens"], "mean": point["mean"], "low": low, "high": high}


def _column(title: str, about: str, better: str, measured: Mapping[str, Any], key: str) -> dict[str, Any]:
    there = {name: one[key] for name, one in measured.items() if key in one}
    return {
        "title": title, "about": about, "form": "number", "better": better,
        "values": {name: one["mean"] for name, one in there.items()},
        "notes": {name: f"{one['interval'][0]:.3g} to {one['interval'][1]:.3g}" for name, one in there.items()
                  if one["interval"]},
    }  # fmt: skip
