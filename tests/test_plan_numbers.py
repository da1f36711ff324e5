"""The arithmetic of plans, and the slices of raw files that they are measured on."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from tamis.pipelines.plan_lines import Points, extrapolate, steadied, yield_errors
from tamis.storage.inputs import list_inputs
from tamis.storage.raw_slices import slice_file
from tamis.storage.readers import ReadOptions


def test_a_line_has_a_fixed_part_and_one_that_grows():
    found = extrapolate((10, 7.0), [(40, 13.0), (40, 13.0)], 1000)
    assert found.value == pytest.approx(5 + 0.2 * 1000) and found.error == 0


def test_what_does_not_grow_stays_and_nothing_is_below_zero():
    assert extrapolate((10, 3.0), [(40, 3.0)], 1e6).value == pytest.approx(3.0)
    assert extrapolate((10, 5.0), [(40, 3.0)], 1e6).value == pytest.approx(3.0)
    assert extrapolate((40, 3.0), [(40, 3.0)], 1e6).value == pytest.approx(3.0)
    assert extrapolate((10, 1.0), [(40, 8.0)], 80).value == pytest.approx(16.0)  # its fixed part would be below 0


def test_without_a_small_trial_all_of_it_grows():
    assert extrapolate(None, [(40, 8.0), (60, 12.0)], 500).value == pytest.approx(100.0)


def test_the_error_is_half_of_what_two_trials_differ_by():
    found = extrapolate(None, [(100, 9.0), (100, 11.0)], 1000)
    assert (found.value, found.error) == (pytest.approx(100.0), pytest.approx(10.0))


def test_shards_have_a_price_of_their_own():
    """2 a shard, 5 for all, 0.1 for each of x: eight shards in each trial, one in the last."""

    def took(x, shards):
        return (x, shards, 2 * shards + 5 + 0.1 * x)

    points = Points(took(10, 8), (took(40, 8), took(40, 8)), took(40, 1))
    assert points.at(1000, 30).value == pytest.approx(2 * 30 + 5 + 100)
    assert Points(took(10, 8), (took(40, 8),), None).at(1000, 30).value == pytest.approx(21 + 100)


def test_seconds_are_steadied_by_processor_time():
    """Two seconds for each processor second, then a small trial that waited for other work, or large ones that did."""
    cpu = Points((10, 4, 1.0), ((40, 4, 4.0), (40, 4, 4.0)), None)
    for small, large in ((2.0, 8.0), (7.9, 8.0), (0.1, 8.0)):
        wall = Points((10, 4, small), ((40, 4, large), (40, 4, large)), None)
        assert steadied(wall, cpu, 2.0, 4000, 4).value == pytest.approx(800.0)
    waits = Points((10, 4, 0.01), ((40, 4, 0.01), (40, 4, 0.01)), None)  # noise of a second in what does nothing
    wall = Points((10, 4, 0.2), ((40, 4, 1.2), (40, 4, 1.2)), None)
    assert steadied(wall, waits, 2.0, 4000, 4).value == pytest.approx(1.2)


def test_the_errors_of_yields_cover_what_a_sample_is_off_by():
    """Two standard errors: about 95 of 100 samples lie within, documents come in groups of ten copies."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        part = rng.integers(0, 20, 2000)
        stays = rng.random(2000) < 0.3
        tokens = rng.geometric(0.01, 2000)
        kept = np.zeros((2, 2, 20))
        for row, mask in enumerate((np.ones(2000, bool), stays)):
            kept[row, 0] = 10 * np.bincount(part[mask], minlength=20)
            kept[row, 1] = 10 * np.bincount(part[mask], weights=tokens[mask], minlength=20)
        error = yield_errors(kept, share=0.0)
        assert error.shape == (2, 2) and np.all(error[0] < 1e-12)
        ratio = kept[1].sum(axis=1) / kept[0].sum(axis=1)
        inside.append(np.abs(ratio - 0.3) <= error[1])
    assert np.all(np.abs(np.mean(inside, axis=0) - 0.95) < 0.05)
    assert np.all(yield_errors(kept, share=1.0) == 0)


LINES = "".join(json.dumps({"id": str(i), "text": f"document {i} " + "word " * (i % 50)}) + "\n" for i in range(3000))


def test_a_slice_of_lines_has_whole_lines_from_its_place_on(tmp_path, read):
    (tmp_path / "a.jsonl").write_text(LINES)
    (file,) = list_inputs(["a.jsonl"], tmp_path)
    for place in (0.0, 0.4, 0.999):
        found = slice_file(file, 50_000, place, tmp_path / "slices" / "s.jsonl", ReadOptions())
        text = found.path.read_text()
        assert text in LINES and text.endswith("\n") and abs(found.size - 50_000) < 1_000
        documents, bad = read(found.path)
        assert not bad and documents[0]["doc_id"] == str(LINES[: LINES.index(text)].count("\n"))
    assert slice_file(file, file.size, 0.5, tmp_path / "none", ReadOptions()) == file


@pytest.mark.parametrize(("suffix", "packed"), [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)])
def test_a_slice_of_a_stream_is_its_beginning(tmp_path, read, suffix, packed):
    blocks = b"".join(packed(LINES[at : at + 20_000].encode()) for at in range(0, len(LINES), 20_000))
    (tmp_path / f"a.jsonl{suffix}").write_bytes(blocks)
    (file,) = list_inputs(["a.*"], tmp_path)
    found = slice_file(file, file.size // 3, 0.7, tmp_path / "slices" / f"s.jsonl{suffix}", ReadOptions())
    documents, bad = read(found.path)
    assert [d["doc_id"] for d in documents] == [str(i) for i in range(len(documents))]
    assert 700 < len(documents) < 1300 and len(bad) == 1


def test_a_slice_of_parquet_is_rows_of_a_row_group(tmp_path, read):
    rows = [json.loads(line) for line in LINES.splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=500)
    (file,) = list_inputs(["a.parquet"], tmp_path)
    found = slice_file(file, file.size // 6, 0.5, tmp_path / "slices" / "s.parquet", ReadOptions())
    documents, bad = read(found.path)
    assert not bad and documents[0]["doc_id"] == "1500" and 350 < len(documents) < 750


def test_parquet_with_damaged_statistics_is_not_cut_by_arrow_which_would_end_the_process(tmp_path, read):
    shutil.copy(Path(__file__).parent / "data/fuzzed/parquet/damaged_histogram", tmp_path / "a.parquet")
    (file,) = list_inputs(["a.parquet"], tmp_path)
    found = slice_file(file, file.size // 6, 0.5, tmp_path / "slices" / "s.parquet", ReadOptions())
    documents, bad = read(found.path)
    assert len(documents) + len(bad) > 0


def test_a_file_that_is_one_document_is_not_cut(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 10_000)
    (file,) = list_inputs(["a.txt"], tmp_path)
    assert slice_file(file, 100, 0.5, tmp_path / "s", ReadOptions()) == file
