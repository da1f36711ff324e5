"""A budget is kept for any sharding, and the same documents are chosen (by every selector: `test_determinism.py`)."""

import random

import tamis
from hypothesis import given, settings
from hypothesis import strategies as st
from small_flow import chosen, make_case, write_jsonl


def rewrite(folder, records, files, seed):
    """Write the records into so many files, in an order of their own."""
    for old in (folder / "raw").glob("*"):
        old.unlink()
    random.Random(seed).shuffle(records)
    for i in range(files):
        write_jsonl(folder / "raw" / f"{random.Random(seed + i).randrange(10**6)}-{i}.jsonl", records[i::files])


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
