"""A corpus of some hundred documents, a target, and a flow over them, for tests that need a whole lake."""

import json
import random
from pathlib import Path

import tamis
import yaml

CODE = ["def", "return", "import", "class", "self", "for", "in", "if", "else", "lambda", "yield", "print", "range"]
PROSE = ["the", "of", "and", "to", "in", "is", "that", "was", "with", "as", "river", "mountain", "said", "quietly"]
STEPS = [
    {"name": "clean", "filter": {"too_short": "stats.n_words >= 5", "has_url": "meta.url is not null"}},
    {"name": "twins", "dedup": "exact"},
    {"name": "like_code", "select": "dsir", "target": "code", "cut": {"by": "gumbel", "budget": {"tokens": "20%"}}},
]


def documents(n, seed=0):
    """Return n records of two kinds, with some repeats, some short ones and some without a URL."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        words = rng.choices(CODE if i % 4 == 0 else PROSE, k=rng.choice([2, 20, 40, 80]))
        text = made[i // 2]["text"] if i % 17 == 16 else " ".join(words)
        meta = {} if i % 11 == 10 else {"url": f"https://example.org/{i}"}
        made.append(
            {"id": f"doc-{seed}-{i:04d}", "text": text, "source": "code" if i % 4 == 0 else "prose", "meta": meta}
        )
    return made


def write_jsonl(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


def make_case(folder, n=300, files=3, steps=None, **changes):
    """Write raw files, a target and `flows.yaml` into a folder; return the path of the configuration."""
    records = documents(n)
    for i in range(files):
        write_jsonl(folder / "raw" / f"part-{i}.jsonl", records[i::files])
    write_jsonl(
        folder / "code.jsonl",
        [{"id": f"t{i}", "text": " ".join(random.Random(i).choices(CODE, k=30))} for i in range(20)],
    )
    config = {
        "version": 1, "lake": "lake", "seed": 17,
        "corpora": {"web": {"files": ["raw/*"]}},
        "targets": {"code": {"files": ["code.jsonl"], "holdout": 0.2}},
        "features": {"stats": {"use": "text_stats"}},
        "flows": {"small": {"corpus": "web", "steps": steps or STEPS, "outputs": [{"format": "parquet"}]}},
        **changes,
    }  # fmt: skip
    path = Path(folder) / "flows.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def chosen(run):
    """Return the ids that a run kept, sorted."""
    query = "select doc_id from selections where run = $1 and kept order by doc_id"
    return [row[0] for row in tamis.sql(run.lake, query, [run.id]).fetchall()]


def stages(run):
    """Return what a run computed and reused, by stage."""
    counts = {}
    for stage in run.record.stages:
        computed, reused = counts.get(stage.name, (0, 0))
        counts[stage.name] = (computed + stage.computed, reused + stage.reused)
    return counts
