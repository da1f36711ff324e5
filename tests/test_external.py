"""A user's scores by document id: found by id alone, null where there are none, and every misfit said at the door."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tamis.features.external import External
from tamis.pipelines.config import FeatureEntry
from tamis.pipelines.plugins import make_feature
from tamis.pipelines.rules import compile_rules
from tamis.storage.errors import ConfigError
from tamis.storage.external_scores import ScoreTable, find_rows


@pytest.fixture
def scores(tmp_path):
    """Write one file of scores; return its path."""

    def write(columns, name="scores.parquet", **options):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
        return str(path)

    return write


def batch_of(ids):
    return pa.record_batch({"doc_id": pa.array(ids, pa.string())})


def looked_up(feature, ids):
    found = feature.compute(batch_of(ids), feature.load())
    assert found.schema == feature.columns
    found.validate(full=True)
    return found.to_pydict()


def refused(act):
    with pytest.raises(ConfigError) as caught:
        act()
    return str(caught.value)


def test_a_document_finds_its_scores(scores):
    path = scores({"id": ["a", "b", "c"], "quality": [0.1, None, 0.3], "label": ["x", "y", "z"]})
    found = looked_up(External((path,)), ["c", "nobody", "a", "b", "a", ""])
    assert found == {"quality": [0.3, None, 0.1, None, 0.1, None], "label": ["z", None, "x", "y", "x", None]}


def test_several_files_are_one_table(scores):
    scores({"id": ["a"], "quality": [1.0]}, "one.parquet")
    last = scores({"quality": [2.0], "id": ["b"]}, "two.parquet")
    feature = External((last.replace("two", "*"),))
    assert looked_up(feature, ["b", "a"]) == {"quality": [2.0, 1.0]}


def test_columns_are_chosen_and_ordered_by_values(scores):
    path = scores({"a": [1], "id": ["x"], "b": [2], "c": [3]})
    assert looked_up(External((path,)), ["x"]) == {"a": [1], "b": [2], "c": [3]}
    assert looked_up(External((path,), values=("c", "a")), ["x"]) == {"c": [3], "a": [1]}
    assert looked_up(External((path,), join="a", values=("id",)), ["1"]) == {"id": ["x"]}


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()])
def test_whole_numbers_are_text_as_in_a_corpus(scores, kind):
    path = scores({"id": pa.array([7, 12], kind), "q": [1, 2]})
    assert looked_up(External((path,)), ["12", "7", "07", "7.0"]) == {"q": [2, 1, None, None]}


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["é", "b"], pa.large_string()),
        pa.array(["é", "b"]).dictionary_encode(),
        pa.array(["é", "b"], pa.string_view()),
    ],
)
def test_every_encoding_of_text_is_text(scores, ids):
    path = scores({"id": ids, "label": ids})
    feature = External((path,))
    assert feature.columns == pa.schema([("label", pa.large_string())])
    assert looked_up(feature, ["b", "é", "e\u0301"]) == {"label": ["b", "é", None]}


def test_values_of_any_type_come_through(scores):
    values = {"flag": [True], "tags": [["a", "b"]], "pair": [{"x": 1}], "n": pa.array([5], pa.uint8())}
    path = scores({"id": ["a"], **values})
    assert looked_up(External((path,)), ["a", "b"]) == {
        "flag": [True, None], "tags": [["a", "b"], None], "pair": [{"x": 1}, None], "n": [5, None],
    }  # fmt: skip


def test_an_empty_table_and_an_empty_batch(scores):
    path = scores(pa.schema([("id", pa.string()), ("q", pa.float64())]).empty_table())
    assert looked_up(External((path,)), ["a"]) == {"q": [None]}
    assert looked_up(External((path,)), []) == {"q": []}


IDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=4), unique=True, max_size=20)


@given(IDS, st.lists(st.text(st.characters(codec="utf-8"), max_size=4), max_size=10), st.integers(0, 20), st.randoms())
@settings(max_examples=40, deadline=None)
def test_lookup_is_that_of_a_dictionary(tmp_path_factory, ids, others, cut, random):
    folder = tmp_path_factory.mktemp("scores")
    for number, piece in enumerate([ids[:cut], ids[cut:]]):
        rows = pa.table(
            {"id": pa.array(piece, pa.string()), "place": pa.array([ids.index(i) for i in piece], pa.int64())}
        )
        pq.write_table(rows, folder / f"{number}.parquet")
    asked = [*ids, *others]
    random.shuffle(asked)
    known = {doc_id: place for place, doc_id in enumerate(ids)}
    assert looked_up(External((f"{folder}/*.parquet",)), asked) == {"place": [known.get(i) for i in asked]}


def test_ids_with_the_same_hash_are_told_apart():
    """No two short texts are known to collide, so the table is made as if all did."""
    (key,) = find_key("asked")
    table = ScoreTable(
        np.array([key] * 3, np.uint64), pa.array(["other", "asked", "third"], pa.large_string()), pa.table({})
    )
    assert find_rows(table, pa.array(["asked", "nobody"])).to_pylist() == [1, None]
    only_others = ScoreTable(
        np.array([key] * 2, np.uint64), pa.array(["other", "third"], pa.large_string()), pa.table({})
    )
    assert find_rows(only_others, pa.array(["asked"])).to_pylist() == [None]


def find_key(doc_id):
    from xxhash import xxh3_64_intdigest

    return [xxh3_64_intdigest(doc_id.encode())]


def test_identity_follows_the_content(scores):
    path = scores({"id": ["a"], "q": [1.0]})
    feature = External((path,))
    with open(path, "rb") as stream:
        assert feature.identity() == {"files": [hashlib.sha256(stream.read()).hexdigest()]}
    before = feature.identity()
    scores({"id": ["a", "b"], "q": [1.0, 2.0]})
    assert feature.identity() != before


def test_it_is_made_from_its_entry(scores, tmp_path):
    scores({"doc": ["a"], "q": [0.5]}, "below/scores.parquet")
    entry = FeatureEntry.model_validate(
        {"use": "external", "files": ["below/*.parquet"], "join": "doc", "values": ["q"]}
    )
    feature = make_feature("mine", entry, tmp_path)
    assert feature == External((f"{tmp_path}/below/*.parquet",), "doc", ("q",))
    assert hash(feature) == hash(External([f"{tmp_path}/below/*.parquet"], "doc", ["q"]))
    assert looked_up(feature, ["a"]) == {"q": [0.5]}
    one = FeatureEntry.model_validate({"use": "external", "files": "below/scores.parquet", "join": "doc"})
    assert looked_up(make_feature("mine", one, tmp_path), ["a"]) == {"q": [0.5]}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"files": ["scores.parquet"], "joined": "id"}, "unknown parameter 'joined'; did you mean 'join'?"),
        ({"files": ["scores.parquet"], "columns": ["q"]}, "unknown parameter 'columns'"),
        ({}, "files: "),
        ({"files": ["scores.parquet"], "values": "q"}, "values: "),
    ],
)
def test_a_wrong_entry_names_the_parameter(tmp_path, parameters, expected):
    entry = FeatureEntry.model_validate({"use": "external", **parameters})
    message = refused(lambda: make_feature("mine", entry, tmp_path))
    assert message.startswith("features.mine: ") and expected in message


def test_rules_are_checked_against_the_footer(scores):
    feature = External((scores({"id": ["a"], "quality": [0.1]}),))
    (rule,) = compile_rules({"good": "mine.quality > 0.5"}, {"mine": feature.columns})
    assert rule.columns == (("mine", "quality"),)
    message = refused(lambda: compile_rules({"good": "mine.qualty > 0.5"}, {"mine": feature.columns}))
    assert "did you mean 'mine.quality'?" in message


@pytest.mark.parametrize("ids", [["a", "b", "a"], ["b", "a", "c", "a", "d"]])
def test_a_repeated_id_is_named(scores, ids):
    path = scores({"id": ids, "q": list(range(len(ids)))})
    assert "the id 'a' stands in two rows" in refused(External((path,)).load)


def test_a_repeated_id_in_another_file_is_named(scores):
    first, second = (scores({"id": ["a", name], "q": [1, 2]}, f"{name}.parquet") for name in "xy")
    assert "the id 'a' stands in two rows" in refused(External((first, second)).load)
    assert looked_up(External((first, first)), ["a", "x"]) == {"q": [1, 2]}


def test_a_row_without_an_id_is_refused(scores):
    path = scores({"id": ["a", None], "q": [1, 2]})
    assert "1 rows have no id" in refused(External((path,)).load)


def test_a_missing_file_is_refused(tmp_path):
    feature = External((str(tmp_path / "none-*.parquet"),))
    for act in (lambda: feature.columns, feature.identity, feature.load):
        assert "matches no file" in refused(act)
    assert "`files` is empty" in refused(lambda: External(()).columns)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"join": "doc_idd"}, "no column 'doc_idd' to join by; did you mean 'doc_id'?"),
        ({"join": "doc_id", "values": ("qualty",)}, "no column 'qualty' beside its ids; did you mean 'quality'?"),
        ({"join": "doc_id", "values": ("doc_id",)}, "no column 'doc_id' beside its ids"),
        ({"join": "doc_id", "values": ()}, "no columns beside 'doc_id'"),
        ({"join": "quality"}, "the ids in column 'quality' are double, expected text or whole numbers"),
    ],
)
def test_a_wrong_column_is_refused_with_the_nearest(scores, options, expected):
    path = scores({"doc_id": ["a"], "quality": [0.1]})
    feature = External((path,), **options)
    assert expected in refused(lambda: feature.columns)
    assert expected in refused(feature.load)


def test_a_file_of_ids_alone_is_refused(scores):
    path = scores({"id": ["a"]})
    assert "no columns beside 'id', expected at least one score" in refused(lambda: External((path,)).columns)


def test_files_that_differ_are_refused(scores):
    first = scores({"id": ["a"], "q": [1.0]}, "a.parquet")
    other_type = scores({"id": ["b"], "q": ["high"]}, "b.parquet")
    other_name = scores({"id": ["b"], "quality": [1.0]}, "c.parquet")
    other_join = scores({"doc": ["b"], "q": [1.0]}, "d.parquet")
    assert "is large_string, expected double as in" in refused(lambda: External((first, other_type)).columns)
    assert "c.parquet\" has no column 'q'" in refused(lambda: External((first, other_name)).columns)
    assert "d.parquet\" has no column 'id' to join by" in refused(lambda: External((first, other_join)).columns)


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    path = tmp_path / "scores.parquet"
    path.write_text("id,q\n1,2\n")
    assert "cannot be read as Parquet" in refused(lambda: External((str(path),)).columns)


def test_a_truncated_file_is_refused(scores, tmp_path):
    path = tmp_path / "scores.parquet"
    scores({"id": [str(i) for i in range(50_000)], "q": np.arange(50_000) * 0.1}, compression="none")
    data = path.read_bytes()
    damaged = data[:1000] + bytes(100_000) + data[101_000:]
    path.write_bytes(damaged)
    message = refused(External((str(path),)).load)
    assert "cannot be read as Parquet" in message or "stands in two rows" in message
