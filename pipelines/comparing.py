"""Compare choices: what they share, what they consist of, how near to the targets and how varied they are.

The result is one JSON value; `comparison_table` and `comparison_page` show it. Nothing is selected or scored again: one
pass over the deciding steps' tables, one over the texts of the documents in question (or, of a large corpus, of a keyed
part of its row groups), and vectors where they are in the lake. All but `overlap` "whole" and `composition` is of
equally many tokens of every choice.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..features.base import Feature
from ..storage.errors import ConfigError, TamisError
from ..storage.lake import Lake
from ..storage.result_files import result_text
from ..storage.survivors import Survivors
from .comparison_choices import Choices, ChoicesBuilder
from .comparison_composition import Compositions, expression
from .comparison_documents import Documents
from .comparison_notes import explained, notes
from .comparison_page import comparison_page
from .comparison_proxy import proxy as trained_on
from .comparison_runs import RANDOM, ComparedRun, ComparedRuns, compared_runs
from .comparison_samples import only_in
from .comparison_scores import ScoreSample
from .comparison_targets import TargetMeasures, shown_first
from .comparison_texts import Groups, TargetTexts, read_texts, readable, target_texts
from .comparison_variety import RepeatMeasures, VarietyMeasures
from .comparison_vectors import VectorMeasures, check_vectors, vector_column
from .comparison_views import shard_views
from .engine import Threads, processors
from .memory_entry import planned
from .plugins import make_tokens
from .progress import Reporter
from .proxy_model import ProxySettings
from .runs import Unrecorded
from .work import Work


def compare(
    lake: Lake | Path | str, names: Sequence[str], *, by: Sequence[str] = (), vectors: str | None = None,
    samples: int = 6, proxy: ProxySettings | None = None, workers: int | None = None, reporter: Reporter | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare what runs chose; each name is a flow, whose newest finished run is meant, or a run's id.

    `by` are expressions as in filter rules, by whose values the choices are broken down beside source and length.
    `vectors` is the alias of a feature of vectors, which are computed for the compared documents where they are
    missing; without it those are taken that are there. `samples` documents are shown that only one choice has. With
    `proxy` a small model is trained on each choice, which takes minutes. Raises ConfigError where a name is no finished
    run, or the runs are not of one corpus.
    """
    found = lake if isinstance(lake, Lake) else Lake.open(lake)
    runs = compared_runs(found, names)
    work = _work(runs, workers, reporter)
    check_vectors(work, vectors)
    broken_down = [expression(work, text) for text in by]  # what cannot be is refused before any work
    builder = ChoicesBuilder(runs)
    sample = ScoreSample({run.name: run.step["entered"] for run in runs.runs})
    tokens = 0
    for view in shard_views(runs):
        builder.see(view)
        sample.see(view)
        tokens += int(view.n_tokens.sum())
    choices, scores = builder.choices(), sample.found()
    targets = target_texts(runs)
    measured, share = readable(runs, choices)
    measures = _measures(work, runs, Groups.of(measured), targets, vectors)
    whole = {**choices.whole, RANDOM: choices.draws[0]}
    compositions = Compositions(work, Survivors.of(runs.snapshot), whole, broken_down)
    for view in shard_views(runs):
        compositions.see(view)
    trained, refused = _trained(runs, choices, targets, proxy, workers, reporter)
    return {
        "tamis": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "lake": str(found.root),
        "corpus": _corpus(runs, tokens),
        "equal_tokens": choices.tokens,
        "measured_tokens": measured.tokens,
        "random": RANDOM,
        "choices": [_choice(run, choices) for run in runs.runs],
        "overlap": overlaps(choices.equal),
        "overlap_whole": overlaps(choices.whole),
        "correlations": scores.correlations(),
        "compositions": compositions.rows(),
        "scores": [scores.distribution(name) for name in scores.names],
        "measures": measures,
        "samples": only_in(runs, choices, scores, samples) if samples else [],
        "proxy": trained,
        "how": explained(choices, measured, share),
        "notes": [*runs.notes, *notes(choices, scores), *refused],
    }


def _trained(
    runs: ComparedRuns, choices: Choices, targets: Sequence[TargetTexts], settings: ProxySettings | None,
    workers: int | None, reporter: Reporter | None,
) -> tuple[dict[str, Any] | None, list[str]]:  # fmt: skip
    """Return what small models learn, or why there are none: the rest of the comparison must not be lost for it."""
    if settings is None:
        return None, []
    try:
        return trained_on(runs, choices, targets, settings, workers, reporter), []
    except ConfigError as error:
        return None, [f"no small model was trained: {error}"]


def write_page(lake: Lake, found: dict[str, Any], path: Path) -> None:
    """Write what `compare` returned as a page, whole or not at all. Raises ConfigError where that cannot be done."""
    with result_text(lake, path) as page:
        page.write(comparison_page(found))


def _measures(
    work: Work, runs: ComparedRuns, groups: Groups, targets: Sequence[TargetTexts], vectors: str | None
) -> list[dict[str, Any]]:
    looks = TargetMeasures(groups, targets), RepeatMeasures(groups), VarietyMeasures(groups)
    read_texts(work, runs.snapshot.shards, groups, [counter for look in looks for counter in look.counters()])
    rows = [row for look in looks for row in look.rows()]
    if column := vector_column(work, vectors, groups, runs.snapshot):
        rows += VectorMeasures(work, column, groups, runs.snapshot).rows(targets)
    order = {name: i for i, name in enumerate((*(target.name for target in targets), None))}
    return sorted(shown_first(rows), key=lambda row: order[row["target"]])


def _work(runs: ComparedRuns, workers: int | None, reporter: Reporter | None) -> Work:
    """Return what measures features, with the features of all runs, the newest one's where names are the same."""
    last = runs.newest.opened
    features: dict[str, Feature] = {}
    for run in (*runs.runs, runs.newest):
        for alias in run.opened.features:
            with suppress(TamisError):  # its package, file or model is not there any more
                features[alias] = run.opened.features[alias]
    memory = planned(last.config.memory)
    return Work(
        lake=replace(runs.lake, memory=memory), config=last.config, root=last.root, features=features,
        tokens=make_tokens(last.config.tokenizer, last.root), log=Unrecorded(),
        engine=Threads(memory.workers(workers or processors())), reporter=reporter or Reporter(quiet=True),
    )  # fmt: skip


def _corpus(runs: ComparedRuns, tokens: int) -> dict[str, Any]:
    snapshot = runs.snapshot
    return {
        "name": snapshot.corpus, "snapshot": snapshot.key, "documents": snapshot.counts["documents"], "tokens": tokens,
        "bytes": sum(shard.n_bytes for shard in snapshot.shards), "tokenizer": runs.newest.record.tokenizer,
    }  # fmt: skip


def _choice(run: ComparedRun, choices: Choices) -> dict[str, Any]:
    whole, equal, step = choices.whole[run.name], choices.equal[run.name], run.step
    return {
        "name": run.name, "run": run.record.run, "flow": run.record.flow, "started": run.record.started,
        "step": step["name"], "by": run.by, "targets": run.targets, "documents": len(whole),
        "tokens": whole.tokens, "bytes": run.last["bytes_kept"], "tokens_a_document": whole.tokens / max(1, len(whole)),
        "entered": step["entered"], "equal": {"documents": len(equal), "tokens": equal.tokens},
        "health": step.get("health") or {}, "effective": _effective(step),
        "warnings": run.record.warnings,
        "alarms": run.record.alarms,
    }  # fmt: skip


def _effective(step: dict[str, Any]) -> float | None:
    """Return the effective sample size of the step's weights, the smallest where there are several targets."""
    found = [v for k, v in (step.get("health") or {}).items() if k.startswith("effective_sample") and v is not None]
    return min(found, default=None)


def overlaps(choices: Mapping[str, Documents]) -> list[dict[str, Any]]:
    """Return how much each pair of sets shares: documents, tokens, and both as shares of their union (Jaccard)."""
    found = []
    for a, b in combinations(choices, 2):
        left, right = choices[a], choices[b]
        both = np.isin(left.places, right.places, assume_unique=True)
        documents, tokens = int(both.sum()), int(left.n_tokens[both].sum())
        found.append({
            "a": a, "b": b, "documents": documents, "tokens": tokens,
            "jaccard": documents / max(1, len(left) + len(right) - documents),
            "jaccard_tokens": tokens / max(1, left.tokens + right.tokens - tokens),
        })  # fmt: skip
    return found
