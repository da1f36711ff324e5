"""An allocation that fails: people are told what to do, nothing is taken for damage, and the same command goes on."""

import duckdb
import pyarrow as pa
import pytest
import tamis
from small_flow import chosen, make_case
from tamis.features.text_stats import TextStats
from tamis.pipelines.cli import main
from tamis.storage.errors import MemoryLackError
from tamis.storage.memory import Budget


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
