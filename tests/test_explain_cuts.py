"""What `tamis explain` says of a cut is what the document met: the cut of its target, and in it its group."""

import shutil
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import tamis
from small_flow import PROSE, make_case, write_jsonl
from tamis.pipelines.cut_places import cut_of
from tamis.pipelines.explaining import Explainer
from tamis.pipelines.explanations import print_explanation
from tamis.pipelines.opened_runs import OpenedRun
from tamis.pipelines.opened_steps import OpenedStep

DSIR = {"select": "dsir", "target": ["code", "prose"]}
KMEANS = {"select": "kmeans", "with": {"vectors": "words", "clusters": {"count": 3}}}
STEPS = {
    "whole": DSIR | {"cut": {"budget": {"tokens": "30%"}}},
    "sources": DSIR | {"cut": {"budget": {"tokens": "30%"}, "per": "source"}},
    "sites": DSIR | {"cut": {"budget": {"documents": 50}, "per": "meta.site"}},
    "one_target": DSIR | {"target": "code", "cut": {"by": "percentile", "percent": 20, "per": "source"}},
    "clusters": KMEANS | {"cut": {"budget": {"documents": "30%"}}},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuts")
    targets = {"code": {"files": ["code.jsonl"]}, "prose": {"files": ["prose.jsonl"]}}
    flows = {name: {"corpus": "web", "steps": [{"name": "pick", **step}]} for name, step in STEPS.items()}
    features = {"words": {"use": "static_embeddings"}}
    config = make_case(folder, n=240, flows=flows, targets=targets, features=features)
    write_jsonl(folder / "prose.jsonl", [{"id": f"p{i}", "text": " ".join(PROSE[i:] * 4)} for i in range(9)])
    sited = [{"id": f"s{i}", "text": " ".join(PROSE[: 2 + i % 9]), "meta": {"site": i % 3}} for i in range(40)]
    write_jsonl(folder / "raw" / "sited.jsonl", sited)
    return {name: tamis.run(config, name) for name in flows}


def ranked(run):
    """Every document with its scores and group, from the tables alone."""
    step = OpenedStep(OpenedRun(run.lake, run.record), "pick")
    per = {"sites": "json_extract_string(meta, '$.site')", "whole": "'all'", "clusters": "''"}.get(
        run.record.flow, "source"
    )
    query = f"""select s.doc_id, s.shard, s.row, s.kept, s.score, coalesce({per}, '') as "group"
                from selection_steps s join documents d using (corpus, shard, row) where run = $1 order by s.doc_id"""
    rows = tamis.sql(run.lake, query, [run.id]).pl().rows(named=True)
    scores = {(s, r["row"]): r for s, shard in step.run.shards.items() for r in step.scores(shard).to_pylist()}
    for row in rows:
        row["scores"] = scores[row["shard"], row["row"]]
        row["group"] = str(row["scores"]["cluster"]) if run.record.flow == "clusters" else row["group"]
    return rows


def expected(run):
    """What each document met: the targets one after the other take the best of each group, as many as is recorded."""
    left, met = {row["doc_id"]: row for row in ranked(run)}, {}
    for column, cut in run.steps[0]["cuts"].items():
        taken = set()
        for group in cut["groups"]:
            order = sorted((-r["scores"][column], r["doc_id"]) for r in left.values() if r["group"] == group["name"])
            scores = [-score for score, _ in order]
            n = group["n_kept"]
            for number, (_, doc_id) in enumerate(order):
                mine = scores[number]
                below, equal = (sum(s < mine for s in scores), sum(s == mine for s in scores))
                met[doc_id] = {
                    "column": column, "group": group["name"] if len(cut["groups"]) > 1 else None, "kept": n,
                    "quota": group["quota"], "ranked": len(order), "percentile": 100 * (below + equal / 2) / len(order),
                    "lowest_kept_score": scores[n - 1] if n else None,
                    "highest_dropped_score": scores[n] if n < len(order) else None,
                }  # fmt: skip
            taken |= {doc_id for _, doc_id in order[:n]}
        left = {doc_id: row for doc_id, row in left.items() if doc_id not in taken}
    return met, left


@pytest.mark.parametrize("name", STEPS)
def test_the_cut_is_that_of_the_target_and_the_group_of_the_document(runs, name, capsys):
    run, rows = runs[name], ranked(runs[name])
    met, left = expected(run)
    assert {row["doc_id"] for row in rows if not row["kept"]} == set(left)
    groups = {(one["column"], one["group"]) for one in met.values()}
    assert len(groups) >= {"whole": 2, "sources": 4, "sites": 6, "one_target": 2, "clusters": 3}[name]
    with Explainer(run.lake, run.id) as explainer:
        for row in rows[::5]:
            found = explainer.of(row["doc_id"])
            (step,) = found["runs"][0]["steps"]
            assert step["gone"] == []
            wanted = met[row["doc_id"]]
            assert {key: step["cut"][key] for key in wanted} == {
                **wanted,
                "percentile": pytest.approx(wanted["percentile"]),
            }
    print_explanation(found, as_json=False)
    said = f"{wanted['kept']:,} of {wanted['ranked']:,}"
    column = f" by {wanted['column']}" if name in ("whole", "sources", "sites") else ""
    group = "" if wanted["group"] is None else f" {wanted['group']!r}"
    quota = "" if wanted["quota"] is None else f", quota {wanted['quota']:,}"
    assert f"of its group{group}{column} {said}{quota}" in capsys.readouterr().out


def test_without_the_scores_only_what_is_sure_is_said(runs, tmp_path):
    lakes = {}
    for name in ("sources", "one_target"):
        moved = shutil.copytree(runs[name].lake.root, tmp_path / name)
        shutil.rmtree(moved / "scores")
        row = ranked(runs[name])[0]
        with Explainer(tamis.Lake.open(moved), runs[name].id) as explainer:
            ((lakes[name]),) = explainer.of(row["doc_id"])["runs"][0]["steps"]
    assert lakes["sources"]["cut"] == {"budget": runs["sources"].steps[0]["budget"], "groups": 6}
    assert any("a score of step 'pick' is not in the lake" in gone for gone in lakes["sources"]["gone"])
    assert lakes["one_target"]["cut"]["percentile"] == pytest.approx(
        expected(runs["one_target"])[0][row["doc_id"]]["percentile"]
    )


class ToyStep:
    """A step of many shards, each of which is made when it is asked for."""

    def __init__(self, n_shards, rows, per):
        group = {"n_kept": n_shards * rows // 10, "quota": 9, "n_eligible": n_shards * rows}
        names = ["0", "1", "2"] if per else ["all"]
        self.rows, self.run = rows, SimpleNamespace(shards={str(i): i for i in range(n_shards)})
        self.record = {"cuts": {"score": {"groups": [group | {"name": name} for name in names]}}}
        self.manifest = {"recipe": {"cut": {"by": "top", "per": per}}}

    def verdicts(self, shard):
        score = np.random.default_rng(shard).random(self.rows)
        return pa.table({"row": np.arange(self.rows), "kept": score > 0.9, "score": score})

    def scores(self, shard):
        return self.verdicts(shard).append_column("third", pa.array(np.arange(self.rows) % 3))


@pytest.mark.parametrize("per", [None, "third"])
def test_memory_is_that_of_one_shard(per):
    def peak(n_shards):
        step = ToyStep(n_shards, 50_000, per)
        tracemalloc.start()
        found = cut_of(step, ("1", 7), 0.5)
        bytes_used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found["percentile"] == pytest.approx(50, abs=1) and found["group"] == (per and "1")
        assert found["lowest_kept_score"] == pytest.approx(0.9, abs=1e-3)
        return bytes_used

    peak(2)  # what is imported and compiled
    assert peak(40) < 1.1 * peak(10)
