"""The clustering family over real documents and a real model: the same choice for any shards, workers and files."""

import random

import polars as pl
import pytest
import tamis
import yaml
from reference import reference_data
from small_flow import chosen, write_jsonl
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import ReadOptions, read_records

GIVEN = {"vectors": "minilm", "clusters": {"count": 40}}
STEPS = [
    {"name": "copies", "dedup": "semdedup", "with": GIVEN | {"epsilon": 0.05}},
    {"name": "pick", "select": "kmeans", "with": GIVEN | {"sampler": "centroid"}, "cut": {"budget": {"tokens": "30%"}}},
    {"name": "hard", "select": "density_pruning", "with": GIVEN, "cut": {"budget": {"tokens": "50%"}}},
]


def records():
    """The documents of the small pool."""
    pool = reference_data("data/pool-small")
    for file in list_inputs(["crawl-0[0-8].*", "crawl-09/*.txt"], pool):
        for batch in read_records(file, ReadOptions(file_id="stem")):
            yield from ({"id": row["doc_id"], "text": row["text"]} for row in batch.to_pylist())


@pytest.mark.slow
def test_shards_workers_and_the_order_of_files_do_not_change_the_choice(tmp_path):
    pool, found = list(records()), []
    for case, (files, workers, shard_bytes) in enumerate([(1, 1, "128MB"), (5, 2, "600KB"), (13, 2, "150KB")]):
        random.Random(case).shuffle(pool)
        for i in range(files):
            write_jsonl(tmp_path / f"raw-{case}" / f"{i}.jsonl", pool[i::files])
        config = {
            "version": 1, "lake": f"lake-{case}", "seed": 5,
            "corpora": {"web": {"files": [f"raw-{case}/*"], "shard_bytes": shard_bytes}},
            "features": {"minilm": {"use": "embeddings"}}, "flows": {"all": {"corpus": "web", "steps": STEPS}},
        }  # fmt: skip
        (tmp_path / "flows.yaml").write_text(yaml.safe_dump(config))
        run = tamis.run(tmp_path / "flows.yaml", "all", workers=workers)
        vectors = tamis.sql(run.lake, "select doc_id, score, reason from selections order by doc_id").pl()
        found.append((chosen(run), [step["kept"] for step in run.steps], vectors))
    assert len(pool) > 2_000 and 100 < len(found[0][0]) < len(pool)
    for other in found[1:]:
        assert other[:2] == found[0][:2]
        assert pl.DataFrame.equals(other[2], found[0][2])
