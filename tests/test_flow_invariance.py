"""The same documents are chosen for any number of shards and workers, and for any order and partition of the files."""

import random

import pytest
import tamis
from hypothesis import given, settings
from hypothesis import strategies as st
from small_flow import chosen, documents, make_case, write_jsonl


def rewrite(folder, records, files, seed):
    """Write the records into so many files, in an order of their own."""
    for old in (folder / "raw").glob("*"):
        old.unlink()
    random.Random(seed).shuffle(records)
    for i in range(files):
        write_jsonl(folder / "raw" / f"{random.Random(seed + i).randrange(10**6)}-{i}.jsonl", records[i::files])


@pytest.mark.parametrize("steps", [
    None,
    [{"name": "some", "select": "random", "cut": {"budget": {"documents": 50}, "per": "source"}}],
    [{"name": "two", "select": "dsir", "target": {"code": 0.3, "prose": 0.7},
      "cut": {"by": "gumbel", "budget": {"bytes": 5000}}}],
])  # fmt: skip
def test_shards_workers_and_files_do_not_change_the_choice(tmp_path, steps):
    config = make_case(
        tmp_path,
        steps=steps,
        targets={n: {"files": [f"{n}.jsonl"], "holdout": 0.2 if n == "code" else 0} for n in ("code", "prose")},
    )
    write_jsonl(tmp_path / "prose.jsonl", [{"text": "the river was quietly in the morning light"}] * 4)
    records = documents(300)
    found = []
    for case, (shard_bytes, workers, files) in enumerate(
        [("128MB", 1, 1), (20_000, 2, 3), (3_000, 4, 16), (1_000, 3, 2)]
    ):
        rewrite(tmp_path, records, files, seed=case)
        overrides = [f"lake=lake-{case}", f"corpora.web.shard_bytes={shard_bytes}"]
        run = tamis.run(config, "small", overrides=overrides, workers=workers)
        found.append(chosen(run))
    assert found[0]
    assert all(other == found[0] for other in found[1:])


@settings(max_examples=8, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    budget=st.integers(0, 400),
    unit=st.sampled_from(["tokens", "documents", "bytes"]),
)
def test_a_random_choice_keeps_to_any_budget_for_any_sharding(tmp_path_factory, sizes, budget, unit):
    folder = tmp_path_factory.mktemp("budget")
    steps = [{"name": "pick", "select": "random", "cut": {"budget": {unit: budget}}}]
    config = make_case(folder, steps=steps)
    rows = [{"id": f"d{i}", "text": "w " * size} for i, size in enumerate(sizes)]
    kept = []
    for case, (files, shard_bytes) in enumerate([(1, "1MB"), (5, 60)]):
        rewrite(folder, rows, files, seed=case)
        run = tamis.run(config, "small", overrides=[f"lake=lake-{case}", f"corpora.web.shard_bytes={shard_bytes}"])
        step = run.steps[-1]
        achieved = {"tokens": step["tokens_kept"], "documents": step["kept"], "bytes": step["bytes_kept"]}
        assert achieved[unit] <= budget
        assert step["kept"] == len(rows) or not step["shortfall"]
        kept.append(chosen(run))
    assert kept[0] == kept[1]
