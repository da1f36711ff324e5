"""A small case that goes through every stage and leaves every kind of artefact, and what must always be the same."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import tamis
from small_flow import chosen, documents, make_case
from tamis.storage.fingerprint import file_sha256
from tiny_model import tokenizer, write_static

FLOWS = ("whole", "again")
"""In the order in which they are run; then the mixture."""
MIXTURE = "mixed"
FAST = {"batch": 4, "peak_rate": 0.01, "precision": "fp32"}
SHAPE = {"size": "tiny", "depth": 1, "width": 16, "heads": 2, "context": 32, "vocabulary": 300}
MODELS = {
    "prior": {**SHAPE, "budget": {"tokens": 1_500}, "evaluations": 2, "with": FAST},
    "python": {"from": "prior", "target": "code", "epochs": 1, "evaluations": 2, "with": FAST},
}
FEATURES = {
    "stats": {"use": "text_stats"},
    "sizes": {"use": "compression"},
    "mine": {"use": "external", "files": ["scores.parquet"]},
    "vectors": {"use": "static_embeddings", "model": "model"},
    "before": {"use": "losses", "model": "prior", "precision": "fp32"},
    "after": {"use": "losses", "model": "python", "precision": "fp32"},
}
CLUSTERS = {"vectors": "vectors", "clusters": {"count": 3}}
PREPARED = [
    {"name": "clean", "filter": {"too_short": "stats.n_words >= 5", "has_url": "meta.url is not null",
                                 "mine": "mine.quality > 0.1", "junk": "sizes.ratio < 100"}},
    {"name": "twins", "dedup": "exact"},
    {"name": "no_leak", "decontaminate": ["code"], "with": {"words": 5, "min_words": 5}},
    {"name": "alike", "dedup": "semdedup", "with": {**CLUSTERS, "epsilon": 0.01}},
    {"name": "like_code", "select": "dsir", "target": "code", "cut": {"by": "gumbel", "budget": {"tokens": "70%"}}},
]  # fmt: skip
STEPS = {
    "whole": [
        *PREPARED,
        {"name": "squeezed", "select": "zip_fit", "target": "code", "cut": {"budget": {"tokens": "80%"}}},
        {"name": "models", "train": ["prior", "python"]},
        {"name": "learned", "select": "color_filter", "with": {"prior": "before", "conditional": "after"},
         "cut": {"budget": {"tokens": "70%"}, "per": "source"}},
        {"name": "spread", "select": "kmeans", "with": CLUSTERS, "refine": {"rounds": 2, "score": "stats.n_words"},
         "cut": {"budget": {"tokens": "70%"}}},
    ],
    "again": [
        *PREPARED, {"name": "fresh", "select": "rs2", "with": {"rounds": 3}, "cut": {"budget": {"fraction": 0.2}}},
    ],
}  # fmt: skip
OUTPUTS = {
    "whole": [{"format": "parquet", "shard_bytes": 3_000}, {"format": "jsonl.zst"}, {"format": "mds"},
              {"format": "tokens", "tokenizer": "tokenizer.json", "end": "[SEP]"}],
    "again": [{"format": "megatron", "tokenizer": "tokenizer.json", "end": "[SEP]"}, {"format": "ids"}],
}  # fmt: skip
MIXTURES = {MIXTURE: {
    "budget": {"tokens": 1_500}, "parts": [{"flow": "whole", "weight": 0.5}, {"corpus": "web", "weight": 0.5}],
    "dedup": "text", "order": {"by": "stats.n_words"}, "outputs": [{"format": "jsonl.zst", "shard_bytes": 4_000}],
}}  # fmt: skip


def write_case(folder, n=240, files=4):
    """Write raw files (one bad record among them), models, a tokenizer, scores and `flows.yaml`; return its path."""
    flows = {name: {"corpus": "web", "steps": STEPS[name], "outputs": OUTPUTS[name]} for name in FLOWS}
    config = make_case(
        folder, n=n, files=files, features=FEATURES, models=MODELS, flows=flows, mixtures=MIXTURES,
        corpora={"web": {"files": ["raw/*"], "shard_bytes": 8_000}},
    )  # fmt: skip
    with (folder / "raw" / "part-0.jsonl").open("a") as file:
        file.write("{no record\n")
    write_static(folder / "model", "model2vec")
    tokenizer().save(str(folder / "tokenizer.json"))
    ids = [record["id"] for record in documents(n)]
    quality = pa.array([(i % 20) / 20 + 0.1 for i in range(n)], pa.float32())
    pq.write_table(pa.table({"id": ids, "quality": quality}), folder / "scores.parquet")
    return config


def run_all(config, overrides=(), **options):
    """Run the flows and make the mixture; return the runs by name."""
    runs = {flow: tamis.run(config, flow, overrides=list(overrides), **options) for flow in FLOWS}
    return runs | {MIXTURE: tamis.mix(config, MIXTURE, overrides=list(overrides), **options)}


def results(runs):
    """Return all that is promised to be the same: snapshots, models, selections, chosen ids, digests of files."""
    return {
        name: {
            "snapshot": run.record.snapshot,
            "models": {model["name"]: model["key"] for model in run.record.models},
            "steps": [(s["name"], s["selection"], s["kept"], s["reasons"]) for s in run.steps],
            "selections": {s["selection"]: rows_of(run.lake, s["selection"]) for s in run.steps},
            "chosen": chosen(run) if run.steps else [],
            "manifests": [manifest_of(folder) for folder in run.outputs],
        }
        for name, run in runs.items()
    }  # fmt: skip


def rows_of(lake, selection):
    """Return the digest of every table of a selection by its name."""
    return {path.name: file_sha256(path) for path in sorted(lake.selection(selection).glob("*.parquet"))}


def manifest_of(folder):
    """Return what a mixture says of itself and its files, but for the run that made it."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for file in manifest["files"]:
        if file["file"] == "ids.parquet":  # its footer has the whole record of the run
            file |= {"sha256": pq.read_table(folder / "ids.parquet").replace_schema_metadata().to_pydict(), "size": 0}
    return {name: value for name, value in manifest.items() if name != "run"}
