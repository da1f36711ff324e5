"""Losses of documents: those of the plain forward, each token once, the same whatever is computed beside them."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import reference_data
from safetensors.numpy import load_file, save_file
from small_flow import make_case
from tamis.features.causal_model import windows
from tamis.features.losses import Losses, min_k_loss
from tamis.features.stopping import Stopped, end_with
from tamis.pipelines.config import FeatureEntry
from tamis.pipelines.measuring import feature_key
from tamis.pipelines.plugins import make_feature
from tamis.storage.errors import ConfigError
from tiny_model import CONTEXT, WORDS, byte_tokenizer, write_causal, write_transformer

LENGTHS = [0, 1, 2, 7, 9, CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT + CONTEXT // 2]
"""Tokens of each text below."""


def text_of(n_tokens):
    """Digits are never merged: each is a token."""
    return "".join(str(i * i % 7) for i in range(n_tokens))


TEXTS = [
    *map(text_of, LENGTHS),
    "the river of lorem ipsum is in the mountain",
    "Ça va ? 東京 \U0001f600",
    " ".join(WORDS) * 3,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_causal(tmp_path_factory.mktemp("models") / "bos")


@pytest.fixture(scope="module")
def without_bos(tmp_path_factory):
    return write_causal(tmp_path_factory.mktemp("models") / "plain", bos=False)


@pytest.fixture(scope="module")
def fp32(folder):
    feature = Losses(str(folder), precision="fp32", device="cpu", stride=CONTEXT // 2, min_k=0.2)
    return feature, feature.load()


def computed(feature, texts, model=None):
    return feature.compute(pa.record_batch({"text": pa.array(texts, pa.large_string())}), model).to_pydict()


def bits(found):
    return [repr(row) for row in zip(*found.values(), strict=True)]


def plain_losses(folder, text, bos, context=CONTEXT, stride=None):
    """The loss of each predicted token by the definition: the token at i from those that its window has before it."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    ids = [*([0] if bos else []), *byte_tokenizer(False).encode(text).ids]
    stride, found = stride or context, []
    for i in range(1, len(ids)):
        start = max(0, -(-(i - context) // stride)) * stride
        with torch.inference_mode():
            logits = model(torch.tensor([ids[start:i]])).logits[0, -1].double()
        found.append(float(torch.logsumexp(logits, 0) - logits[ids[i]]))
    return np.array(found)


def test_the_texts_have_the_tokens_that_they_should():
    assert [len(byte_tokenizer(False).encode(text).ids) for text in TEXTS[: len(LENGTHS)]] == LENGTHS


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize(("context", "stride"), [(None, None), (None, 8), (None, 13), (16, None), (16, 1)])
def test_they_are_those_of_a_plain_forward(folder, without_bos, bos, context, stride):
    where = folder if bos else without_bos
    found = computed(Losses(str(where), context, stride, min_k=0.3, precision="fp32", device="cpu"), TEXTS)
    for i, text in enumerate(TEXTS):
        nats = plain_losses(where, text, bos, context or CONTEXT, stride)
        assert found["n_predicted"][i] == len(nats) == max(0, len(byte_tokenizer(bos).encode(text).ids) - 1)
        assert found["nll"][i] == pytest.approx(nats.sum(), rel=1e-5, abs=1e-4)
        mean = nats.mean() if len(nats) else math.nan
        assert found["loss"][i] == pytest.approx(mean, abs=1e-4, nan_ok=True)
        assert found["perplexity"][i] == pytest.approx(math.exp(mean), rel=1e-4, nan_ok=True)
        worst = np.sort(nats)[::-1][: max(1, int(0.3 * len(nats)))]
        assert found["min_k"][i] == pytest.approx(worst.mean() if len(nats) else math.nan, abs=1e-4, nan_ok=True)
        per_byte = nats.sum() / math.log(2) / len(text.encode()) if len(nats) else math.nan
        assert found["bits_per_byte"][i] == pytest.approx(per_byte, rel=1e-4, nan_ok=True)


@given(st.integers(0, 80), st.integers(0, 2), st.integers(2, 20), st.integers(1, 20))
def test_every_token_is_predicted_once(n_tokens, n_prefix, context, stride):
    stride, ids = min(stride, context), np.arange(n_prefix + n_tokens)
    found = windows(ids, n_prefix, context, stride)
    predicted = [token for window in found for token in window.ids[window.n_context + 1 :].tolist()]
    assert predicted == list(range(max(1, n_prefix), n_prefix + n_tokens))
    assert all(len(window.ids) - 1 <= context for window in found)
    assert [window.n_context for window in found[1:]] == [context - stride] * len(found[1:])


@settings(max_examples=25)
@given(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=24), st.lists(st.integers(0, 24), max_size=3))
def test_neighbours_do_not_matter(fp32, order, cuts):
    alone = [bits(computed(fp32[0], [text], fp32[1]))[0] for text in TEXTS]
    borders = sorted({0, len(order), *(c for c in cuts if c < len(order))})
    found = [
        row for a, b in pairwise(borders) for row in bits(computed(fp32[0], [TEXTS[i] for i in order[a:b]], fp32[1]))
    ]
    assert found == [alone[i] for i in order]


def test_workers_do_not_matter(fp32):
    expected = bits(computed(fp32[0], TEXTS, fp32[1]))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: bits(computed(fp32[0], TEXTS, fp32[1])), range(8))) == [expected] * 8


@pytest.mark.parametrize(("precision", "within"), [("bf16", 0.1), ("fp16", 0.02)])
def test_the_other_precisions_are_near(folder, fp32, precision, within):
    expected = computed(fp32[0], TEXTS, fp32[1])["loss"]
    found = computed(dataclasses.replace(fp32[0], precision=precision), TEXTS)["loss"]
    assert found == pytest.approx(expected, abs=within, nan_ok=True) and found[3:] != expected[3:]


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}),
        ("gpt_neox", {}),
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
        ("qwen3", {"tie_word_embeddings": True}),
        ("gemma2", {"final_logit_softcapping": 1.5, "query_pre_attn_scalar": 8}),
        ("granite", {"logits_scaling": 4.0}),
        ("cohere", {"logit_scale": 3.0}),
    ],
)
def test_what_models_do_with_their_logits_is_kept(tmp_path, kind, config):
    where = write_causal(tmp_path / kind, kind=kind, **config)
    texts = TEXTS[:5] + TEXTS[-3:]
    found = computed(Losses(str(where), precision="fp32", device="cpu"), texts)["nll"]
    assert found == pytest.approx([plain_losses(where, text, True).sum() for text in texts], rel=1e-5, abs=1e-4)


def test_logits_are_never_whole(folder, fp32):
    sizes = []

    def head(inputs_embeds, **rest):
        sizes.append(inputs_embeds.shape[1])
        return fp32[1].head(inputs_embeds=inputs_embeds, **rest)

    expected = bits(computed(fp32[0], TEXTS * 5, fp32[1]))
    assert bits(computed(fp32[0], TEXTS * 5, dataclasses.replace(fp32[1], head=head))) == expected
    assert set(sizes) == {fp32[1].chunk} and len(sizes) > 5


def test_min_k_is_that_of_its_authors():
    golden = json.loads(reference_data("goldens/scores/goldens.json").read_text())["min_k"]
    nats = -np.array(golden["token_logprobs"])
    found = {share: min_k_loss(nats, float(share)) for share in golden["scores"]}
    assert found == pytest.approx(golden["scores"], rel=1e-12) and len(found) == 7
    assert min_k_loss(nats[:3], 0.2) == nats[:3].max()


@pytest.mark.parametrize(
    ("flags", "bos", "expected"),
    [
        ({}, True, (0,)),
        ({}, False, ()),
        ({"add_bos_token": False, "bos_token": "<s>"}, True, ()),
        ({"add_bos_token": True, "bos_token": "<s>"}, False, (0,)),
        ({"add_bos_token": True, "bos_token": {"content": "<s>"}}, False, (0,)),
        ({"add_bos_token": True}, False, ()),
    ],
)
def test_what_stands_before_a_text(folder, tmp_path, flags, bos, expected):
    where = shutil.copytree(folder, tmp_path / "copy")
    byte_tokenizer(bos).save(str(where / "tokenizer.json"))
    (where / "tokenizer_config.json").write_text(json.dumps(flags))
    model = Losses(str(where), device="cpu").load()
    assert model.prefix == expected
    assert model.losses(model.tokens(["1234"]))[1].tolist() == [3 + len(expected)]


def test_a_null_is_an_empty_text(fp32):
    assert bits(computed(fp32[0], [None, "12"], fp32[1])) == bits(computed(fp32[0], ["", "12"], fp32[1]))


def test_columns_follow_the_parameters(folder):
    names = ["nll", "n_predicted", "loss", "perplexity", "bits_per_byte"]
    assert Losses("nowhere").columns.names == names
    assert Losses("nowhere", min_k=0.2).columns.names == [*names, "min_k"]


def test_nan_stays_nan(folder, tmp_path):
    """One token's vector is NaN: documents with it have no numbers, the others keep theirs."""
    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    (seven,) = byte_tokenizer(False).encode("7").ids
    weights["model.embed_tokens.weight"][seven] = np.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    both = [
        computed(Losses(str(m), min_k=0.2, precision="fp32", device="cpu"), ["127", "1271"]) for m in (folder, broken)
    ]
    assert both[0]["loss"][0] == both[1]["loss"][0], "7 is predicted there, and nothing from it"
    assert all(math.isnan(both[1][name][1]) for name in ("nll", "loss", "perplexity", "bits_per_byte", "min_k"))
    assert both[1]["n_predicted"] == [3, 4]


def test_what_does_not_fit_is_halved(fp32):
    import torch

    feature, model = fp32
    shapes = []

    def decoder(input_ids, **rest):
        shapes.append(tuple(input_ids.shape))
        if shapes[-1][0] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return model.decoder(input_ids=input_ids, **rest)

    texts = ["12", "345", "6", "7890"] * 7
    expected = bits(computed(feature, texts, model))
    small = dataclasses.replace(model, decoder=decoder, batch_tokens=16 * 8)
    assert bits(computed(feature, texts, small)) == expected
    assert set(shapes) == {(16, 8), (8, 8), (4, 8)}


def test_one_window_that_does_not_fit_is_said(fp32):
    import torch

    def decoder(**_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ConfigError, match=r"losses: one text of 8 tokens is too much for the memory of cpu.*context"):
        computed(fp32[0], ["12"], dataclasses.replace(fp32[1], decoder=decoder))


def test_they_end_between_batches(fp32):
    found = []

    def interrupted():
        event = Event()
        end_with(event)
        event.set()
        with pytest.raises(Stopped):
            computed(fp32[0], ["12"], fp32[1])
        found.append("stopped")

    thread = Thread(target=interrupted)
    thread.start()
    thread.join(60)
    assert found == ["stopped"]


def test_the_name_follows_the_content(folder, tmp_path):
    feature = Losses(str(folder), precision="fp32")
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    other = Losses(str(copied), precision="fp32", device="cpu")
    assert feature_key(other) == feature_key(feature)
    for changed in ({"precision": "bf16"}, {"context": 8}, {"stride": 8}, {"min_k": 0.2}):
        assert feature_key(dataclasses.replace(other, **changed)) != feature_key(feature)
    shutil.rmtree(copied)
    write_causal(copied, seed=1)
    assert feature_key(other) != feature_key(feature)
    assert Losses(str(folder), device="cuda").identity()["precision"] == "bf16"


@pytest.mark.parametrize("model", ["/nowhere/model", "./model", "nobody/nothing-of-this-name", "nothing-of-this-name"])
def test_a_missing_model_is_said_at_once(model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for ask in (Losses(model).identity, Losses(model).load):
        with pytest.raises(ConfigError, match=f"'{model}'"):
            ask()


def _without_tokenizer(where):
    (where / "tokenizer.json").unlink()


def _without_head(where):
    weights = load_file(where / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, where / "model.safetensors", metadata={"format": "pt"})


def _cut(where):
    (where / "model.safetensors").write_bytes((where / "model.safetensors").read_bytes()[:1000])


def _other_tokenizer(where):
    made = byte_tokenizer(True)
    made.add_tokens(["one", "more"])
    made.save(str(where / "tokenizer.json"))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_without_tokenizer, "has no tokenizer.json"),
        (_without_head, "lacks 1 weights of a causal language model, such as lm_head.weight"),
        (_cut, "is not a causal language model"),
        (_other_tokenizer, "has 302 tokens, its model 300"),
    ],
)
def test_a_folder_that_is_not_whole_is_said(folder, tmp_path, damage, expected):
    where = shutil.copytree(folder, tmp_path / "damaged")
    damage(where)
    with pytest.raises(ConfigError, match=expected):
        Losses(str(where), device="cpu").load()


def test_a_model_that_looks_ahead_is_refused(tmp_path):
    """transformers runs BERT as a language model too, and only warns that its tokens see each other."""
    where = write_causal(tmp_path / "bert", kind="bert")
    with pytest.raises(ConfigError, match="looks at later tokens: it is no causal language model"):
        Losses(str(where), device="cpu", precision="fp32").load()


def test_an_encoder_without_a_head_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"losses: .* lacks"):
        Losses(str(write_transformer(tmp_path / "encoder")), device="cpu").load()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"context": 0}, "at least 1"),
        ({"context": 8, "stride": 9}, "stride is 9, expected 1 to the context"),
        ({"stride": 0}, "expected 1 to"),
        ({"min_k": 0.0}, "a share above 0"),
        ({"device": "tpu"}, "expected auto, cpu"),
        ({"precision": "int8"}, "precision"),
    ],
)
def test_wrong_parameters_are_refused(folder, wrong, expected):
    with pytest.raises(ConfigError, match=expected):
        make_feature("loss", FeatureEntry(use="losses", **{"model": str(folder), **wrong}), Path())


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [({"context": 33}, "context is 33, but the model reads at most 32"), ({"stride": 33}, "a window has 32 tokens")],
)
def test_more_than_the_model_reads_is_refused(folder, wrong, expected):
    with pytest.raises(ConfigError, match=expected):
        Losses(str(folder), device="cpu", **wrong).load()


def test_a_device_that_is_not_there_is_said(folder):
    with pytest.raises(ConfigError, match="losses: the device 'cuda:99' cannot be used"):
        Losses(str(folder), device="cuda:99").load()


def test_a_relative_model_is_below_the_configuration(folder):
    entry = FeatureEntry(use="losses", model=folder.name)
    assert make_feature("loss", entry, folder.parent).model == str(folder)


def test_a_flow_filters_by_them(folder, tmp_path):
    import tamis

    features = {"lm": {"use": "losses", "model": str(folder), "precision": "fp32", "device": "cpu"}}
    steps = [{"name": "known", "filter": {"loss": "lm.loss < 1e9 and lm.perplexity > 1 and lm.n_predicted > 0"}}]
    config = make_case(tmp_path, n=20, steps=steps, features=features)
    assert tamis.run(config, "small").steps[-1]["kept"] == 20


def test_they_need_transformers_and_no_table_library(folder):
    code = """
import sys
for name in ("polars", "duckdb", "pydantic", "prefect", "rich", "typer", "sqlglot", "sqlalchemy", "msgspec", "fastapi",
             "sentence_transformers", "sklearn", "matplotlib"):
    sys.modules[name] = None
import pyarrow as pa
from tamis.features.losses import Losses
feature = Losses(sys.argv[1], device="cpu")
identity = feature.identity()
assert not {"torch", "transformers"} & set(sys.modules), "identity() loads no model"
found = feature.compute(pa.record_batch({"text": ["A cat.", ""]}), feature.load())
print(found.column("n_predicted").to_pylist())
"""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[6, 0]\n"
