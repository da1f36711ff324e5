"""RS2 in a flow: the same rounds for any shards, workers and files, over another selection, in SQL as in Python."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import chosen, documents, make_case
from tamis.features.byte_bpe import train_tokenizer
from tamis.selectors.rounds import RoundPlan
from tamis.storage.errors import ConfigError
from tamis.storage.lake import read_json
from test_flow_invariance import rewrite

CASES = {
    "whole sweeps": ({"rounds": 7}, {"budget": {"documents": 48}}),
    "more than half": ({"rounds": 5}, {"budget": {"documents": "70%"}}),
    "tokens by source": ({"rounds": 9}, {"budget": {"tokens": "23%"}, "per": "source"}),
    "by a field": ({"rounds": 3, "mode": "with"}, {"budget": {"bytes": "30%"}, "per": "meta.url"}),
    "with": ({"rounds": 6, "mode": "with"}, {"budget": {"tokens": 900}, "per": "source", "shares": {"code": 0.8}}),
    "official": ({"rounds": 8, "mode": "official"}, {"budget": {"documents": 77}, "per": "source"}),
}
DSIR = {"name": "like_code", "select": "dsir", "target": "code", "cut": {"budget": {"documents": 90}}}


def steps(case, *before):
    parameters, cut = CASES[case]
    return [*before, {"name": "fresh", "select": "rs2", "with": parameters, "cut": cut}]


def selection_of(run):
    """Return the table of the last step, all shards, and its manifest."""
    folder = run.lake.selection(run.steps[-1]["selection"])
    return pa.concat_tables(pq.read_table(f) for f in sorted(folder.glob("*.parquet"))), read_json(
        folder / "manifest.json"
    )


def expanded(run, number):
    """Return the ids of a round in their order, from the Parquet files alone."""
    table, manifest = selection_of(run)
    plan = RoundPlan.from_json(manifest["rounds"])
    table = table.filter(pa.array(plan.members(table, number)))
    place = plan.places_in_round(table.column("doc_key").to_numpy(), number)
    return [doc_id for _, doc_id in sorted(zip(place.tolist(), table.column("doc_id").to_pylist(), strict=True))]


def asked(run, number):
    """Return the same from the catalogue."""
    query = "select position, doc_id from rs2_round($1, 'fresh', $2) order by position"
    rows = tamis.sql(run.lake, query, [run.id, number]).fetchall()
    assert [position for position, _ in rows] == list(range(1, len(rows) + 1))
    return [doc_id for _, doc_id in rows]


@pytest.mark.parametrize("case", CASES)
def test_the_catalogue_expands_a_round_as_python_does(tmp_path, case):
    run = tamis.run(make_case(tmp_path, steps=steps(case)), "small")
    rounds = [expanded(run, number) for number in range(CASES[case][0]["rounds"])]
    assert rounds == [asked(run, number) for number in range(len(rounds))]
    assert asked(run, len(rounds)) == []
    sizes = tamis.sql(run.lake, "select round, sum(documents) from rs2_rounds group by 1 order by 1").fetchall()
    assert sizes == [(number, len(ids)) for number, ids in enumerate(rounds)]
    copies = tamis.sql(run.lake, "select doc_id, multiplicity, kept from selections").fetchall()
    assert {i: n for i, n, _ in copies} == {i: sum(i in ids for ids in rounds) for i, _, _ in copies}
    assert all(kept == (n > 0) for _, n, kept in copies)
    assert len({tuple(ids) for ids in rounds}) == len(rounds)


@pytest.mark.parametrize("case", ["tokens by source", "with"])
def test_shards_workers_and_files_do_not_change_the_rounds(tmp_path, case):
    config = make_case(tmp_path, steps=steps(case))
    records, found = documents(300), []
    for number, (size, workers, files) in enumerate([("128MB", 1, 1), (3_000, 4, 16), (1_000, 3, 2)]):
        rewrite(tmp_path, records, files, seed=number)
        overrides = [f"lake=lake-{number}", f"corpora.web.shard_bytes={size}"]
        run = tamis.run(config, "small", overrides=overrides, workers=workers)
        table, manifest = selection_of(run)
        found.append((manifest["rounds"], sorted(table.select(["doc_id", "multiplicity"]).to_pylist(), key=str)))
    assert found[0] == found[1] == found[2]


def test_a_fresh_subset_of_another_selectors_choice(tmp_path):
    run = tamis.run(make_case(tmp_path, steps=steps("whole sweeps", DSIR)), "small")
    query = "select doc_id from selection_steps where step = 'like_code' and kept"
    liked = {i for (i,) in tamis.sql(run.lake, query).fetchall()}
    rounds = [set(expanded(run, number)) for number in range(7)]
    assert len(liked) == 90 and all(len(ids) == 48 and ids <= liked for ids in rounds)
    assert set(chosen(run)) == set.union(*rounds) == liked
    assert rounds[0] != rounds[1] and len(rounds[0] | rounds[1]) == 90


def test_other_rounds_compute_the_cut_alone(tmp_path):
    config = make_case(tmp_path, steps=steps("whole sweeps"))
    tamis.run(config, "small")
    again = tamis.run(config, "small", overrides=["flows.small.steps.fresh.with.rounds=9"])
    assert {s.name: s.computed for s in again.record.stages if s.computed} == {
        "cut fresh": 1,
        "export parquet": 1,
        "diff": 1,
    }


def test_the_ranks_are_the_order_of_the_first_sweep(tmp_path):
    run = tamis.run(make_case(tmp_path, steps=steps("whole sweeps")), "small")
    ranks = dict(tamis.sql(run.lake, "select doc_id, rank from scores").fetchall())
    for number in range(6):
        assert {ranks[i] for i in expanded(run, number)} == set(range(48 * number + 1, 48 * number + 49))
    assert {ranks[i] for i in expanded(run, 6)} > set(range(289, 301))


def test_official_counts_documents(tmp_path):
    config = make_case(tmp_path, steps=steps("official"))
    with pytest.raises(tamis.storage.errors.TamisError, match="budget in documents"):
        tamis.run(config, "small", overrides=["flows.small.steps.fresh.cut.budget={tokens: 400}"])


@pytest.mark.parametrize("case", CASES)
def test_a_round_is_an_epoch_of_the_reader(tmp_path, case):
    train_tokenizer((d["text"] for d in documents(300)), 300).save(str(tmp_path / "tokenizer.json"))
    outputs = [{"format": "tokens", "tokenizer": "tokenizer.json", "shard_bytes": 4_000}]
    flows = {"small": {"corpus": "web", "steps": steps(case), "outputs": outputs}}
    run = tamis.run(make_case(tmp_path, flows=flows), "small")
    data = tamis.torch_dataset(run.outputs[0], 32, seed=1, rank=0, world=1, last="pad")
    spans = pa.concat_tables(data.tokens.spans())
    ends = np.cumsum(spans.column("length").to_numpy())
    for number in range(CASES[case][0]["rounds"]):
        data.set_epoch(number)
        positions = np.concatenate([data.positions(place) for place in range(data.n_samples)])
        seen = np.searchsorted(ends, np.unique(positions), side="right")
        assert len(positions) == len(np.unique(positions)), "no token twice"
        ids = [spans.column("doc_id")[int(row)].as_py() for row in np.unique(seen)]
        assert sorted(ids) == sorted(expanded(run, number))
    with pytest.raises(ConfigError, match="rounds, counted from 0"):
        data.set_epoch(number + 1)
        len(data)
