"""Formats, fields and damage with small literal files: no reference data needed."""

import gzip
import json
import zlib

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tamis.storage.inputs import Allowance, list_inputs
from tamis.storage.readers import ReadOptions, read_records
from tamis.storage.streams import decompressed

LINES = [json.dumps({"id": f"d{i}", "text": f"text {i}"}) + "\n" for i in range(6)]
PLAIN = "".join(LINES).encode()
A, B = PLAIN[:100], PLAIN[100:]  # cut inside a line


@pytest.fixture
def write(tmp_path):
    def file(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return file


@pytest.fixture
def one(read, write):
    """Read one JSON line given as text: its document, or the reason why it is none."""

    def document_or_reason(line, **options):
        documents, bad = read(write("one.jsonl", line + "\n" + LINES[0]), **options)
        assert documents[-1]["doc_id"] == "d0" and documents[-1]["line"] == 2
        return bad[0].reason if bad else documents[0]

    return document_or_reason


def zstd(data, **parameters):
    return zstandard.ZstdCompressor(**parameters).compress(data)


def zstd_stream(data):
    compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return compressor.compress(data) + compressor.flush()


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0skip"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", PLAIN),
        ("no-newline.jsonl", PLAIN[:-1]),
        ("bom-crlf.ndjson", b"\xef\xbb\xbf" + PLAIN.replace(b"\n", b"\r\n")),
        ("members.jsonl.gz", gzip.compress(A, mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(B, mtime=0)),
        ("padded.jsonl.gz", gzip.compress(PLAIN, mtime=0) + bytes(512)),
        ("frames.jsonl.zst", zstd(A) + SKIPPABLE + zstd(b"") + zstd(B)),
        ("skippable-first.jsonl.zst", SKIPPABLE + zstd(PLAIN)),
        ("no-size.jsonl.zst", zstd_stream(PLAIN)),
        ("gzip-named.jsonl.zst", gzip.compress(PLAIN, mtime=0)),
        ("plain-named.json.gz", PLAIN),
        ("zstd-named.jsonl", zstd(PLAIN)),
    ],
)
def test_content_decides_what_unpacks_a_file(read, write, name, content):
    documents, bad = read(write(name, content))
    assert not bad
    assert [(d["doc_id"], d["text"], d["line"]) for d in documents] == [(f"d{i}", f"text {i}", i + 1) for i in range(6)]


def test_long_windows_are_read(read, write):
    big = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=big).compressobj()
    assert len(read(write("w.jsonl.zst", compressor.compress(PLAIN) + compressor.flush()))[0]) == 6


DAMAGED = {
    "gzip without its trailer": (gzip.compress(PLAIN, mtime=0)[:-8], 6, "truncated"),
    "gzip with another trailer": (
        gzip.compress(PLAIN, mtime=0)[:-8] + bytes(8),
        6,
        "the checksum (CRC) of a gzip member",
    ),
    "the same, last line open": (
        gzip.compress(PLAIN[:-1], mtime=0)[:-8] + bytes(8),
        6,
        "the checksum (CRC) of a gzip member",
    ),
    "second member cut": (gzip.compress(A, mtime=0) + gzip.compress(B, mtime=0)[:6], 3, "truncated"),
    "gzip and more": (gzip.compress(PLAIN, mtime=0) + b"garbage", 6, "garbage after the last gzip member"),
    "zstd with another checksum": (zstd_stream(PLAIN)[:-4] + bytes(4), 6, "the checksum (CRC) of a zstd frame"),
    "second frame cut": (zstd(A) + zstd(B)[:-3], 3, "truncated"),
    "second frame broken": (zstd(A) + zstd(B)[:6] + b"\xff\xff\xff\xff", 3, "corrupt"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_before_the_damage_all_is_kept(read, write, case):
    content, n_good, reason = DAMAGED[case]
    documents, (bad,) = read(write("damaged.jsonl", content))
    assert [d["doc_id"] for d in documents] == [f"d{i}" for i in range(n_good)]
    assert bad.line == n_good + 1 and bad.reason.startswith(reason)
    assert bad.raw == A[len("".join(LINES[:n_good])) :]


def test_nothing_is_lost_in_the_piece_where_a_stream_broke(read, write):
    lines = b"".join(b'{"text": "%d"}\n' % (i * i) for i in range(2000))
    compressor = zlib.compressobj(wbits=31)
    content = compressor.compress(lines) + compressor.flush(zlib.Z_SYNC_FLUSH) + b"\x07"  # no such type of block
    documents, (bad,) = read(write("a.jsonl.gz", content))
    assert [d["text"] for d in documents] == [str(i * i) for i in range(2000)]
    assert bad.line == 2001 and bad.reason.startswith("corrupt: a gzip member cannot be decoded further")


def test_a_bomb_is_unpacked_in_bounded_pieces(write):
    path = write("bomb.zst", zstd(bytes(300 << 20)))
    assert path.stat().st_size < 1 << 16
    with path.open("rb") as handle:
        assert max(map(len, decompressed(handle, Allowance(ReadOptions(), 1 << 20)))) <= 64 << 20


@pytest.mark.parametrize("content", ["", "\n \n\r\n\t\n", "\ufeff", gzip.compress(b"", mtime=0), zstd(b""), SKIPPABLE])
def test_nothing_in_a_file_is_no_document_and_no_complaint(read, write, content):
    for name in ["a.jsonl", "a.parquet"] if content == "" else ["a.jsonl"]:
        assert read(write(name, content)) == ([], [])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(number, number) for number in ("7", "-0", "1.50", "123456789012345678901")],
        *[("null", None), ('""', None), ('"é"', "é"), ('"\\u00e9"', "é"), ('"0"', "0")],
    ],
)
def test_ids_are_text(one, value, expected):
    assert one(f'{{"text": "x", "id": {value}}}')["doc_id"] == expected
    assert one('{"text": "x"}')["doc_id"] is None


@pytest.mark.parametrize(("value", "kind"), [("true", "a boolean"), ("[1]", "a list"), ("{}", "an object")])
def test_an_id_of_another_type_costs_the_record(one, value, kind):
    assert one(f'{{"text": "x", "id": {value}}}') == f'"id" is {kind}, expected a string or a number'


@pytest.mark.parametrize(
    ("fields", "meta"),
    [
        ("", None),
        (', "meta": {}', None),
        (', "meta": { }', None),
        (', "meta": null', None),
        (
            ', "meta": {"n": 123456789012345678901234567890, "x": 1.50}',
            '{"n": 123456789012345678901234567890, "x": 1.50}',
        ),
        (', "meta": {"a": 1, "b": 2}, "b": 3, "c": null', '{"a":1,"b":3,"c":null}'),
        (', "meta": [1]', '{"meta":[1]}'),
        (', "meta": null, "c": 1e400', '{"c":1e400}'),
        (', "": 1', '{"":1}'),
        (', "meta": {"s": "\\ud83d"}', '{"s": "\\ufffd"}'),
        (', "meta": {"s": "\\ud83d\\ude00 \\\\ud83d"}', '{"s": "\\ud83d\\ude00 \\\\ud83d"}'),
    ],
)
def test_meta_is_all_the_rest_verbatim(one, fields, meta):
    found = one(f'{{"id": "a", "text": "x"{fields}}}')
    assert (found["meta"], found["repaired"]) == (meta, False)


def test_a_source_that_is_no_label_stays_in_meta(one):
    assert [one(f'{{"text": "", "source": {v}}}')["source"] for v in ('"web"', "3", "null")] == ["web", "3", None]
    found = one('{"text": "", "source": ["a"], "meta": {"k": 1}}')
    assert (found["source"], found["meta"]) == (None, '{"k":1,"source":["a"]}')


def test_fields_may_have_other_names_and_lie_deeper(read, write):
    line = '{"doc": {"body": "x", "n": 1}, "meta": {"key": "k", "url": "u"}, "a.b": "s"}\n'
    (found,), bad = read(write("a.jsonl", line), text="doc.body", id="meta.key", source="a.b")
    assert not bad
    assert found | {"meta": json.loads(found["meta"])} == {
        "doc_id": "k", "text": "x", "source": "s", "meta": {"url": "u", "doc": {"n": 1}}, "line": 1, "repaired": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        ("\\ud83d", "\ufffd"),
        ("\\udc00\\ud83d", "\ufffd\ufffd"),
        ("\\ud83d\\ud83d\\ude00", "\ufffd\U0001f600"),
        ("\\uD83Dx\\\\ud800", "\ufffdx\\ud800"),
        ("\\udfff\\u0000", "\ufffd\0"),
    ],
)
def test_lone_surrogates_are_repaired_one_by_one(one, escaped, text):
    found = one(f'{{"text": "{escaped}", "meta": {{"n": 1.50}}}}')
    assert (found["text"], found["repaired"], found["meta"]) == (text, True, '{"n": 1.50}')
    assert one(f'{{"text": "", "id": "{escaped}"}}')["repaired"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a"', "not JSON: the line ends before the value is complete, at byte 12"),
        ('{"text": "a",}', "not JSON: trailing comma in object at byte 13"),
        ('{"text": "a\tb"}', "not JSON: invalid character at byte 11"),
        ('{"text": "a", "x": [1, -Infinity]}', "not JSON: -Infinity has no place"),
        ('{"text": "\\ud800", "x": NaN}', "not JSON: NaN has no place"),
        ('{"id": 1, "a b": 2}', '"text" is missing; the record has "id", "a b"'),
        ("{}", '"text" is missing; the record has no fields'),
        ('{"text": ["a"]}', '"text" is a list, expected a string'),
        ("[1]", "the line is a list, expected an object"),
        ('{"text": "", "m": ' + "[" * 300 + "]" * 300 + "}", "nested deeper than 256 levels"),
        ('{"text": "", "m": ' + '{"a":' * 90_000 + "1" + "}" * 90_000 + "}", "nested deeper than 256 levels"),
        ('{"text": "", "m": ' + "9" * 5000 + ', "n": NaN}', "not JSON: NaN"),
    ],
)
def test_a_bad_line_costs_itself_and_says_why(one, line, reason):
    assert one(line).startswith(reason)


def test_brackets_in_strings_are_not_depth(one):
    assert one(json.dumps({"text": "", "m": '["{' * 300}))["text"] == ""


def test_a_few_control_characters_cost_their_line_and_binary_costs_the_file(read, write):
    documents, bad = read(write("a.jsonl", b"\1\2\3\4\5\6\7\n" + PLAIN[: len(LINES[0])]))
    assert len(documents) == 1 and [b.line for b in bad] == [1]
    _, (bad,) = read(write("b.jsonl", bytes(range(32)) * 4))
    assert bad.line is None and bad.reason.startswith("binary data")
    _, (bad,) = read(write("c.jsonl", b"PK\x03\x04" + bytes(99)))
    assert "a zip archive" in bad.reason


def test_one_array_on_one_line_is_one_bad_line(read, write):
    _, (bad,) = read(write("a.json", '[{"text": "a"}, {"text": "b"}]\n'))
    assert (bad.line, bad.reason) == (1, "the line is a list, expected an object")
    _, (bad,) = read(write("b.json", '[\n{"text": "a"},\n{"text": "b"}\n]\n'))
    assert bad.line is None and "an object a line" in bad.reason


def test_batches_are_bounded_and_a_long_document_is_its_own(write):
    texts = ["a" * 400, "b" * 400, "c" * 5000, "d" * 10, "e" * 10]
    path = write("a.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in texts))
    (file,) = list_inputs([path.name], path.parent)
    batches = [b.column("text").to_pylist() for b in read_records(file, ReadOptions(batch_bytes=1000))]
    assert batches == [texts[:2], texts[2:3], texts[3:]]


def test_a_line_over_the_limit_costs_itself(read, write):
    content = LINES[0] + json.dumps({"text": "x" * 3_000_000}) + "\n" + LINES[1]
    documents, (bad,) = read(write("a.jsonl", content), max_record_bytes=1_000_000)
    assert [(d["doc_id"], d["line"]) for d in documents] == [("d0", 1), ("d1", 3)]
    assert bad.line == 2 and "max_record_bytes (1,000,000)" in bad.reason and len(bad.raw) == 4096
    exact = len(LINES[0]) - 1
    assert len(read(write("b.jsonl", LINES[0]), max_record_bytes=exact)[0]) == 1
    assert len(read(write("b.jsonl", LINES[0]), max_record_bytes=exact - 1)[0]) == 0


META = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.tuples(st.text(), st.dictionaries(st.text(max_size=5), META, max_size=3)), max_size=8)
PACKINGS = {"plain": bytes, "gzip": gzip.compress, "zstd": zstd, "zstd stream": zstd_stream}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=RECORDS, packing=st.sampled_from(sorted(PACKINGS)), escape=st.booleans(), data=st.data())
def test_what_was_written_is_read(read, write, records, packing, escape, data):
    ends = st.sampled_from(["\n", "\r\n", "\n \n"])
    lines = [{"text": t, "id": f"{i}.", "meta": m} for i, (t, m) in enumerate(records)]
    whole = "".join(json.dumps(line, ensure_ascii=escape) + data.draw(ends) for line in lines).encode()
    cut = data.draw(st.integers(0, len(whole)))
    parts = [whole] if packing == "plain" else [whole[:cut], whole[cut:]]
    path = write("any.jsonl", b"".join(map(PACKINGS[packing], parts)))
    documents, bad = read(path, batch_bytes=data.draw(st.sampled_from([1, 99, 9999])))
    assert not bad
    assert [(d["text"], d["doc_id"], json.loads(d["meta"] or "{}")) for d in documents] == [
        (t, f"{i}.", m) for i, (t, m) in enumerate(records)
    ]
