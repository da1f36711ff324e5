"""How much of what DSIR chooses is what was asked for: tamis beside random and beside the official package.

    python tests/benchmarks/dsir_shares.py DATA [--out dsir_shares.json] [--work DIR]

DATA has `pool/`, `labels.parquet` (id, domain) and `targets/NAME.dev.jsonl`, where NAME is a domain of the pool. For a
budget of 5% of the documents and one of 5% of the tokens the table gives, for each target, the share of its domain
among the chosen documents and tokens. The official package (PyPI data-selection 1.0.3 with nltk 3.9.1) gets an
environment of its own in --work."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import tamis
import yaml
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import ReadOptions, read_records

SHARE = 0.05
BUDGETS = {"documents": "5%", "tokens": "5%"}
GLOBS = ["crawl-0[0-8].*", "crawl-09/*.txt"]


def tamis_shares(data, work, targets, documents):
    """Run a flow a target and budget, and the same with `random`."""
    steps = {
        "tamis": lambda t: {"name": "pick", "select": "dsir", "target": t},
        "random": lambda t: {"name": "pick", "select": "random"},
    }
    config = {
        "version": 1, "lake": str(work / "lake"), "seed": 17,
        "corpora": {"pool": {"files": [str(data / "pool" / g) for g in GLOBS], "id": "stem"}},
        "targets": {t: {"files": [str(data / "targets" / f"{t}.dev.jsonl")]} for t in targets},
        "flows": {f"{who}-{t}-{unit}": {"corpus": "pool", "steps": [{**step(t), "cut": {"budget": {unit: amount}}}]}
                  for who, step in steps.items() for t in targets for unit, amount in BUDGETS.items()},
    }  # fmt: skip
    (work / "flows.yaml").write_text(yaml.safe_dump(config))
    for name in config["flows"]:
        who, target, unit = name.split("-")
        run = tamis.run(work / "flows.yaml", name)
        kept = tamis.sql(run.lake, "select doc_id as id from selections where run = $1 and kept", [run.id]).pl()
        yield {"who": who, "target": target, "budget": unit, **shares(kept, documents, target)}


def official_shares(data, work, targets, documents):
    """Choose by the official weights: Gumbel top-k for documents, the longest prefix in that order for tokens."""
    found = official_weights(data, work, targets)
    pool = pl.DataFrame({"id": found["ids"], "length": found["lengths"].astype(int)}).join(
        documents, on="id", how="left"
    )
    for column, target in enumerate(targets):
        for min_length in (0, 100):
            noise = np.random.RandomState(0).gumbel(size=pool.height)
            keyed = pool.with_columns(key=found["weights"][:, column] + noise).filter(pl.col("length") >= min_length)
            ordered = keyed.sort("key", descending=True)
            n = int(documents.height * SHARE)
            budget = int(documents["tokens"].sum() * SHARE)
            for unit, kept in {
                "documents": ordered.head(n),
                "tokens": ordered.filter(pl.col("tokens").cum_sum() <= budget),
            }.items():
                yield {"who": f"official, length >= {min_length}", "target": target, "budget": unit,
                       **shares(kept.select("id"), documents, target)}  # fmt: skip


def official_weights(data, work, targets):
    """Return what `official_dsir.py` saves, from a run of it in its own environment."""
    out = work / "official.npz"
    if not out.exists():
        python = work / "official" / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(work / "official")], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "data-selection==1.0.3", "nltk==3.9.1"], check=True)
        pool = work / "pool.jsonl"
        with pool.open("w", encoding="utf-8") as file:
            for source in list_inputs(GLOBS, data / "pool"):
                for batch in read_records(source, ReadOptions(file_id="stem")):
                    assert isinstance(batch, pa.RecordBatch)
                    for row in batch.select(["doc_id", "text"]).to_pylist():
                        if row["text"].strip():  # the official loader fails on blank texts
                            file.write(json.dumps({"id": row["doc_id"], "text": row["text"]}) + "\n")
        paths = [str(data / "targets" / f"{t}.dev.jsonl") for t in targets]
        command = [python, str(Path(__file__).with_name("official_dsir.py")), str(pool), str(out), *paths]
        subprocess.run(command, check=True, cwd=work, stdout=subprocess.DEVNULL)
    return np.load(out)


def shares(kept, documents, target):
    """Return the share of the target's domain among the kept documents and tokens."""
    chosen = kept.join(documents, on="id", how="left")
    hits = chosen.filter(pl.col("domain") == target)
    return {
        "n": chosen.height,
        "share_documents": round(hits.height / max(1, chosen.height), 4),
        "share_tokens": round(hits["tokens"].sum() / max(1, chosen["tokens"].sum()), 4),
    }


def count_tokens(data, work):
    """Return id, domain and tokens of each document of the pool."""
    config = {
        "version": 1, "lake": str(work / "lake"),
        "corpora": {"pool": {"files": [str(data / "pool" / g) for g in GLOBS], "id": "stem"}},
        "flows": {"count": {"corpus": "pool", "steps": [{"name": "all", "filter": {"all": "true"}}]}},
    }  # fmt: skip
    (work / "count.yaml").write_text(yaml.safe_dump(config))
    run = tamis.run(work / "count.yaml", "count")
    found = tamis.sql(run.lake, "select doc_id as id, n_tokens as tokens from documents").pl()
    return found.join(pl.read_parquet(data / "labels.parquet", columns=["id", "domain"]), on="id")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("dsir_shares.json"))
    parser.add_argument(
        "--work", type=Path, help="folder for the lake and the official environment; default: a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = (options.work or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        data = options.data.resolve()
        targets = sorted(p.name.removesuffix(".dev.jsonl") for p in (data / "targets").glob("*.dev.jsonl"))
        documents = count_tokens(data, work)
        rows = pl.DataFrame(
            [*tamis_shares(data, work, targets, documents), *official_shares(data, work, targets, documents)]
        )
    means = rows.group_by("who").agg(pl.col("share_documents", "share_tokens").mean().round(4))
    means = means.with_columns(mean=((pl.col("share_documents") + pl.col("share_tokens")) / 2).round(4)).sort(
        "mean", descending=True
    )
    options.out.write_text(json.dumps({"rows": rows.to_dicts(), "means": means.to_dicts()}, indent=1) + "\n")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, fmt_str_lengths=60):
        print(rows.sort("target", "budget", "who"))
        print(means)


if __name__ == "__main__":
    main()
