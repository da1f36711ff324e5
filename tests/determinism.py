"""Every selector in a small flow, and digests of what it decided and wrote; as a program, in an environment of its own.

A selector that the registry knows is a step of it without a line here: what it cannot be made without is a feature with
vectors or losses. Those come from files, so that it is the selector that is compared; features are compared beside it.

    python tests/determinism.py flows.yaml '{"overrides": ["lake=other"], "workers": 2}' > table.json
"""

import hashlib
import json
import locale
import random
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tamis
from small_flow import PROSE, documents, make_case, write_jsonl
from tamis.features.base import Feature
from tamis.selectors.registry import REGISTRY
from tamis.storage.fingerprint import file_sha256

PREPARED = [
    {"name": "clean", "filter": {"too_short": "stats.n_words >= 5", "has_url": "meta.url is not null"}},
    {"name": "no_leak", "decontaminate": ["code"], "with": {"words": 5, "min_words": 5}},
]
CUTS = (
    {"by": "gumbel", "budget": {"tokens": "90%"}},
    {"by": "top", "budget": {"documents": "90%"}, "per": "source"},
)
FLOWS = ("sieve", "turned")
"""In the second the selectors come in the opposite order, and each has the cut that it does not have in the first."""
MIXTURE = "mixed"
LOSSES = ("before", "after")
FEATURES = {name: {"use": "external", "files": [f"{name}.parquet"]} for name in ("vectors", *LOSSES)}
TARGETS = {name: {"files": [f"{name}.jsonl"], "holdout": holdout} for name, holdout in (("code", 0.2), ("prose", 0))}
MIXTURES = {MIXTURE: {
    "budget": {"tokens": 2_000}, "parts": [{"flow": "sieve", "weight": 0.6}, {"corpus": "web", "weight": 0.4}],
    "dedup": "text", "order": {"by": "stats.n_words"},
    "outputs": [{"format": "parquet", "shard_bytes": 4_000}, {"format": "jsonl.zst"}],
}}  # fmt: skip


def steps(flow):
    """Return a step of every other kind, then one for every selector: those that choose have the cuts in turn."""
    names = REGISTRY.names() if flow == FLOWS[0] else REGISTRY.names()[::-1]
    kinds = [REGISTRY.find(name) for name in names]
    return [*PREPARED, *(_step(kind, CUTS[i % 2]) for i, kind in enumerate(kinds))]


def _step(kind, cut):
    losses = iter(LOSSES)
    needed = [field.name for field in fields(kind) if field.type is Feature and field.default is MISSING]
    given = {name: "vectors" if name == "vectors" else next(losses) for name in needed}
    if any(field.name == "clusters" for field in fields(kind)):
        given["clusters"] = {"count": 4}
    if kind.groups:
        return {"name": kind.name, "dedup": kind.name, "with": given}
    target = {"target": {"code": 0.5, "prose": 0.5}} if kind.needs_target else {}
    cut = {name: value for name, value in cut.items() if name != "per" or kind.per is None}
    return {"name": kind.name, "select": kind.name, "with": given, **target, "cut": cut}


def write_case(folder, n=240):
    """Write raw files, targets, vectors, losses and `flows.yaml`; return its path."""
    outputs = [{"format": "parquet", "shard_bytes": 9_000}]
    config = make_case(
        folder, n=n, files=4, targets=TARGETS, features={"stats": {"use": "text_stats"}, **FEATURES}, mixtures=MIXTURES,
        flows={flow: {"corpus": "web", "steps": steps(flow), "outputs": outputs} for flow in FLOWS},
        corpora={"web": {"files": ["raw/*"], "shard_bytes": 12_000}},
    )  # fmt: skip
    prose = [{"id": f"p{i}", "text": " ".join((PROSE * 3)[i : i + 20])} for i in range(14)]
    write_jsonl(folder / "prose.jsonl", prose)
    rng = np.random.default_rng(3)
    ids = [*(record["id"] for record in documents(n)), *(f"t{i}" for i in range(20)), *(p["id"] for p in prose)]
    x = rng.normal(size=(len(ids), 12)).astype(np.float32)
    x[1::9], x[2::9] = x[0::9][: len(x[1::9])], x[0::9][: len(x[2::9])] + np.float32(1e-3)  # equal, nearly equal
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    pq.write_table(pa.table({"id": ids, "vector": vectors}), folder / "vectors.parquet")
    counts = rng.integers(0, 90, len(ids))
    for name in LOSSES:
        nll = (counts * rng.gamma(3.0, 1.0, len(ids))).astype(np.float32)
        pq.write_table(pa.table({"id": ids, "nll": nll, "n_predicted": counts}), folder / f"{name}.parquet")
    return config


def divide_anew(folder, files, seed):
    """Write the records of the raw files into other files, in another order."""
    raw = folder / "raw"
    records = [line for path in sorted(raw.iterdir()) for line in path.read_text(encoding="utf-8").splitlines()]
    for path in raw.iterdir():
        path.unlink()
    drawn = random.Random(seed)
    drawn.shuffle(records)
    for i in range(files):
        (raw / f"{drawn.randrange(10**6)}-{i}.jsonl").write_text("".join(f"{r}\n" for r in records[i::files]))


def table(config, overrides=(), workers=None, flows=FLOWS):
    """Run the flows and the mixture; return what each step decided of each document, and what lies in the lake.

    `decided` does not know of shards and files, nor do the files of a mixture; `lake` does: snapshot, tables of
    selections, files of the choice.
    """
    runs = {flow: tamis.run(config, flow, overrides=list(overrides), workers=workers) for flow in flows}
    mixture = tamis.mix(config, MIXTURE, overrides=list(overrides), workers=workers)
    decided = {f"{flow}, {name}": rows for flow, run in runs.items() for name, rows in _decided(run).items()}
    lake = {flow: _stored(run) for flow, run in runs.items()}
    return {"decided": decided | {MIXTURE: _files(mixture)}, "lake": lake}


def _decided(run):
    columns = "doc_id, kept, score, rank, reason, ref, multiplicity"
    query = f"select {columns} from selection_steps where run = $1 and step = $2 order by doc_id"
    names = [step["name"] for step in run.steps]
    assert run.steps[-1]["kept"], "every step must have something to decide"
    return {name: digest(tamis.sql(run.lake, query, [run.id, name]).fetchall()) for name in names}


def _stored(run):
    folders = [run.lake.selection(step["selection"]) for step in run.steps]
    tables = {str(p.relative_to(run.lake.root)): file_sha256(p) for f in folders for p in sorted(f.glob("*.parquet"))}
    return {"snapshot": run.record.snapshot, "selections": digest(tables), "files": _files(run)}


def _files(run):
    return digest([[(file["file"], file["sha256"]) for file in output["files"]] for output in run.record.outputs])


def digest(values):
    """Return a short digest of numbers, strings, lists and dictionaries, to the last bit."""
    return hashlib.sha256(json.dumps(values, default=bytes.hex).encode()).hexdigest()[:16]


def every_stage(folder, lake):
    """Run what goes through every stage, models included; return digests of what it left, by run and kind."""
    import every_stage

    runs = every_stage.run_all(folder / "flows.yaml", [f"lake={lake}"])
    return {run: {k: digest(v) for k, v in kinds.items()} for run, kinds in every_stage.results(runs).items()}


def features(folder, output):
    """Compute every feature of the registry for a few documents; write the columns into a folder, a file each."""
    import test_feature_contract as contract

    output.mkdir()
    for name in contract.REGISTRY.names():
        feature = contract.REGISTRY.find(name)(**contract.MADE.get(name, lambda folder: {})(folder))
        values = feature.compute(contract.documents().select(list(feature.reads)), feature.load())
        pq.write_table(pa.Table.from_batches([values]), output / f"{name}.parquet")


def main(config, asked):
    """Return the table, and for a folder `stages` and a folder `models` more: what every stage and feature made."""
    name = asked.pop("name")
    stages, models = asked.pop("stages", None), asked.pop("models", None)
    found = {"table": table(config, **asked)}
    if stages is not None:
        found["stages"] = every_stage(Path(stages), name)
    if models is not None:
        features(Path(models), config.parent / f"features-{name}")
    return found


if __name__ == "__main__":
    locale.setlocale(locale.LC_ALL, "")  # as a program that embeds tamis may; Python alone keeps the numbers of C
    json.dump(main(Path(sys.argv[1]), json.loads(sys.argv[2])), sys.stdout)
