"""Raw files that are made to fill the memory or the disk: each is read up to a stated limit, and says so."""

import gc
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
import zstandard
from small_flow import make_case
from tamis.storage import inputs, parquet_pages
from tamis.storage.inputs import MOST_NAME_BYTES, Allowance, ReadOptions, list_inputs
from tamis.storage.readers import BadRecord, read_records

LINE = b'{"text": "%s"}\n' % (b"a" * 1000)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(inputs, "FREE_BYTES", 1 << 20)


def zstd(data):
    return zstandard.ZstdCompressor().compress(data)


def gzip_of(data):
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize("pack", [zstd, gzip_of], ids=["zstd", "gzip"])
def test_a_file_that_unpacks_to_too_much_is_read_up_to_the_limit(read, tmp_path, pack):
    path = tmp_path / "a.jsonl"
    path.write_bytes(pack(LINE * 4000))
    documents, (bad,) = read(path, max_ratio=20)
    assert 1000 < len(documents) < 1100 and bad.line == len(documents) + 1
    assert bad.reason.startswith("it unpacks to more than 1,048,576 bytes (max_ratio of the corpus)")
    assert len(read(path, max_ratio=10**6)[0]) == 4000
    documents, (bad,) = read(path, max_ratio=10**6, max_unpacked_bytes=1 << 21)
    assert 2000 < len(documents) < 2100 and "2,097,152 bytes (max_unpacked_bytes of" in bad.reason


def test_many_members_are_counted_together(read, tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip_of(LINE * 100) * 40)
    documents, (bad,) = read(path, max_ratio=1)
    assert 1000 < len(documents) < 1100 and "max_ratio" in bad.reason


def test_packed_twice_is_not_unpacked_twice(read, tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip_of(zstd(LINE * 9000)))
    documents, (bad,) = read(tmp_path / "a.jsonl.gz")
    assert not documents and "zstd inside another compression" in bad.reason


def test_one_document_that_unpacks_to_too_much_is_none(read, tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip_of(b"a" * (3 << 20)))
    documents, (bad,) = read(tmp_path / "a.txt.gz", max_ratio=2)
    assert not documents and "max_ratio" in bad.reason


def test_a_window_of_two_gigabytes_takes_no_more_than_the_content(read, tmp_path):
    huge = zstandard.ZstdCompressionParameters.from_level(1, window_log=31)
    stream = zstandard.ZstdCompressor(compression_params=huge).compressobj()
    (tmp_path / "a.jsonl").write_bytes(stream.compress(LINE) + stream.flush())
    documents, bad = read(tmp_path / "a.jsonl")
    assert len(documents) == 1 and not bad


def test_a_little_is_always_allowed():
    assert Allowance(ReadOptions(max_ratio=1), 100).spend(1 << 20) is None
    assert Allowance(ReadOptions(), 1 << 40).spend(1 << 40) is None
    assert "max_unpacked_bytes" in Allowance(ReadOptions(), 1 << 40).spend((1 << 40) + 1)


def test_plain_files_have_no_ratio(read, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINE * 2000)
    documents, bad = read(tmp_path / "a.jsonl", max_ratio=1, max_unpacked_bytes=1)
    assert len(documents) == 2000 and not bad


def ids(n):
    return [str(i) for i in range(n)]


def dictionary(n_rows, text):
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, np.int32)), pa.array([text]))
    return pa.table({"id": ids(n_rows), "text": column}), {}


def prefixes(n_rows, text):
    table = pa.table({"id": ids(n_rows), "text": [f"{text}{i}" for i in range(n_rows)]})
    return table, {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}


@pytest.mark.parametrize("made", [dictionary, prefixes])
def test_values_that_are_repeated_for_nothing_come_a_few_at_a_time(tmp_path, made):
    table, encoded = made(300, "x" * 200_000)
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", **encoded)
    del table
    (file,) = list_inputs(["a.parquet"], tmp_path)
    before, most, n_rows, bad = pa.total_allocated_bytes(), 0, 0, []
    for item in read_records(file, ReadOptions(batch_bytes=1 << 20, max_record_bytes=2 << 20, max_ratio=100)):
        if isinstance(item, BadRecord):
            bad.append(item)
            continue
        n_rows += item.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert 0 < n_rows < 300 and most < 20 << 20  # of 60 MB
    assert len(bad) == 1 and bad[0].line == n_rows + 1 and "max_ratio" in bad[0].reason


def test_pages_that_would_fill_the_memory_are_not_unpacked(read, tmp_path, monkeypatch):
    table = pa.table({"text": ["x" * 1000] * 3000})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, row_group_size=1500, data_page_size=1 << 30)
    assert len(read(tmp_path / "a.parquet")[0]) == 3000
    monkeypatch.setattr(parquet_pages, "MOST_PAGE_BYTES", 1 << 20)
    documents, bad = read(tmp_path / "a.parquet")
    assert not documents and [b.line for b in bad] == [1, 1501]
    assert bad[1].reason.endswith("cannot be decoded: its pages unpack to more than 1,048,576 bytes at once")


def test_lists_made_of_a_few_bytes_are_not_unpacked(read, tmp_path, monkeypatch):
    table = pa.table({"text": ["x"] * 20, "numbers": [[7] * 10_000] * 20})
    pq.write_table(table, tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet")[0]) == 20
    monkeypatch.setattr(parquet_pages, "MOST_REPEATED", 1 << 16)
    documents, (bad,) = read(tmp_path / "a.parquet")
    assert not documents and '"numbers.list.element" have 200,000 values' in bad.reason


def test_empty_rows_are_counted_too(read, tmp_path):
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), pa.array(["x"]))
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet", compression="zstd")
    documents, (bad,) = read(tmp_path / "a.parquet")
    assert len(documents) < 200_000 and bad.line == len(documents) + 1 and "max_ratio" in bad.reason


def number(n):
    """Return a number as Thrift writes it."""
    n = n << 1
    return b"".join(bytes([(n >> s & 127) | (128 if n >> s + 7 else 0)]) for s in range(0, max(7, n.bit_length()), 7))


def test_a_footer_that_claims_more_rows_than_there_are(read, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 5000}), path, use_dictionary=False)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8].replace(b"\x16" + number(5000), b"\x16" + number(10**12))
    assert len(footer) > length
    path.write_bytes(content[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    documents, bad = read(path)
    assert len(documents) <= 5000 and bad and bad[-1].line == len(documents) + 1


@pytest.mark.parametrize("length", [2**31 - 1, 2**32 - 1, 0])
def test_a_footer_of_any_claimed_length(read, tmp_path, length):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(100) + length.to_bytes(4, "little") + b"PAR1")
    documents, (bad,) = read(tmp_path / "a.parquet")
    assert not documents and bad.reason.startswith("damaged or incomplete Parquet")


def test_a_footer_with_a_list_of_two_billion(read, tmp_path):
    footer = b"\x15\x02\x19\xfc\xff\xff\xff\xff\x07"  # version 1, then the list of the schema
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    documents, (bad,) = read(tmp_path / "a.parquet")
    assert not documents and bad.reason.startswith("damaged or incomplete Parquet")


@pytest.mark.parametrize("field", ["id", "source"])
def test_long_ids_and_sources_cost_their_record(read, tmp_path, field):
    records = [{"id": "a", "text": "t"}, {"id": "b", "text": "t", field: "é" * 50_000}, {"id": "c", "text": "t"}]
    records += [{"id": "d", "text": "t", field: "x" * MOST_NAME_BYTES}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records * 9), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist([{"source": None, **r} for r in records * 9]), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        documents, bad = read(tmp_path / name)
        assert len(documents) == 27 and {b.reason for b in bad} == {f'"{field}" is longer than 65,536 bytes'}
        assert [b.line for b in bad] == list(range(2, 37, 4))


def test_a_flow_over_a_bomb_ends_with_what_was_allowed(tmp_path):
    config = make_case(tmp_path, n=60, corpora={"web": {"files": ["raw/*"], "max_ratio": 2}})
    (tmp_path / "raw" / "bomb.jsonl.zst").write_bytes(zstd(LINE * 20_000))
    run = tamis.run(config, "small")
    assert run.record.exit_code == 3
    query = "select file, reason from quarantine"
    ((file, reason),) = tamis.sql(run.lake, query).fetchall()
    assert file == "raw/bomb.jsonl.zst" and "max_ratio" in reason


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux says in /proc how much is mapped")
def test_a_window_goes_with_its_frame_although_an_error_is_kept(read, tmp_path):
    """Each of these names a window of a gigabyte, and is damaged."""
    path = tmp_path / "a.jsonl"
    path.write_bytes((Path(__file__).parent / "data/fuzzed/zstd/long_window_damaged").read_bytes())
    gc.disable()
    try:
        mapped = []
        for _ in range(3):
            documents, (bad,) = read(path)
            assert documents == [] and "expected JSON Lines" in bad.reason
            mapped.append(int(Path("/proc/self/statm").read_text().split()[0]) * 4096)
    finally:
        gc.enable()
    assert mapped[-1] - mapped[0] < 512 << 20
