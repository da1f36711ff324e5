"""The filter step: drop the documents for which a rule is not true, and say which one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ..features.base import Feature
from ..storage.fingerprint import fingerprint
from ..storage.selections import SelectionWriter, Verdicts, Written, load_selection, selection_bytes
from ..storage.shards import Shard
from ..storage.survivors import Survivors
from .expressions import Expression, FeatureSchemas
from .measuring import Column, Reader, measure, tokens_column, tokens_of
from .pure_sql import connect
from .rules import compile_rules, first_failing
from .runs import Stage
from .step_entries import FilterStep
from .work import Work


def step_rules(step: FilterStep, features: Mapping[str, Feature]) -> list[Expression]:
    """Return the step's checked rules, those over cheap features first. Raises ConfigError."""
    rules = compile_rules(step.filter, FeatureSchemas(features))
    return sorted(rules, key=lambda r: max((features[a].cost for a, _ in r.columns if a), default=0))


def run_filter(work: Work, step: FilterStep, survivors: Survivors) -> dict[str, Any]:
    """Apply a filter; return the manifest of the selection."""
    rules = step_rules(step, work.features)
    aliases = dict.fromkeys(alias for r in rules for alias, _ in r.columns if alias)
    columns = tuple(Column(alias, work.features[alias]) for alias in aliases)
    recipe = {
        "filter": [[r.name, r.sql] for r in rules],
        "features": {c.alias: c.key for c in columns},
        "corpus": survivors.corpus,
        "survivors": survivors.digest,
        "tokens": tokens_column(work).key,
        "step": step.name,
    }
    key = fingerprint(recipe)
    found = load_selection(work.lake, key)
    for column in columns if not found or work.mending else ():
        measure(work, survivors, column)
    if found:
        work.stage(f"filter {step.name}", lambda stage: stage.reuse(len(survivors.shards)))
        return found
    reads = tuple(dict.fromkeys(name for r in rules for alias, name in r.columns if not alias))
    reader = Reader(work.lake, survivors, reads, columns)

    def apply(stage: Stage) -> dict[str, Any]:
        work.expect(stage, selection_bytes(survivors))
        writer = SelectionWriter(work.lake, key, step.name, survivors.corpus)

        def decide(shard: Shard) -> Written:
            row, reason = _reasons(reader, rules, shard)
            kept = reason.is_null().to_numpy(zero_copy_only=False)
            return writer.publish(shard, Verdicts(row, kept, reason=reason), tokens_of(work, shard, row))

        for written in work.map(f"filter {step.name}", decide, list(survivors.shards), lambda shard: shard.rows):
            writer.add(written)
            stage.computed += 1
        return writer.finish(recipe, kind="filter")

    return work.stage(f"filter {step.name}", apply)


def _reasons(reader: Reader, rules: list[Expression], shard: Shard) -> tuple[Any, pa.Array]:
    """Return the rows of a shard that enter, and the rule that each fails."""
    rows, reasons = [np.empty(0, np.int64)], [pa.array([], pa.string())]
    with connect() as connection:
        for item in reader.items([shard]):
            batch = reader.read(item)
            rows.append(batch.column("row").to_numpy())
            reasons.append(first_failing(rules, batch, connection))
    return np.concatenate(rows), pa.concat_arrays(reasons)
