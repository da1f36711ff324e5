"""Other programs open the shards of a mixture: datasets of Hugging Face, plain and streaming, and datatrove."""

import json

import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import make_case
from small_tokens import TWINS

FORMS = {"parquet": "parquet", "jsonl.zst": "json"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    small = {"web": {"files": ["raw/*"], "shard_bytes": 6_000}}
    config = make_case(tmp_path_factory.mktemp("mixture"), steps=TWINS, corpora=small)
    forms = [{"format": form, "shard_bytes": 3_000} for form in FORMS]
    run = tamis.run(config, "small", overrides=[f"flows.small.outputs={json.dumps(forms)}"])
    table = pq.read_table(sorted(run.outputs[0].glob("part-*")), columns=["id", "text"])
    expected = sorted((r["id"], r["text"]) for r in table.to_pylist())
    return dict(zip(FORMS, run.outputs, strict=True)), expected


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_loads_them(outputs, form, streaming, tmp_path):
    import datasets

    folders, expected = outputs
    files = [str(p) for p in sorted(folders[form].glob("part-*"))]
    found = datasets.load_dataset(
        FORMS[form], data_files=files, split="train", streaming=streaming, cache_dir=str(tmp_path)
    )
    assert len(files) > 1 and sorted((r["id"], r["text"]) for r in found) == expected


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("form", FORMS)
def test_datatrove_reads_them(outputs, form):
    from datatrove.pipeline import readers

    folders, expected = outputs
    reader = readers.ParquetReader if form == "parquet" else readers.JsonlReader
    read = reader(str(folders[form]), glob_pattern="part-*")
    assert sorted((d.id, d.text) for d in read.run()) == expected


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("form", FORMS)
def test_datasets_loads_the_folder(outputs, form, tmp_path):
    """A page in it says which of its files are documents: the manifest and the Croissant file are JSON too."""
    import datasets

    folders, expected = outputs
    found = datasets.load_dataset(str(folders[form]), split="train", cache_dir=str(tmp_path))
    assert sorted((r["id"], r["text"]) for r in found) == expected
