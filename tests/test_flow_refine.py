"""Refined steps in whole flows: the rounds in the catalogue, what is scored, and how a run goes on between rounds."""

import math
import re
import signal
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
import yaml
from small_flow import chosen, documents, stages
from tamis.features.text_stats import TextStats
from tamis.selectors.refinement import next_weights
from tamis.storage.errors import ConfigError, TamisError
from tamis.storage.verify import verify
from test_flow_clusters import BUDGET, CLUSTERS, HOSTILE, clustered_case, rewrite
from tiny_model import write_causal

REFINE = {"rounds": 3, "score": "stats.n_words"}
STEP = {"select": "kmeans", "with": CLUSTERS, "cut": BUDGET, "refine": REFINE}
STEPS = {
    "paper": STEP,
    "official": STEP | {"refine": REFINE | {"weights": "official"}, "with": CLUSTERS | {"mode": "official"}},
    "kmq": STEP
    | {
        "with": CLUSTERS | {"sampler": "kmq", "quality": "n_bytes", "shares": "proportional"},
        "refine": REFINE | {"score": "1 / (1 + stats.n_words) - 0.02"},
        "cut": {"by": "gumbel"} | BUDGET | {"per": "cluster", "redistribute": True},
    },
}
ROUNDS = "select round, cluster, weight, mean_score, scored, chosen, tokens from rounds where run = $1 order by 1, 2"


def rounds_of(run):
    return tamis.sql(run.lake, ROUNDS, [run.id]).fetchall()


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_shards_workers_and_files_do_not_change_the_choice(tmp_path, step):
    config = clustered_case(tmp_path, step)
    found = []
    for case, (shard_bytes, workers, files) in enumerate([("128MB", 1, 1), (20_000, 2, 3), (1_000, 3, 7)]):
        rewrite(tmp_path, documents(300), files, seed=case)
        overrides = [f"lake=lake-{case}", f"corpora.web.shard_bytes={shard_bytes}"]
        run = tamis.run(config, "small", overrides=overrides, workers=workers)
        found.append((chosen(run), rounds_of(run)))
    assert 20 < len(found[0][0]) < 300 and len(found[0][1]) == 3 * 8
    assert found[0] == found[1] == found[2]


def test_the_catalogue_has_every_rounds_weights_scores_and_documents(tmp_path):
    run = tamis.run(clustered_case(tmp_path, STEP), "small")
    (step,) = run.steps
    rounds = [np.array(rounds_of(run)[8 * r : 8 * r + 8], dtype=object) for r in range(3)]
    assert (rounds[0][:, 2] == 1 / 8).all()
    for before, after in pairwise(rounds):
        means = np.array([math.nan if m is None else m for m in before[:, 3]])
        assert next_weights(before[:, 2].astype(float), means).tolist() == after[:, 2].tolist()
    budget = step["budget"]["amount"]
    spent = [int(r[:, 6].sum()) for r in rounds]
    assert all(budget * n // 3 - 80 < sum(spent[:n]) <= budget * n // 3 for n in (1, 2, 3))
    assert sum(spent) == step["tokens_kept"] and sum(r[:, 5].sum() for r in rounds) == step["kept"]
    assert [r["tokens"] for r in step["rounds"]] == spent and run.exit_code == 0
    words = {d["id"]: len(d["text"].split()) for d in documents(300)}
    found = tamis.sql(run.lake, "select round, doc_id from scores where round is not null").fetchall()
    assert sorted(doc_id for _, doc_id in found) == chosen(run)
    for number, r in enumerate(rounds, 1):
        mine = [words[doc_id] for n, doc_id in found if n == number]
        assert len(mine) == r[:, 5].sum()
        if number < 3:
            assert sum(m * n for m, n in zip(r[:, 3], r[:, 4], strict=True) if n) == pytest.approx(sum(mine))


def test_rounds_follow_each_other_in_the_order_of_a_cluster(tmp_path):
    run = tamis.run(clustered_case(tmp_path, STEPS["kmq"]), "small")
    ranked = tamis.sql(run.lake, "select rank, round from scores order by rank").fetchall()
    clusters = {row[1]: [0, 0, 0] for row in rounds_of(run)}
    for number, cluster, *_, n, _ in rounds_of(run):
        clusters[cluster][number - 1] = n
    expected = [(rank, number) for ns in clusters.values() for rank, number in enumerate(
        [number for number, n in enumerate(ns, 1) for _ in range(n)], 1)]  # fmt: skip
    assert sorted(row for row in ranked if row[1]) == sorted(expected)
    assert {number for _, number in expected} == {1, 2, 3}


def test_only_what_a_round_chose_is_scored(tmp_path):
    run = tamis.run(clustered_case(tmp_path, STEP), "small")
    ((key,),) = tamis.sql(run.lake, "select key from features where feature = 'text_stats'").fetchall()
    parts = list(run.lake.feature(key).glob("*/*.parquet"))
    scored = sum(row[5] for row in rounds_of(run) if row[0] < 3)
    assert sum(pq.read_metadata(path).num_rows for path in parts) == scored < len(chosen(run))


def test_the_official_weights_are_by_everything_chosen_so_far(tmp_path):
    run = tamis.run(clustered_case(tmp_path, STEPS["official"]), "small")
    rows = rounds_of(run)
    assert [sum(r[4] for r in rows if r[0] == n) for n in (1, 2)] == [
        sum(r[5] for r in rows if r[0] <= n) for n in (1, 2)
    ]


def test_one_round_is_a_choice_with_equal_shares(tmp_path):
    overrides = ["flows.small.steps.step.refine.rounds=1"]
    found = chosen(tamis.run(clustered_case(tmp_path, STEP), "small", overrides=overrides))
    plain = {name: value for name, value in STEP.items() if name != "refine"} | {"with": CLUSTERS | {"shares": "equal"}}
    assert found == chosen(tamis.run(clustered_case(tmp_path, plain), "small"))


def scored_by(folder, feature, score):
    """Write a flow whose rounds are scored by a feature of its own, `own`."""
    config = clustered_case(folder, STEP | {"refine": REFINE | {"score": score}})
    settings = yaml.safe_load(config.read_text())
    settings["features"]["own"] = feature
    config.write_text(yaml.safe_dump(settings))
    return config


def test_losses_of_a_model_are_computed_for_what_the_rounds_chose(tmp_path):
    write_causal(tmp_path / "model")
    config = scored_by(tmp_path, {"use": "losses", "model": "model", "precision": "fp32"}, "own.loss")
    run = tamis.run(config, "small")
    ((key,),) = tamis.sql(run.lake, "select key from features where feature = 'losses'").fetchall()
    n_losses = sum(pq.read_metadata(path).num_rows for path in run.lake.feature(key).glob("*/*.parquet"))
    rows = rounds_of(run)
    assert n_losses == sum(row[4] for row in rows) == sum(row[5] for row in rows if row[0] < 3)
    assert all(row[3] > 0 for row in rows if row[4]) and len({row[2] for row in rows if row[0] == 3}) == 8


def test_a_score_of_ones_own_and_a_new_one(tmp_path):
    config = scored_by(tmp_path, {"use": "external", "files": ["lack.parquet"]}, "own.q")
    ids, found = [d["id"] for d in documents(300)], []
    for q in (np.arange(300.0) % 4, 3 - np.arange(300.0) % 4):
        pq.write_table(pa.table({"id": ids, "q": q}), tmp_path / "lack.parquet")
        run = tamis.run(config, "small")
        found.append(chosen(run))
    assert found[0] != found[1]
    done = stages(run)
    assert done["fit step"] == (0, 1) and done["score step"][0] == 0 and done["round 1 step"] == (1, 0)
    assert tamis.run(config, "small").record.computed == 0


def test_a_run_that_failed_while_it_scored_goes_on_in_that_round(tmp_path, monkeypatch):
    config = clustered_case(tmp_path, STEP)
    whole = tamis.run(config, "small", overrides=["lake=whole"])
    counted, computed = TextStats.compute, []

    def failing(self, batch, model=None):
        computed.append(batch.num_rows)
        if len(computed) == 2:
            raise TamisError("the power went")
        return counted(self, batch, model)

    monkeypatch.setattr(TextStats, "compute", failing)
    with pytest.raises(TamisError, match="power"):
        tamis.run(config, "small")
    run = tamis.run(config, "small")
    done = stages(run)
    assert done["round 1 step"] == (0, 1) and done["round 2 step"] == done["round 3 step"] == (1, 0)
    assert "weigh 1 step" not in done and done["weigh 2 step"] == (1, 0)
    assert computed[2:] == computed[1:2], "what round 1 scored is not scored again"
    assert (chosen(run), rounds_of(run)) == (chosen(whole), rounds_of(whole))


KILLED = """
import os, signal, sys
import tamis
from tamis.storage.lake import Lake
written = Lake.publish_table
def dying(self, target, table):
    written(self, target, table)
    if target.parts[-3] == "rounds" and target.name == "2.parquet":
        os.kill(os.getpid(), signal.SIGKILL)
Lake.publish_table = dying
tamis.run(sys.argv[1], "small")
"""


def test_a_run_that_was_killed_after_two_rounds_does_the_third(tmp_path):
    config = clustered_case(tmp_path, STEP)
    whole = tamis.run(config, "small", overrides=["lake=whole"])
    ended = subprocess.run([sys.executable, "-c", KILLED, str(config)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    run = tamis.run(config, "small")
    done = stages(run)
    assert done["round 1 step"] == done["round 2 step"] == (0, 1) and done["round 3 step"] == (1, 0)
    assert not {"weigh 1 step", "weigh 2 step", "feature stats"} & set(done)
    assert (chosen(run), rounds_of(run)) == (chosen(whole), rounds_of(whole))
    assert list(verify(run.lake)) == []
    assert tamis.run(config, "small").record.computed == 0


def test_a_round_that_was_damaged_is_named(tmp_path):
    lake = tamis.run(clustered_case(tmp_path, STEP), "small").lake
    (path,) = lake.rounds("x").parent.glob("*/2.parquet")
    pq.write_table(pq.read_table(path).slice(0, 5), path)
    assert [damage.file for damage in verify(lake)] == [str(path)]


@pytest.mark.parametrize(("score", "why"), [
    ("case when n_bytes < 0 then 1.0 end", "no document of it has a number as its score"),
    ("-stats.n_words", "no cluster's mean score is above 0"),
])  # fmt: skip
def test_scores_that_say_nothing_leave_the_weights_and_are_said(tmp_path, score, why):
    run = tamis.run(clustered_case(tmp_path, STEP | {"refine": REFINE | {"score": score}}), "small")
    assert {row[2] for row in rounds_of(run)} == {1 / 8}
    assert [why in warning for warning in run.record.warnings] == [True, True] and run.exit_code == 3


def test_documents_without_a_finite_score_do_not_count(tmp_path):
    score = "case when n_bytes % 3 = 0 then null when n_bytes % 3 = 1 then 'inf'::double else 2 end"
    run = tamis.run(clustered_case(tmp_path, STEP | {"refine": REFINE | {"score": score}}), "small")
    assert {row[3] for row in rounds_of(run)} <= {None, 2.0} and 0 < sum(row[4] for row in rounds_of(run)) < 60


def test_what_clusters_cannot_give_is_said_in_one_line(tmp_path):
    step = STEP | {"cut": {"budget": {"tokens": "90%"}}}
    run = tamis.run(clustered_case(tmp_path, step), "small")
    (said,) = run.record.warnings
    assert "the budget is not met" in said and run.exit_code == 3
    step = STEP | {"cut": {"budget": {"tokens": "90%"}, "per": "cluster", "redistribute": True}}
    run = tamis.run(clustered_case(tmp_path, step), "small")
    assert run.record.warnings == [] and run.steps[0]["tokens_kept"] > 0.89 * run.steps[0]["tokens_entered"]


@pytest.mark.parametrize("pool", HOSTILE)
def test_pools_with_hardly_anything(tmp_path, pool):
    cut = {"budget": {"fraction": 1}, "per": "cluster", "redistribute": True}
    run = tamis.run(clustered_case(tmp_path, STEP | {"cut": cut}, HOSTILE[pool]), "small")
    assert len(chosen(run)) == len(HOSTILE[pool])


@pytest.mark.parametrize(("change", "message"), [
    ({"select": "random", "with": {}}, "refine: random does not choose from clusters by shares, as `kmeans` does"),
    ({"select": "density_pruning"}, "density_pruning does not choose from clusters by shares"),
    ({"cut": {"by": "percentile", "percent": 5}}, "the rounds divide a budget; give `cut` a `budget`"),
    ({"refine": {"score": "stats.n_wrods"}}, "refine: score: unknown column 'stats.n_wrods'"),
    ({"refine": {"score": "source"}}, "refine: score: 'source' gives VARCHAR, expected a number"),
    ({"refine": {"score": "1", "rounds": 0}}, "greater than or equal to 1"),
    ({"refine": {"rounds": 3}}, "score"),
    ({"refine": {"score": "1", "weight": "paper"}}, "did you mean 'weights'"),
])  # fmt: skip
def test_a_mistake_is_said_before_any_work(tmp_path, change, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        tamis.run(clustered_case(tmp_path, STEP | change), "small")
    assert not (tmp_path / "lake" / "corpora").exists()


STUDENT = {
    "size": "tiny", "depth": 1, "width": 16, "heads": 2, "context": 32, "vocabulary": 300, "epochs": 1,
    "evaluations": 1, "with": {"batch": 4, "peak_rate": 0.01, "precision": "fp32"},
}  # fmt: skip


def student_case(folder, **refine):
    path = clustered_case(folder, STEP | {"refine": {"rounds": 3, "score": "lm.loss", "train": "student"} | refine})
    config = yaml.safe_load(path.read_text())
    config["features"] |= {"lm": {"use": "losses", "model": "student", "precision": "fp32"}}
    config["models"] = {"student": STUDENT, "other": STUDENT, "next": {"from": "other", "epochs": 1}}
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_model_that_learns_from_the_rounds_weighs_the_next(tmp_path):
    path = student_case(tmp_path)
    run = tamis.run(path, "small")
    models = [m for m in run.record.models if m["name"] == "student"]
    first, second, last = (np.array(rounds_of(run)[8 * r : 8 * r + 8], dtype=object) for r in range(3))
    so_far = [first[:, 5].sum(), first[:, 5].sum() + second[:, 5].sum()]
    assert [m["documents"] + m["documents_held_out"] for m in models] == so_far
    assert (first[:, 4].sum(), second[:, 4].sum(), last[:, 4].sum()) == (first[:, 5].sum(), second[:, 5].sum(), 0)
    assert first[:, 3][0] != second[:, 3][0] and all(m["held_out"][1] < m["held_out"][0] for m in models)
    again = tamis.run(path, "small")
    assert again.record.computed == 0 and chosen(again) == chosen(run)
    other = tamis.run(path, "small", overrides=["models.student.epochs=2"])
    assert stages(other)["train student"] == (2, 0)


@pytest.mark.parametrize(
    ("refine", "message"),
    [
        ({"train": "studnet"}, "did you mean 'student'"),
        ({"score": "stats.n_words"}, "does not read the losses"),
        ({"train": "next"}, "goes on from 'other', which no step before it trains"),
        ({"train": None}, "needs the losses of the model 'student'"),
    ],
)
def test_a_model_that_no_round_can_train_is_refused(tmp_path, refine, message):
    with pytest.raises(ConfigError, match=message):
        tamis.run(student_case(tmp_path, **refine), "small")
