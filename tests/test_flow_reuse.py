"""What a second run computes: nothing, only the cut, only the new file, as the change asks for."""

import tamis
from small_flow import chosen, documents, make_case, stages, write_jsonl


def test_the_same_flow_again_computes_nothing(tmp_path):
    config = make_case(tmp_path)
    first = tamis.run(config, "small")
    again = tamis.run(config, "small")
    assert first.record.computed > 0
    assert again.record.computed == 0, stages(again)
    assert chosen(again) == chosen(first)
    assert again.outputs == first.outputs


def test_another_budget_recomputes_the_cut_and_what_is_written(tmp_path):
    config = make_case(tmp_path)
    tamis.run(config, "small")
    other = tamis.run(config, "small", overrides=["flows.small.steps.like_code.cut.budget.tokens=10%"])
    computed = {name: c for name, (c, _) in stages(other).items() if c}
    assert computed == {"cut like_code": 1, "export parquet": 1, "diff": 1}


def test_a_new_file_costs_its_own_shard(tmp_path):
    config = make_case(tmp_path, corpora={"web": {"files": ["raw/*"], "shard_bytes": 4000}})
    before = stages(tamis.run(config, "small"))
    write_jsonl(tmp_path / "raw" / "part-9.jsonl", documents(10, seed=9))
    after = stages(tamis.run(config, "small"))
    old_shards = before["feature tokens"][0]
    assert old_shards > 1
    assert after["ingest web"] == (1, 3)
    assert after["feature stats"] == (1, old_shards)
    assert after["feature tokens"][0] == 1
    assert after["summarise like_code"] == (1, old_shards)


def test_a_file_that_was_only_touched_is_not_read_again(tmp_path):
    config = make_case(tmp_path)
    tamis.run(config, "small")
    (tmp_path / "raw" / "part-0.jsonl").touch()
    again = tamis.run(config, "small")
    assert stages(again)["ingest web"] == (0, 3)
    assert again.record.computed == 0
    assert tamis.run(config, "small").record.computed == 0


def test_a_filter_that_drops_nothing_more_leaves_what_follows_alone(tmp_path):
    config = make_case(tmp_path)
    first = tamis.run(config, "small")
    other = tamis.run(config, "small", overrides=["flows.small.steps.clean.filter.too_short=stats.n_words >= 4"])
    computed = {name for name, (c, _) in stages(other).items() if c}
    assert computed <= {"filter clean"}, "no document has four words, so the survivors are the same"
    assert chosen(other) == chosen(first)


def test_another_seed_or_target_changes_the_choice(tmp_path):
    config = make_case(tmp_path)
    first = tamis.run(config, "small")
    assert chosen(tamis.run(config, "small", overrides=["seed=18"])) != chosen(first)
    write_jsonl(tmp_path / "code.jsonl", [{"text": "river mountain said quietly"}] * 3)
    other = tamis.run(config, "small", overrides=["targets.code.holdout=0"])
    assert chosen(other) != chosen(first)


def test_the_order_of_targets_is_part_of_what_is_asked(tmp_path):
    write_jsonl(tmp_path / "prose.jsonl", [{"text": "the river was quietly in the code return class"}] * 4)
    targets = {name: {"files": [f"{name}.jsonl"]} for name in ("code", "prose")}
    cut = {"budget": {"documents": 60}}
    for order in (["code", "prose"], ["prose", "code"]):
        steps = [{"name": "two", "select": "dsir", "target": order, "cut": cut}]
        config = make_case(tmp_path, steps=steps, targets=targets)
        shared = tamis.run(config, "small")
        alone = tamis.run(config, "small", overrides=[f"lake=lake-{order[0]}"])
        assert chosen(shared) == chosen(alone)


def test_a_lake_whose_first_write_was_cut_off_is_made_again(tmp_path):
    config = make_case(tmp_path)
    (tmp_path / "lake" / "tmp").mkdir(parents=True)
    (tmp_path / "lake" / "tmp" / "left-over").write_text("")
    assert tamis.run(config, "small").exit_code == 0
