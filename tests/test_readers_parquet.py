"""Parquet: every shape of column, one giant row group, and damage that costs a row or a row group."""

import datetime
import decimal
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tamis.storage.inputs import Record, list_inputs
from tamis.storage.parquet_rows import _columns_of, _record_or_bad, _rows
from tamis.storage.readers import ReadOptions, read_records


@pytest.fixture
def write(tmp_path):
    def file(columns, name="a.parquet", **options):
        pq.write_table(pa.table(columns), tmp_path / name, **options)
        return tmp_path / name

    return file


STRING_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()]


@pytest.mark.parametrize("kind", [*STRING_TYPES, pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_text_of_any_string_type(read, write, kind):
    documents, bad = read(write({"text": pa.array(["é", "", None, "é"], kind)}))
    assert [(d["text"], d["line"], d["doc_id"]) for d in documents] == [("é", 1, None), ("", 2, None), ("é", 4, None)]
    assert [(b.line, b.reason) for b in bad] == [(3, '"text" is null, expected a string')]


def test_the_suffix_does_not_matter(read, write):
    assert len(read(write({"text": ["a"]}, "a.jsonl"))[0]) == 1
    path = write({"text": ["a"]}, "b.parquet")
    path.write_text('{"text": "a"}\n')
    assert [b.reason for b in read(path)[1]] == ['not Parquet: it does not begin with "PAR1"']
    assert len(read(path, format="jsonl")[0]) == 1


def test_fields_and_nested_meta(read, write):
    meta = {
        "text": "t",
        "at": datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "price": decimal.Decimal("1.50"),
        "raw": b"\xff",
        "tags": ["a", None],
    }
    source = pa.array([7], pa.int32())
    columns = {"meta": [meta], "key": [2**63 - 1], "from": source, "x": [float("nan")], "price": [None]}
    (found,), bad = read(write(columns), text="meta.text", id="key", source="from")
    assert not bad and found["text"] == "t" and found["doc_id"] == "9223372036854775807" and found["source"] == "7"
    assert json.loads(found["meta"]) == {
        "at": "2020-01-02T03:04:05Z", "price": None, "raw": "/w==", "tags": ["a", None], "x": None,
    }  # fmt: skip


def test_no_other_column_is_no_meta(read, write):
    assert read(write({"text": ["a"], "id": ["b"]}))[0][0]["meta"] is None
    assert read(write({"text": ["a"], "meta": pa.array([None], pa.struct([("a", pa.int8())]))}))[0][0]["meta"] is None


def test_a_source_that_is_no_label_stays_in_meta(read, write):
    (found,), _ = read(write({"text": ["a"], "source": [["b"]]}))
    assert (found["source"], found["meta"]) == (None, '{"source":["b"]}')


def test_times_finer_than_pythons_are_cut(read, write):
    columns = {"text": ["a"], "t": pa.array([1_000_000_001], pa.timestamp("ns", "Europe/Paris"))}
    nested = pa.array([[{"t": 1}]], pa.list_(pa.struct([("t", pa.duration("ns"))])))
    (found,), bad = read(write(columns | {"n": nested}, store_schema=True))
    assert not bad and json.loads(found["meta"]) == {"t": "1970-01-01T00:00:01Z", "n": [{"t": "P0D"}]}


def test_a_value_that_python_cannot_hold_costs_its_row(read, write):
    not_utf8 = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff"))
    documents, (bad,) = read(write({"text": not_utf8}))
    assert [d["text"] for d in documents] == ["a"] and (bad.line, bad.reason) == (2, "invalid UTF-8 at byte 0")
    documents, (bad,) = read(write({"text": ["a", "b"], "t": pa.array([10**17, 0], pa.timestamp("ms"))}))
    assert (
        [d["text"] for d in documents] == ["b"] and bad.line == 1 and bad.reason.startswith("a value cannot be read: ")
    )


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"body": ["a"]}, 'no column "text"; the file has "body" (string): name the one that holds the text'),
        ({"text": [["a"]]}, 'column "text" is list<element: string>, expected strings; the file has'),
        ({"text": ["a"], "id": [True]}, 'column "id" is bool, expected strings or numbers'),
    ],
)
def test_columns_of_no_use_cost_the_file_once(read, write, columns, reason):
    documents, (bad,) = read(write(columns))
    assert not documents and bad.line is None and bad.reason.startswith(reason)


def test_a_broken_row_group_does_not_cost_the_next(read, write):
    path = write({"text": [f"{i:06}" for i in range(9000)]}, row_group_size=3000, use_dictionary=False)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start + 200 : start + 260] = bytes(60)
    path.write_bytes(content)
    documents, (bad,) = read(path)
    assert [d["line"] for d in documents] == [*range(1, 3001), *range(6001, 9001)]
    assert bad.line == 3001 and bad.reason.startswith(
        "rows 3,001 to 6,000, the rest of row group 2, cannot be decoded: "
    )


def test_a_giant_row_group_is_read_in_bounded_memory(read, write):
    n_rows, text = 40_000, "0123456789abcdef" * 128
    path = write({"text": [f"{i} {text}" for i in range(n_rows)]}, row_group_size=n_rows, use_dictionary=False)
    assert pq.read_metadata(path).num_row_groups == 1
    before, most, n_read = pa.total_allocated_bytes(), 0, 0
    for batch in read_records(*list_inputs([path.name], path.parent), ReadOptions(batch_bytes=1 << 20)):
        most = max(most, pa.total_allocated_bytes() - before)
        n_read += batch.num_rows
    assert n_read == n_rows and most < 24 << 20  # of 82 MB


def test_a_text_over_the_limit_costs_its_row(read, write):
    documents, (bad,) = read(write({"text": ["é" * 60, "é" * 50]}), max_record_bytes=100)
    assert [d["line"] for d in documents] == [2] and bad.line == 1 and "max_record_bytes" in bad.reason


def test_a_meta_column_of_json_objects_is_an_object(read, tmp_path):
    texts = ['{"n": 123456789012345678901, "s": "x"}', "{}", "{broken", "plain", None]
    pq.write_table(pa.table({"text": ["t"] * 5, "meta": texts}), tmp_path / "m.parquet")
    documents, _ = read(tmp_path / "m.parquet")
    found = [d["meta"] for d in documents]
    assert found[:2] == ['{"n":123456789012345678901,"s":"x"}', None]
    assert [json.loads(m) for m in found[2:4]] == [{"meta": "{broken"}, {"meta": "plain"}]
    assert found[4] is None


WORDS = ["", "a", "é\n", None]
KINDS = [
    ("text", pa.string(), st.sampled_from(["", "x", "é"])),
    ("text", pa.large_string(), st.sampled_from(WORDS)),
    ("text", pa.dictionary(pa.int8(), pa.string()), st.sampled_from(WORDS[:3])),
    *[("id", kind, st.sampled_from(WORDS)) for kind in (pa.string(), pa.large_string())],
    *[("id", kind, st.sampled_from([0, -7, None])) for kind in (pa.int8(), pa.int64(), pa.float32())],
    ("id", pa.uint64(), st.sampled_from([0, 2**64 - 1])),
    ("source", pa.string(), st.sampled_from(WORDS)),
    ("source", pa.int32(), st.sampled_from([3, None])),
    ("source", pa.bool_(), st.booleans()),
    ("meta", pa.string(), st.sampled_from(['{"a": 1}', '{"b":', "x", "{}", None])),
    ("meta", pa.struct([("b", pa.int64()), ("source", pa.string())]), st.just({"b": 1, "source": None}) | st.none()),
    ("b", pa.timestamp("ns", "Europe/Paris"), st.sampled_from([0, 10**18])),
    ("b", pa.date32(), st.sampled_from([0, -800_000, None])),  # before year 1
]


@settings(deadline=None)
@given(data=st.data())
def test_columns_are_what_their_rows_are(data):
    chosen = data.draw(st.lists(st.sampled_from(KINDS), unique_by=lambda kind: kind[0]))
    chosen += [KINDS[0]] * all(name != "text" for name, _, _ in chosen)
    n_rows = data.draw(st.integers(1, 4))
    arrays = [pa.array([data.draw(values) for _ in range(n_rows)], kind) for _, kind, values in chosen]
    batch = pa.RecordBatch.from_arrays(arrays, [name for name, _, _ in chosen])
    options = data.draw(st.sampled_from([ReadOptions(), ReadOptions(max_record_bytes=1), ReadOptions(source="b")]))
    rows = [_record_or_bad("a", line, row, options) for line, row in enumerate(_rows(batch), 5)]
    found = _columns_of(batch, 5, options)
    if found is not None:
        found.validate(full=True)
        assert [Record(**row) for row in found.to_pylist()] == rows


def test_ordinary_columns_make_no_objects_of_texts():
    batch = pa.record_batch({"text": ["a", ""], "id": ["", None], "source": pa.array([1, None]), "url": ["u", "v"]})
    assert _columns_of(batch, 1, ReadOptions()).to_pylist() == [
        {"doc_id": None, "text": "a", "source": "1", "meta": '{"url":"u"}', "line": 1, "repaired": False},
        {"doc_id": None, "text": "", "source": None, "meta": '{"url":"v"}', "line": 2, "repaired": False},
    ]
    assert _columns_of(pa.record_batch({"text": ["a", None]}), 1, ReadOptions()) is None
    bad = pa.array([b"a", b"\xff"]).view(pa.string())
    assert _columns_of(pa.record_batch({"text": bad}), 1, ReadOptions()) is None
