"""The decontaminate step: drop or flag the documents that repeat an evaluation document, and say which one.

The evaluation documents are those of whole targets: a held-out part is kept to judge by, so it needs this protection
as much as the rest. They are read and indexed once and stay in memory; the pool goes by a row group at a time.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..selectors.decontamination import VERSION, EvaluationRuns, evaluation_runs
from ..storage.errors import ConfigError
from ..storage.fingerprint import fingerprint
from ..storage.selections import SelectionWriter, Verdicts, Written, load_selection, selection_bytes
from ..storage.shards import Shard
from ..storage.snapshots import Snapshot
from ..storage.survivors import Survivors
from .measuring import Reader, documents_in, tokens_column, tokens_of
from .runs import Stage
from .step_entries import DecontaminateStep, SharedWords
from .work import Work


def run_decontaminate(
    work: Work, step: DecontaminateStep, survivors: Survivors, targets: Mapping[str, Snapshot]
) -> dict[str, Any]:
    """Look for evaluation documents; return the manifest of the selection. Raises ConfigError for an empty target."""
    protected = {name: Survivors.of(targets[name]) for name in sorted(targets)}
    for name, found in protected.items():
        if not found.n_documents:
            raise ConfigError(f"step {step.name!r}: target {name!r} has no document to protect; check its `files`")
    recipe = {
        "decontaminate": {**step.parameters.model_dump(), "version": VERSION, "unicode": unicodedata.unidata_version},
        "targets": [[name, found.digest] for name, found in protected.items()],
        "corpus": survivors.corpus,
        "survivors": survivors.digest,
        "tokens": tokens_column(work).key,
        "step": step.name,
    }
    key = fingerprint(recipe)
    manifest = load_selection(work.lake, key)
    if manifest:
        work.stage(f"decontaminate {step.name}", lambda stage: stage.reuse(len(survivors.shards)))
    else:
        body = partial(_decontaminate, work, step, survivors, protected, key, recipe)
        manifest = work.stage(f"decontaminate {step.name}", body)
    _warn_of_gaps(work, step, manifest, targets)
    return manifest


def _decontaminate(
    work: Work, step: DecontaminateStep, survivors: Survivors, protected: Mapping[str, Survivors], key: str,
    recipe: Mapping[str, Any], stage: Stage,
) -> dict[str, Any]:  # fmt: skip
    work.expect(stage, selection_bytes(survivors))
    evaluations = _read_evaluations(work, step.parameters, protected)
    reader = Reader(work.lake, survivors, ("text",))
    writer = SelectionWriter(work.lake, key, step.name, survivors.corpus)

    def search(item: tuple[Shard, int]) -> tuple[Any, Any]:
        batch = reader.read(item)
        return batch.column("row").to_numpy(), evaluations.runs.best(batch.column("text"))

    def decide(shard: Shard, pieces: Iterator[tuple[Any, Any]]) -> Written:
        rows, found = zip(*pieces, strict=True)
        row = np.concatenate(rows)
        verdicts = evaluations.verdicts(row, np.concatenate(found), step.parameters)
        return writer.publish(shard, verdicts, tokens_of(work, shard, row))

    name, groups = f"decontaminate {step.name}", reader.groups(survivors.shards)
    for written in work.together(name, search, groups, decide, documents_in):
        writer.add(written)
        stage.computed += 1
    unprotected = evaluations.unprotected()
    return writer.finish(recipe, kind="decontaminate", action=step.parameters.action, unprotected=unprotected)


@dataclass(frozen=True)
class _Evaluations:
    """All evaluation documents, by name of their target and id."""

    names: tuple[str, ...]
    target: npt.NDArray[np.int64]
    """Place in `names` of each document's target."""
    doc_id: pa.Array
    runs: EvaluationRuns

    def verdicts(self, row: Any, best: Any, parameters: SharedWords) -> Verdicts:
        """Return what becomes of the rows whose best evaluation documents are given, -1 where there is none."""
        clean = best < 0
        whole = self.runs.n_words < parameters.words
        labels = [f"shares {parameters.words} words with {name}" for name in self.names]
        labels += [f"holds all of a document of {name}" for name in self.names]
        label = pa.array((self.target + whole * len(self.names))[best], mask=clean)
        kept = clean if parameters.action == "drop" else np.ones_like(clean)
        ref = self.doc_id.take(pa.array(best, mask=clean))
        return Verdicts(row, kept, reason=pa.array(labels, pa.string()).take(label), ref=ref)

    def unprotected(self) -> dict[str, int]:
        """Return how many documents of each target have words, but too few to be looked for."""
        gaps = (self.runs.n_words > 0) & ~self.runs.protected
        return {name: int(gaps[self.target == number].sum()) for number, name in enumerate(self.names)}


def _read_evaluations(work: Work, parameters: SharedWords, protected: Mapping[str, Survivors]) -> _Evaluations:
    """Read and index the targets; the order is theirs by name and id, whatever files and shards they lie in."""
    tables = []
    for number, found in enumerate(protected.values()):
        batches = [b.select(["doc_id", "text"]) for b in Reader(work.lake, found, ("doc_id", "text")).batches()]
        table = pa.Table.from_batches(batches).sort_by("doc_id")
        tables.append(table.append_column("target", pa.array(np.full(table.num_rows, number))))
    whole = pa.concat_tables(tables).combine_chunks()
    doc_id, text, target = (pa.concat_arrays(whole.column(c).chunks) for c in ("doc_id", "text", "target"))
    runs = evaluation_runs(text, parameters.words, parameters.min_words)
    return _Evaluations(tuple(protected), target.to_numpy(), doc_id, runs)


def _warn_of_gaps(
    work: Work, step: DecontaminateStep, manifest: Mapping[str, Any], targets: Mapping[str, Snapshot]
) -> None:
    """Warn of the evaluation documents that nothing protects, in a run that reuses the result too."""
    least = min(step.parameters.words, step.parameters.min_words)
    for name, n in manifest["unprotected"].items():
        counts = targets[name].counts
        if n:
            work.log.warn(
                f"step {step.name}: {n:,} of the {counts['documents']:,} documents of {name} are not protected:"
                f" they have fewer than {least} words (`min_words`)"
            )
        if counts["excluded"]:
            work.log.warn(
                f"step {step.name}: {counts['excluded']:,} records of {name} are not protected: they repeat another"
                " record's id"
            )
