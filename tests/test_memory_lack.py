"""An allocation that fails: people are told what to do, nothing is taken for damage, and the same command goes on."""

from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
import zstandard
from small_flow import chosen, make_case
from tamis.features.text_stats import TextStats
from tamis.pipelines.cli import main
from tamis.storage import streams
from tamis.storage.errors import MemoryLackError
from tamis.storage.inputs import list_inputs
from tamis.storage.memory import Budget
from tamis.storage.memory_limits import memory_there
from tamis.storage.readers import BadRecord, ReadOptions, read_records


def test_an_allocation_that_fails_names_what_to_do_and_is_resumed(tmp_path, monkeypatch, capsys):
    config = make_case(tmp_path)
    whole = tamis.run(config, "small", overrides=["lake=whole"])
    compute = TextStats.compute

    def fail(*_):
        raise pa.ArrowMemoryError("malloc of size 8388608 failed")

    monkeypatch.setattr(TextStats, "compute", fail)
    with pytest.raises(SystemExit) as ended:
        main(["run", "small", "-c", str(config), "--no-prefect", "-q"])
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "malloc of size 8388608 failed" in said and "`memory:`" in said and "workers" in said
    monkeypatch.setattr(TextStats, "compute", compute)
    assert chosen(tamis.run(config, "small")) == chosen(whole)


def test_a_query_that_does_not_fit_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Budget, "query_config", {"memory_limit": "1KiB", "threads": 1})
    with pytest.raises(MemoryLackError, match="`memory:`") as raised:
        tamis.run(make_case(tmp_path, n=50), "small")
    cause = raised.value.__cause__
    assert isinstance(cause.__cause__, duckdb.OutOfMemoryException), "of DuckDB itself"


@pytest.mark.parametrize("n_bytes", [100, 1 << 60], ids=["lack", "damage"])
def test_a_lack_of_memory_quarantines_no_parquet(tmp_path, monkeypatch, n_bytes):
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "x.parquet")
    (file,) = list_inputs(["x.parquet"], tmp_path)

    def fail(*_, **__):
        raise pa.ArrowMemoryError(f"malloc of size {n_bytes} failed")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", fail)
    if n_bytes > memory_there():  # what a damaged page asks for
        assert all(isinstance(found, BadRecord) for found in read_records(file, ReadOptions()))
    else:
        with pytest.raises(MemoryError):
            list(read_records(file, ReadOptions()))


def test_a_lack_of_memory_quarantines_no_zstd(tmp_path, monkeypatch):
    (tmp_path / "x.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "a"}\n'))
    (file,) = list_inputs(["x.jsonl.zst"], tmp_path)

    class Poor:
        eof = False

        def decompress(self, piece):
            raise zstandard.ZstdError("zstd decompressor error: Allocation error : not enough memory")

    gzip, zstd = streams._CODECS
    monkeypatch.setattr(streams, "_CODECS", (gzip, replace(zstd, decoder=Poor)))
    with pytest.raises(MemoryError):
        list(read_records(file, ReadOptions()))
