"""What every feature keeps to, whatever it measures; a new one is examined here without a line of its own.

A feature that cannot be made without parameters gets them in `MADE`; its numbers are pinned in `PINNED`, those of a
language model, whose last digits follow the processor, in `data/numbers_of_models.json`.
"""

import copy
import hashlib
import json
import pickle
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest import approx
from tamis.features.base import Feature
from tamis.features.registry import REGISTRY
from tamis.pipelines.measuring import feature_key, feature_recipe
from tamis.storage.schema import DOCUMENT
from tiny_model import write_causal, write_static, write_transformer
from xxhash import xxh3_64_intdigest

# Signs that Unicode has had for long, so that the pinned numbers do not follow a new table of it.
TEXTS = [
    "The cat sat on the mat. The cat sat on the mat.\n",
    "",
    "a",
    " \n\t\n",
    "def f(x):\n    return x + 1  # 2 + 2\n\n\ndef g(x):\n    return f(f(x))\n",
    "Ça va ? Déjà vu — naïve café, œuvre.\nÜber Straße: ÄÖÜ ß.",
    "Быстрая лиса. 東京は日本の首都です。 שלום עולם",
    "- one\n- two\n- two\n* three...\n1,000.50 #tag @you {x} https://example.org/?q=1",
    "lorem ipsum " * 60,
    "x" * 3000,
    "Read our privacy policy.\n" * 4 + "And then, a sentence that ends here.",
    "\u0130stanbul ΟΔΟΣ e\u0301 \U0001f600\U0001f600 \x00\x07",
]

MADE = {
    "embeddings": lambda folder: {
        "model": _model(folder / "transformer", write_transformer),
        "precision": "fp32",
        "device": "cpu",
    },
    "external": lambda folder: {"files": (_scores(folder),)},
    "losses": lambda folder: {
        "model": _model(folder / "causal", write_causal),
        "stride": 16,
        "min_k": 0.2,
        "precision": "fp32",
        "device": "cpu",
    },
    "static_embeddings": lambda folder: {"model": _model(folder / "static", write_static)},
}

#: Feature: its version, and the digest of its numbers for the documents above. New numbers need a new version.
PINNED = {
    "compression": (1, "38b9a34072ff9967"),
    "external": (1, "2c6f3c94ecb1d9db"),
    "minhash": (1, "8592f4c9a251eab9"),
    "ngrams": (1, "6663750583e4a14f"),
    "static_embeddings": (1, "80f01199b84d9ef9"),
    "text_stats": (2, "9d1e2cffb68d6f32"),
    "tokens": (1, "ab4796a9de67815c"),
}


def _scores(folder):
    path = folder / "scores.parquet"
    ids = [f"doc-{i}" for i in (4, 0, 2, 99)]
    pq.write_table(pa.table({"id": ids, "quality": [0.25, None, -1.0, 9.0], "label": ["a", "b", None, "c"]}), path)
    return str(path)


def _model(folder, write):
    return str(folder if folder.exists() else write(folder))


def documents(texts=TEXTS):
    """A batch with all columns of a document."""
    ids = [f"doc-{i}" for i in range(len(texts))]
    data = [text.encode() for text in texts]
    columns = {
        "doc_id": ids,
        "doc_key": [xxh3_64_intdigest(i.encode()) for i in ids],
        "text": texts,
        "source": ["web" if i % 3 else None for i in range(len(texts))],
        "meta": ['{"n": 1}' if i % 2 else None for i in range(len(texts))],
        "file": ["crawl.jsonl"] * len(texts),
        "line": list(range(1, len(texts) + 1)),
        "n_bytes": [len(one) for one in data],
        "text_hash": [hashlib.sha256(one).digest()[:16] for one in data],
        "repaired": [False] * len(texts),
    }
    return pa.RecordBatch.from_pydict(columns, schema=DOCUMENT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module", params=REGISTRY.names())
def kind(request):
    return REGISTRY.find(request.param)


@pytest.fixture(scope="module")
def feature(kind, folder):
    return kind(**MADE.get(kind.name, lambda folder: {})(folder))


@pytest.fixture(scope="module")
def model(feature):
    return feature.load()


@pytest.fixture(scope="module")
def whole(feature, model):
    """The numbers of all documents, and the batch that `compute` was given: the columns that it reads and no other."""
    batch = documents().select(list(feature.reads))
    return batch, feature.compute(batch, model)


def rows(batch):
    """Values that can be compared: NaN is equal to itself."""
    return [repr(row) for row in batch.to_pylist()]


def test_it_is_a_frozen_dataclass(kind):
    assert issubclass(kind, Feature) and is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


def test_name_version_cost_and_reads_are_declared(kind):
    assert REGISTRY.find(kind.name) is kind
    assert isinstance(kind.version, int) and kind.version >= 1
    assert kind.cost in (0, 1, 2, 3)
    assert kind.reads and set(kind.reads) <= set(DOCUMENT.names)


def test_the_docstring_says_what_it_is(kind):
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")
    assert kind.__doc__.strip().split("\n")[0].rstrip().endswith(".")


def test_a_parameter_has_a_default_or_is_in_the_docstring(kind):
    for field in fields(kind):
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        assert has_default or f"`{field.name}`" in kind.__doc__


def test_it_can_be_copied_sent_and_used_as_a_key(feature):
    assert copy.deepcopy(feature) == feature == pickle.loads(pickle.dumps(feature))
    assert hash(copy.deepcopy(feature)) == hash(feature)


def test_it_says_whether_it_is_stored(feature):
    assert isinstance(feature.stored, bool)


def test_parameters_without_numbers_are_not_in_the_key(feature):
    assert set(feature.no_numbers) <= {field.name for field in fields(feature)}
    assert not set(feature.no_numbers) & set(feature_recipe(feature)["parameters"])


def test_identity_is_json_and_names_the_numbers(feature):
    identity = feature.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert feature_key(feature) == feature_key(copy.deepcopy(feature))


def test_the_result_has_the_declared_columns_and_a_row_a_document(feature, whole):
    batch, found = whole
    assert isinstance(found, pa.RecordBatch)
    assert found.schema.equals(feature.columns, check_metadata=True)
    assert found.num_rows == batch.num_rows
    found.validate(full=True)
    for field in found.schema:
        assert field.nullable or found.column(field.name).null_count == 0


def test_the_same_again(feature, model, whole):
    batch, found = whole
    assert rows(feature.compute(batch, model)) == rows(found)
    assert rows(feature.compute(batch, feature.load())) == rows(found)


def test_the_input_is_left_as_it_was(feature, model):
    batch = documents().select(list(feature.reads))
    feature.compute(batch, model)
    assert batch.equals(documents().select(list(feature.reads)))


def test_a_row_depends_on_its_document_alone(feature, model, whole):
    batch, found = whole
    alone = [rows(feature.compute(batch.slice(i, 1), model))[0] for i in range(batch.num_rows)]
    assert alone == rows(found)


def test_rows_keep_their_order(feature, model, whole):
    batch, found = whole
    order = [7, 0, 11, 3, 3, 1, 10, 5, 2]
    assert rows(feature.compute(batch.take(pa.array(order)), model)) == [rows(found)[i] for i in order]


@pytest.mark.parametrize(("start", "length"), [(1, 5), (3, 9), (11, 1), (2, 4)])
def test_a_slice_counts_its_own_rows(feature, model, whole, start, length):
    """A slice shares its buffers with the batch: offsets do not begin at 0."""
    batch, found = whole
    sliced = feature.compute(batch.slice(start, length), model)
    sliced.validate(full=True)
    assert rows(sliced) == rows(found)[start : start + length]


def test_no_documents_have_no_numbers(feature, model):
    for batch in (documents().slice(0, 0), documents([]), documents().slice(5, 0)):
        found = feature.compute(batch.select(list(feature.reads)), model)
        assert found.schema.equals(feature.columns) and found.num_rows == 0


def test_other_columns_change_nothing(feature, model, whole):
    assert rows(feature.compute(documents(), model)) == rows(whole[1])


def test_the_numbers_are_those_of_the_version(feature, whole):
    if feature.cost == 3:
        return same_but_for_the_processor(feature, whole[1])
    now = (feature.version, hashlib.sha256("\n".join(rows(whole[1])).encode()).hexdigest()[:16])
    assert PINNED.get(feature.name) == now, (
        f"the numbers of {feature.name} are not those pinned: where they are meant to differ, raise its version, "
        f'and write "{feature.name}": {now}'
    )


def same_but_for_the_processor(feature, batch):
    """A language model's sums end in other digits where vectors are of another width: two units of float16 apart."""
    pinned = json.loads((Path(__file__).parent / "data" / "numbers_of_models.json").read_text())[feature.name]
    assert feature.version == pinned["version"]
    found = batch.to_pylist()
    assert len(found) == len(pinned["rows"])
    for now, then in zip(found, pinned["rows"], strict=True):
        assert now == {name: approx(value, rel=1e-3, abs=2e-4, nan_ok=True) for name, value in then.items()}
