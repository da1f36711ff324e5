"""Models that a flow trains: the same for any workers and shards, once for all flows, whole after an interruption."""

import json
import subprocess
import sys
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
import tamis
import torch
import yaml
from small_flow import chosen, documents, make_case, stages, write_jsonl
from tamis.features.losses import Losses
from tamis.pipelines import resuming
from tamis.pipelines.token_samples import PIECE, TokenSample
from tamis.selectors.keyed import stream_key, uniform
from tamis.storage.errors import ConfigError
from tamis.storage.token_files import TOKENS, TokenFile, publish_tokens
from tamis.storage.verify import verify
from typer.testing import CliRunner

SHAPE = {"size": "tiny", "depth": 1, "width": 16, "heads": 2, "context": 32, "vocabulary": 300}
FAST = {"batch": 4, "peak_rate": 0.01, "precision": "fp32"}
PRIOR = {**SHAPE, "budget": {"tokens": 6_000}, "evaluations": 3, "with": FAST}
MODELS = {"prior": PRIOR, "python": {"from": "prior", "target": "code", "epochs": 2, "evaluations": 3, "with": FAST}}
TRAIN = {"name": "models", "train": ["prior", "python"]}
BEST = {
    "name": "best", "select": "color_filter", "with": {"prior": "before", "conditional": "after"},
    "cut": {"budget": {"documents": 20}},
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Of models this small threads make nothing faster, and where other processes compute they wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def case(folder, steps=(TRAIN, BEST), models=MODELS, **changes):
    features = {
        "stats": {"use": "text_stats"},
        "before": {"use": "losses", "model": "prior", "precision": "fp32"},
        "after": {"use": "losses", "model": "python", "precision": "fp32"},
    }
    return make_case(folder, n=160, steps=list(steps), features=features, models=models, **changes)


def models(run):
    return {m["name"]: m for m in run.record.models}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted, and its configuration."""
    config = case(tmp_path_factory.mktemp("whole"))
    return config, tamis.run(config, "small")


def test_a_flow_trains_models_and_chooses_by_their_losses(whole):
    _, run = whole
    prior, python = models(run)["prior"], models(run)["python"]
    assert prior["held_out"][1] < prior["held_out"][0] - 1, "it has learned"
    assert python["held_out"][1] < python["held_out"][0] - 0.1
    target = run.record.targets["code"]
    assert python["documents"] + python["documents_held_out"] == target["visible"] < target["documents"]
    kept = chosen(run)
    of_code = {d["id"] for d in documents(160) if d["source"] == "code"}
    assert len(kept) == 20 and sum(doc in of_code for doc in kept) >= 14, "5 by lot"
    assert list(verify(run.lake)) == [] and not list(run.lake.training("x").parent.glob("*"))


def test_the_folder_is_a_model_of_transformers(whole):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models(whole[1])["python"]["folder"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = "def return import class self"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0, 1:]) == text and tokenizer.decode(ids[0, :1]) == "<|endoftext|>"
    with torch.inference_mode():
        expected = float(model(ids, labels=ids).loss)
    ours = Losses(model=folder, precision="fp32").compute(pa.record_batch({"text": [text]}))
    assert ours.column("loss")[0].as_py() == pytest.approx(expected, abs=1e-5)


def test_what_is_trained_is_taken_again(whole):
    config, first = whole
    again = tamis.run(config, "small")
    assert stages(again)["train prior"] == stages(again)["train python"] == (0, 1)
    assert again.record.computed == 0 and models(again).keys() == models(first).keys()
    more = tamis.run(config, "small", overrides=["models.python.epochs=1"])
    assert stages(more)["train prior"] == (0, 1) and stages(more)["train python"] == (1, 0)
    assert stages(more)["feature losses"][0] == stages(more)["feature losses"][1], "the prior's are there"


def test_workers_shards_and_the_order_of_files_change_no_weight(tmp_path, whole):
    shards = {"web": {"files": ["raw/*"], "shard_bytes": 8_000}}
    path = case(tmp_path, files=1, corpora=shards)
    run = tamis.run(path, "small", workers=3)
    assert {n: m["digest"] for n, m in models(run).items()} == {n: m["digest"] for n, m in models(whole[1]).items()}
    assert chosen(run) == chosen(whole[1])


def test_a_changed_pool_is_another_model(tmp_path, whole):
    path = case(tmp_path)
    write_jsonl(tmp_path / "raw" / "more.jsonl", documents(20, seed=5))
    run = tamis.run(path, "small")
    assert models(run)["prior"]["key"] != models(whole[1])["prior"]["key"]


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path, whole, monkeypatch):
    path, kept = case(tmp_path), []
    publish = resuming.publish_checkpoint

    def interrupted(*arguments):
        publish(*arguments)
        kept.append(arguments[2])
        if len(kept) in (7, 30):
            raise KeyboardInterrupt

    monkeypatch.setattr(resuming, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(resuming, "publish_checkpoint", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tamis.run(path, "small")
    run = tamis.run(path, "small")
    assert kept[6:8] == [7, 8] and kept[29] != kept[30], "it went on after the last checkpoint"
    assert [m["digest"] for m in run.record.models] == [m["digest"] for m in whole[1].record.models]
    assert chosen(run) == chosen(whole[1])


def test_killed_while_training_the_same_command_gives_the_same_model(tmp_path, whole):
    path = case(tmp_path)
    program = (
        "import os, sys, tamis, torch; from tamis.pipelines import resuming as t; torch.set_num_threads(1)\n"
        "t.SECONDS_BETWEEN_CHECKPOINTS = 0.0; publish = t.publish_checkpoint\n"
        "def killed(*a):\n    publish(*a); a[2] == 5 and os.kill(os.getpid(), 9)\n"
        "t.publish_checkpoint = killed; tamis.run(sys.argv[1], 'small')"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], timeout=120).returncode == -9
    run = tamis.run(path, "small")
    assert [m["digest"] for m in run.record.models] == [m["digest"] for m in whole[1].record.models]
    assert list(verify(run.lake)) == []


def test_train_aux_makes_what_the_flow_then_finds(tmp_path):
    path = case(tmp_path)
    done = CliRunner().invoke(tamis_cli(), ["train-aux", "python", "-c", str(path), "--json", "-q"])
    assert done.exit_code == 0, done.output
    assert [m["name"] for m in json.loads(done.stdout)["models"]] == ["prior", "python"]
    assert stages(tamis.run(path, "small"))["train python"] == (0, 1)


def test_train_aux_without_a_flow_sees_the_only_corpus(tmp_path):
    path = case(tmp_path, steps=[{"name": "twins", "dedup": "exact"}])
    run = tamis.train_aux(path, "prior")
    assert models(run)["prior"]["tokens"] == 6_000 and run.steps == [] and run.exit_code == 0


def test_a_budget_that_the_pool_cannot_give_is_said(tmp_path):
    path = case(tmp_path, models={**MODELS, "prior": {**PRIOR, "budget": {"tokens": "1M"}}}, steps=[TRAIN])
    run = tamis.run(path, "small", overrides=["flows.small.outputs=[]"])
    assert run.exit_code == 3 and "raise `epochs`" in run.record.warnings[0]
    assert models(run)["prior"]["tokens"] == models(run)["prior"]["tokens_a_pass"]


def test_any_causal_model_can_be_gone_on_from(tmp_path):
    from tiny_model import write_causal

    write_causal(tmp_path / "theirs", bos=False)
    entry = {"from": "theirs", "target": "code", "epochs": 3, "context": 16, "with": FAST}
    path = case(tmp_path, models={"python": entry}, steps=[{"name": "models", "train": "python"}])
    run = tamis.run(path, "small", overrides=["flows.small.outputs=[]"])
    made = models(run)["python"]
    assert made["held_out"][1] < made["held_out"][0] and made["context"] == 16
    with open(f"{made['folder']}/tokenizer.json") as copied, (tmp_path / "theirs/tokenizer.json").open() as theirs:
        assert copied.read() == theirs.read()


def test_the_catalogue_has_models_and_curves(whole):
    _, run = whole
    query = "select model, tokens, steps, held_out_after from models where run = $1 order by model"
    rows = tamis.sql(run.lake, query, [run.id]).fetchall()
    assert [row[0] for row in rows] == ["prior", "python"] and rows[0][1] == 6_000
    query = "select t.step, t.loss from training t join models m using (key) where m.run = $1 and model = 'prior'"
    curve = tamis.sql(run.lake, query, [run.id]).fetchall()
    assert [step for step, _ in curve] == list(range(rows[0][2] + 1)) and curve[0][1] is None
    folder = run.lake.model(models(run)["prior"]["key"])
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_damaged_model_is_found(tmp_path):
    run = tamis.train_aux(case(tmp_path), "prior")
    (weights,) = run.lake.root.glob("models/*/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert {damage.file for damage in verify(run.lake)} == {str(weights), str(weights.parent)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "no entry|model 'prior' is not in the configuration"),
        ({"models": {**MODELS, "prior": {**SHAPE}}}, "needs a `budget`"),
        ({"models": {**MODELS, "prior": {**PRIOR, "from": "python"}}}, "exactly one of `size`"),
        ({"models": {**MODELS, "prior": {"from": "python", "epochs": 1}}}, "comes from itself"),
        ({"models": {**MODELS, "prior": {**PRIOR, "width": 17}}}, "width is 17"),
        ({"models": {**MODELS, "prior": {**PRIOR, "with": {"batches": 3}}}}, "did you mean 'batch'"),
        ({"models": {**MODELS, "prior": {**PRIOR, "with": {"steps": 3}}}}, "follows from the tokens"),
        ({"models": {**MODELS, "prior": {**PRIOR, "device": "tpu"}}}, "device is 'tpu'"),
        ({"models": {**MODELS, "python": {"from": "nowhere/at-all", "target": "code"}}}, "nowhere/at-all"),
        ({"models": {**MODELS, "python": {"from": "prior", "target": "cod"}}}, "did you mean 'code'"),
        ({"steps": [BEST]}, "needs the losses of the model"),
        ({"steps": [{"name": "m", "train": "prior"}, BEST]}, "needs the losses of the model 'python'"),
        ({"steps": [{"name": "m", "train": "priors"}]}, "did you mean 'prior'"),
        ({"steps": [TRAIN]}, "no step chooses"),
    ],
)
def test_what_cannot_be_trained_is_said_before_any_work(tmp_path, monkeypatch, change, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=message):
        tamis.run(case(tmp_path, **change), "small")
    assert not (tmp_path / "lake").exists()


def test_two_flows_that_train_a_model_must_be_told_apart(tmp_path):
    path = case(tmp_path)
    config = yaml.safe_load(path.read_text())
    config["flows"]["other"] = config["flows"]["small"]
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="other, small; name one with --flow"):
        tamis.train_aux(path, "prior")
    with pytest.raises(ConfigError, match="did you mean 'prior'"):
        tamis.train_aux(path, "priors")


def sample(folder, lengths, wanted=None, most_held_out=0, begin=(0,)):
    """A sample of documents in which every token is the document's number."""
    keys = mixed(np.arange(1, len(lengths) + 1))
    lists = pa.array([[i + 1] * n for i, n in enumerate(lengths)], pa.large_list(pa.uint32()))
    batch = pa.record_batch([pa.array(keys, pa.uint64()), lists], schema=TOKENS)
    publish_tokens(folder / "t.arrow", [batch.slice(0, 3), batch.slice(3)], folder / "tmp")
    return TokenSample(TokenFile(folder / "t.arrow"), 5, lambda passed: 17 + passed, begin, wanted, most_held_out)


def mixed(numbers):
    return np.array([stream_key(0, "test", str(n)) for n in numbers], np.uint64)


def test_every_pass_has_each_piece_once_in_an_order_of_its_own(tmp_path):
    made = sample(tmp_path, [1 + i % 5 for i in range(39)] + [3 * PIECE + 7])
    stream = made.pieces(0)
    passes = [[(int(ids[-1]), len(ids)) for ids in islice(stream, 43)] for _ in range(3)]
    whole = sorted([(i + 1, 2 + i % 5) for i in range(39)] + [(40, n) for n in (7, PIECE, PIECE, PIECE + 1)])
    assert all(sorted(one) == whole for one in passes), "each document begins after what comes before documents"
    assert passes[0] != passes[1] != passes[2] and made.n_tokens == sum(n for _, n in whole)
    late = [(int(ids[-1]), len(ids)) for ids in islice(made.pieces(50), 40)]
    assert late == (passes[1] + passes[2])[7:47], "any place can be begun at"
    places = [i for i, (document, _) in enumerate(passes[0]) if document == 40]
    assert places != list(range(places[0], places[0] + 4)), "a long document is not read through"


def test_what_is_held_out_is_never_trained_on_and_never_above_a_tenth(tmp_path):
    made = sample(tmp_path, [9] * 100, most_held_out=10_000)
    held_out = {int(ids[-1]) for ids in made.held_out(0)}
    trained = {int(ids[-1]) for ids in islice(made.pieces(0), 90)}
    assert len(held_out) == 10 and len(trained) == 90 and not held_out & trained and made.n_tokens == 900


def test_a_document_that_is_too_large_to_be_held_out_is_passed_over(tmp_path):
    made = sample(tmp_path, [500] * 30 + [9] * 30, most_held_out=100)
    held_out = [len(ids) for ids in made.held_out(0)]
    assert held_out == [10] * 10 and made.n_documents == 50 and made.n_tokens == 30 * 501 + 20 * 10


def test_a_sample_is_as_large_as_it_has_to_be(tmp_path):
    (tmp_path / "all").mkdir()
    whole = sample(tmp_path / "all", [9] * 100)
    made = sample(tmp_path, [9] * 100, wanted=95)
    assert made.n_documents == 10 and made.n_tokens == 100
    documents = {int(ids[-1]) for ids in islice(made.pieces(0), 10)}
    first = np.argsort(uniform(whole.file.doc_keys, 5))[:10] + 1
    assert documents == set(first.tolist()), "those with the smallest keyed numbers, whatever else the file has"


def tamis_cli():
    from tamis.pipelines.cli import app

    return app
