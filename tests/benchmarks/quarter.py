"""The model-based selectors beside others over a quarter of the pool: their flows, and what they choose.

The pool loses repeated texts and what it shares with the targets, of whose documents three in ten are held out; a keyed
quarter of the rest is left. One prior is trained on a sample of it and fine-tuned on what is visible of each target, so
both targets share the prior and its losses. Every selector takes 5% of the quarter's tokens.
"""

import time

import polars as pl
import tamis
import yaml
from side_by_side import WORK
from tamis.pipelines.ingesting import visible_target
from tamis.storage.snapshots import newest

FOLDER = WORK / "quarter"
TARGETS = ("code_python", "math_word")
GLOBS = ["crawl-0[0-8].*", "crawl-09/*.txt"]
SHARE, HOLDOUT = 0.05, 0.3
PRIOR = {"size": "tiny", "vocabulary": 8192, "budget": {"tokens": "5M"}}
TUNED = {"epochs": 6, "with": {"peak_rate": 3e-3}}
"""Of rates from 3e-4 to 6e-3 and 3 to 12 passes, tried on code_python, near the lowest held-out loss (3.83; 3.79 with
1e-3 and 12 passes; 4.04 with 1e-3 and 3, which had half the share of code). math_word had no part in it."""
CLEAN = [
    {"name": "twins", "dedup": "exact"},
    {"name": "clean", "decontaminate": list(TARGETS)},
    {"name": "quarter", "select": "random", "cut": {"budget": {"fraction": 0.25}}},
]


def selectors(target):
    """Return the last steps of the flows for a target, by name, without their cut."""
    losses = {"prior": "prior_loss", "conditional": f"{target}_loss"}

    def color_filter(by):
        return {"select": "color_filter", "with": losses | {"score_by": by}}

    return {
        "random": {"select": "random"},
        "dsir": {"select": "dsir", "target": target},
        "zip_fit": {"select": "zip_fit", "target": target},
        "prior only": color_filter("prior"),
        "conditional only": color_filter("conditional"),
        "color_filter": color_filter("difference"),
    }


def flow_name(selector, target):
    return f"{selector.replace(' ', '_')}-{target}"


def configuration(data):
    """Write flows.yaml with a flow a selector and target; return its path."""
    flows = {}
    for target in TARGETS:
        models = {"name": "models", "train": ["prior", target]}
        for name, step in selectors(target).items():
            chosen = {"name": "best", **step, "cut": {"budget": {"tokens": f"{SHARE:.0%}"}}}
            before = [*CLEAN, models] if step["select"] == "color_filter" else CLEAN
            flows[flow_name(name, target)] = {"corpus": "pool", "steps": [*before, chosen]}
    files = {t: str(data / "targets" / f"{t}.dev.jsonl") for t in TARGETS}
    tuned = {t: {"from": "prior", "target": t, **TUNED} for t in TARGETS}
    config = {
        "version": 1, "lake": "lake", "seed": 17,
        "corpora": {"pool": {"files": [str(data / "pool" / g) for g in GLOBS], "id": "stem"}},
        "targets": {t: {"files": [path], "holdout": HOLDOUT} for t, path in files.items()},
        "models": {"prior": PRIOR, **tuned},
        "features": {f"{m}_loss": {"use": "losses", "model": m} for m in ("prior", *TARGETS)},
        "flows": flows,
    }  # fmt: skip
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "flows.yaml").write_text(yaml.safe_dump(config))
    return FOLDER / "flows.yaml"


def run(config, selector, target):
    """Run the flow of a selector, and say how long it took."""
    begin = time.monotonic()
    done = tamis.run(config, flow_name(selector, target))
    print(f"{target}: {selector} has chosen, {time.monotonic() - begin:.0f} s", flush=True)
    return done


def chosen(done):
    """Return the ids that a run kept."""
    return tamis.sql(done.lake, "select doc_id as id from selections where run = $1 and kept", [done.id]).pl()


def pool(done, data):
    """Return what was left before the quarter was drawn, by id: id, key, tokens, text, domain, in_quarter."""
    query = """select doc_id as id, d.doc_key as key, d.n_tokens as tokens, t.text, s.kept as in_quarter
               from selection_steps s join documents d using (corpus, doc_id) join text t using (corpus, doc_id)
               where s.run = $1 and s.step = 'quarter' order by id"""
    labels = pl.read_parquet(data / "labels.parquet", columns=["id", "domain"])
    return tamis.sql(done.lake, query, [done.id]).pl().join(labels, on="id", how="left", maintain_order="left")


def held_out_texts(done, config, target):
    """Return the documents of a target that nothing of the flows saw, but for what decontaminates."""
    snapshot = newest(done.lake, f"targets/{target}")
    seen = visible_target(snapshot, tamis.load(config).config.targets[target], target)
    found = []
    for shard in snapshot.shards:
        hidden = snapshot.mask(shard) & ~seen.mask(shard)
        found += pl.Series(shard.read_column("text")).filter(pl.Series(hidden)).to_list()
    return found


def domain_shares(kept, documents, target):
    """Return how many documents were kept, their mean tokens, and the share of the target's domain."""
    mine = kept.join(documents, on="id")
    hits = mine.filter(pl.col("domain") == target)
    return {
        "tokens": hits["tokens"].sum() / max(1, mine["tokens"].sum()),
        "documents": hits.height / max(1, mine.height),
        "n": mine.height,
        "mean tokens": mine["tokens"].mean(),
    }
