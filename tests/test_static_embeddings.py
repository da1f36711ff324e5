"""Means of token vectors: the numbers of the libraries that such models come from."""

import shutil
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file
from tamis.features.static_embeddings import StaticEmbeddings
from tamis.pipelines.measuring import feature_key
from tamis.storage.errors import ConfigError
from tiny_model import DIMENSION, tokenizer, write_static

TEXTS = ["the river", "", "def f(x): return x", "lorem ipsum dolor " * 400, "é ☃ the", "☃", "the river"]


def vectors(feature, texts):
    found = feature.compute(pa.record_batch({"text": pa.array(texts, pa.string())}), feature.load()).column("vector")
    return np.asarray(found.flatten()).reshape(len(texts), -1)


def expected(table, texts, without=None):
    """The formula, in NumPy."""
    out = np.zeros((len(texts), table.shape[1]), np.float32)
    for i, text in enumerate(texts):
        ids = [t for t in tokenizer().encode(text, add_special_tokens=False).ids if t != without]
        if ids:
            mean = table[ids].mean(axis=0, dtype=np.float32)
            out[i] = mean / np.linalg.norm(mean)
    return out


@pytest.mark.parametrize(("layout", "without"), [("model2vec", 1), ("StaticEmbedding", None)])
def test_they_are_the_formulas(tmp_path, layout, without):
    """model2vec leaves the unknown token out, StaticEmbedding counts it."""
    folder = write_static(tmp_path / "model", layout)
    (table,) = load_file(next(folder.rglob("*.safetensors"))).values()
    found = vectors(StaticEmbeddings(str(folder)), TEXTS)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected(table, TEXTS, without), atol=6e-4)
    assert (found[1] == 0).all() and (found[5] == 0).all() == (without == 1)


def test_they_are_those_of_the_module_of_sentence_transformers(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    folder = write_static(tmp_path / "model", "StaticEmbedding")
    (table,) = load_file(folder / "0_StaticEmbedding" / "model.safetensors").values()
    module = StaticEmbedding(tokenizer(), embedding_weights=table)
    official = SentenceTransformer(modules=[module], device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(vectors(StaticEmbeddings(str(folder)), TEXTS), official, atol=6e-4)


def test_weights_and_a_shared_vocabulary_are_those_of_model2vec(tmp_path):
    """`embeddings[mapping[id]] * weights[id]`, as its StaticModel has it."""
    n = tokenizer().get_vocab_size()
    rng = np.random.default_rng(5)
    mapping, weights = rng.integers(0, 10, n), rng.uniform(0.1, 2, n).astype(np.float32)
    folder = write_static(tmp_path / "model", mapping=mapping, weights=weights)
    table = load_file(folder / "model.safetensors")["embeddings"][mapping] * weights[:, None]
    found = vectors(StaticEmbeddings(str(folder)), TEXTS)
    np.testing.assert_allclose(found, expected(table, TEXTS, 1), atol=6e-4)


@pytest.mark.skipif(find_spec("wordllama") is None, reason="needs pip install 'tamis[embeddings-offline]'")
def test_they_are_those_of_wordllama():
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    feature = StaticEmbeddings()
    _, path, weights = feature._files()
    peer = WordLlamaInference(load_file(weights)["embedding.weight"], Tokenizer.from_file(str(path)))
    texts = [text for text in TEXTS if text]
    official = peer.embed(texts, norm=True)
    found = vectors(feature, [*texts, ""])
    assert found.shape[1] == 256
    assert (found[:-1] == official.astype(np.float16)).mean() > 0.999
    np.testing.assert_allclose(found[:-1], official, atol=2e-4)
    assert (found[-1] == 0).all()


def test_the_name_follows_the_content(tmp_path):
    folder = write_static(tmp_path / "model")
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    assert feature_key(StaticEmbeddings(str(copied))) == feature_key(StaticEmbeddings(str(folder)))
    other = write_static(tmp_path / "other", seed=1)
    assert feature_key(StaticEmbeddings(str(other))) != feature_key(StaticEmbeddings(str(folder)))


def test_what_is_no_model_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no folder '/nowhere/model'"):
        StaticEmbeddings("/nowhere/model").identity()
    with pytest.raises(ConfigError, match=r"lacks tokenizer.json or model.safetensors.*feature embeddings"):
        StaticEmbeddings(str(tmp_path)).identity()
    folder = write_static(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="cannot be read"):
        StaticEmbeddings(str(folder)).load()


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    from safetensors.numpy import save_file

    folder = write_static(tmp_path / "model")
    save_file({"embeddings": np.ones((4, DIMENSION), np.float32)}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="vectors for 4; they belong to different models"):
        StaticEmbeddings(str(folder)).load()
