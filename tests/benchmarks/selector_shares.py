"""How much of what a selector chooses is what was asked for: the share of the target's domain among the chosen.

    python tests/benchmarks/selector_shares.py DATA [--only zip_fit] [--no-official] [--all-targets]

DATA has `pool/`, `labels.parquet` (id, domain) and `targets/NAME.dev.jsonl`, where NAME is a domain of the pool. The
pool loses what it shares with the target files (`decontaminate`) and repeated texts; then each selector chooses 5% of
the tokens of the rest, for each target. The official DSIR package (PyPI data-selection 1.0.3 with nltk 3.9.1) weighs
the same documents in an environment of its own. MiniLM takes half an hour on two cores, once: its vectors stay in the
lake. `--all-targets` lets `zip_fit` compare with all documents of a target,
which takes a quarter of an hour on two cores.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import tamis
import yaml
from side_by_side import WORK, peer_python, report

SHARE = 0.05
GLOBS = ["crawl-0[0-8].*", "crawl-09/*.txt"]
OFFICIAL = {"hash": "sha256", "buckets": 10_000, "mix": 0.0, "normalise": "none"}
NCD = {"alignment": "ncd", "unit": "document"}
NCD_WINDOWS = {"alignment": "ncd", "window_words": 128}
SELECTORS = {
    "random": {"select": "random"},
    "dsir (default: per token)": {"select": "dsir"},
    "dsir, windows of 128 words, mean": {"select": "dsir", "with": {"unit": "window"}},
    "dsir, windows of 128 words, best": {"select": "dsir", "with": {"unit": "window", "window_score": "max"}},
    "dsir, official numbers": {"select": "dsir", "with": OFFICIAL},
    "dsir, official formula, fast hash": {"select": "dsir", "with": {**OFFICIAL, "hash": "fast"}},
    **{
        f"target_similarity, {vectors}{', ' + how if how else ''}": {
            "select": "target_similarity",
            "with": {"vectors": vectors, **parameters},
        }
        for vectors in ("static", "minilm")
        for how, parameters in {
            "": {},
            "cosine": {"score_by": "cosine"},
            "cosine, 10 nearest": {"score_by": "cosine", "neighbours": 10},
            "cosine, one centroid": {"score_by": "cosine", "centroids": 1},
        }.items()
    },
    "zip_fit (default: fast, contrast, windows of 256 words)": {"select": "zip_fit"},
    "zip_fit, exact, contrast, windows of 256 words": {"select": "zip_fit", "with": {"method": "exact"}},
    "zip_fit, fast, contrast, windows of 256 words, best": {"select": "zip_fit", "with": {"window_score": "max"}},
    "zip_fit, fast, contrast, documents": {"select": "zip_fit", "with": {"unit": "document"}},
    "zip_fit, fast, official alignment, documents": {"select": "zip_fit", "with": NCD},
    "zip_fit, exact, official alignment, documents": {"select": "zip_fit", "with": {**NCD, "method": "exact"}},
    "zip_fit, fast, official alignment, windows of 128 words, best": {
        "select": "zip_fit",
        "with": {**NCD_WINDOWS, "window_score": "max"},
    },
}
ALL_TARGETS = {
    "zip_fit, exact, official alignment, all target documents": {
        "select": "zip_fit",
        "with": {**NCD, "method": "exact", "n_targets": "all"},
    },
}


def configuration(data, targets, selectors):
    """Write flows.yaml with one flow a selector and target; return its path and the names of the flows."""
    clean = [{"name": "no_leaks", "decontaminate": targets}, {"name": "twins", "dedup": "exact"}]
    flows = {"rest": {"corpus": "pool", "steps": clean}}
    for number, step in enumerate(selectors.values()):
        for target in targets:
            chosen = {"name": "pick", **step, "cut": {"budget": {"tokens": f"{SHARE:.0%}"}}}
            chosen |= {} if step["select"] == "random" else {"target": target}
            flows[f"s{number}-{target}"] = {"corpus": "pool", "steps": [*clean, chosen]}
    config = {
        "version": 1, "lake": "lake", "seed": 17,
        "corpora": {"pool": {"files": [str(data / "pool" / g) for g in GLOBS], "id": "stem"}},
        "targets": {t: {"files": [str(data / "targets" / f"{t}.dev.jsonl")]} for t in targets},
        "features": {"static": {"use": "static_embeddings"}, "minilm": {"use": "embeddings"}},
        "flows": flows,
    }  # fmt: skip
    folder = WORK / "selector_shares"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flows.yaml").write_text(yaml.safe_dump(config))
    return folder / "flows.yaml"


def remaining(data, config):
    """Return id, domain, tokens and text of the documents that the selectors choose from."""
    run = tamis.run(config, "rest")
    query = """select doc_id as id, documents.n_tokens as tokens, text
               from selections join documents using (corpus, doc_id)
               join text using (corpus, doc_id)
               where run = $1 and kept order by id"""
    found = tamis.sql(run.lake, query, [run.id]).pl()
    return found.join(pl.read_parquet(data / "labels.parquet", columns=["id", "domain"]), on="id")


def tamis_shares(config, targets, selectors, documents):
    for number, who in enumerate(selectors):
        for target in targets:
            run = tamis.run(config, f"s{number}-{target}")
            kept = tamis.sql(run.lake, "select doc_id as id from selections where run = $1 and kept", [run.id]).pl()
            yield {"who": who, "target": target, **shares(kept, documents, target)}
            print(who, target, flush=True)


def official_shares(data, targets, documents):
    """Choose by the official weights: Gumbel top-k, the longest prefix in that order within the budget."""
    found = official_weights(data, targets, documents)
    pool = pl.DataFrame({"id": found["ids"], "length": found["lengths"].astype(int)})
    pool = pool.join(documents, on="id", how="left", maintain_order="left")  # in the order of the weights
    budget = int(documents["tokens"].sum() * SHARE)
    for column, target in enumerate(targets):
        for min_length in (0, 100):
            noise = np.random.RandomState(0).gumbel(size=pool.height)
            keyed = pool.with_columns(key=found["weights"][:, column] + noise).filter(pl.col("length") >= min_length)
            kept = keyed.sort("key", descending=True).filter(pl.col("tokens").cum_sum() <= budget)
            who = f"official DSIR package, minimum length {min_length}"
            yield {"who": who, "target": target, **shares(kept.select("id"), documents, target)}


def official_weights(data, targets, documents):
    """Return what `official_dsir.py` saves, from a run of it over the same documents in its own environment."""
    pool, out = WORK / "selector_shares" / "pool.jsonl", WORK / "selector_shares" / "official.npz"
    with pool.open("w", encoding="utf-8") as file:
        for row in documents.filter(pl.col("text").str.strip_chars() != "").select("id", "text").iter_rows(named=True):
            file.write(json.dumps(row) + "\n")  # the official loader fails on blank texts
    python = peer_python("dsir", "data-selection==1.0.3", "nltk==3.9.1")
    paths = [data / "targets" / f"{t}.dev.jsonl" for t in targets]
    script = Path(__file__).with_name("official_dsir.py")
    subprocess.run([python, script, pool, out, *paths], check=True, cwd=WORK, stdout=subprocess.DEVNULL)
    return np.load(out)


def shares(kept, documents, target):
    """Return the share of the target's domain among the kept documents and tokens."""
    chosen = kept.join(documents, on="id")
    hits = chosen.filter(pl.col("domain") == target)
    return {
        "n": chosen.height,
        "documents": hits.height / max(1, chosen.height),
        "tokens": hits["tokens"].sum() / max(1, chosen["tokens"].sum()),
    }


def by_selector(rows, targets):
    """Return a row a selector: its share of the tokens for each target, and both means."""
    found = pl.DataFrame(rows)
    for (who,), mine in found.group_by(["who"], maintain_order=True):
        tokens = dict(mine.select("target", "tokens").iter_rows())
        means = {"mean, tokens": mine["tokens"].mean(), "mean, documents": mine["documents"].mean()}
        yield {"share of the domain in the tokens": who, **{t: tokens[t] for t in targets}, **means}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="", help="selectors whose description has this")
    parser.add_argument("--no-official", action="store_true")
    parser.add_argument("--all-targets", action="store_true")
    options = parser.parse_args()
    data = options.data.resolve()
    targets = sorted(p.name.removesuffix(".dev.jsonl") for p in (data / "targets").glob("*.dev.jsonl"))
    selectors = {who: step for who, step in SELECTORS.items() if options.only in who}
    selectors |= ALL_TARGETS if options.all_targets else {}
    config = configuration(data, targets, selectors)
    documents = remaining(data, config)
    rows = list(tamis_shares(config, targets, selectors, documents))
    if not options.no_official:
        rows += official_shares(data, targets, documents)
    report("selector_shares", list(by_selector(rows, targets)), detail=rows, documents=documents.height)


if __name__ == "__main__":
    main()
