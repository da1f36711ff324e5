"""The Croissant file and the licences on the card of a mixture."""

import hashlib
import json

import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import make_case, write_jsonl
from small_tokens import TWINS, token_export
from tamis.pipelines.composition import NO_LICENCE, licences

FORMS = ("parquet", "jsonl.zst")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("croissant")
    records = [
        {"id": f"d{i}", "text": f"document {i}", "source": "abc"[i % 3],
         "meta": [{"license": "CC-BY-4.0"}, {"LICENCE": " MIT ", "url": "x"}, {"url": "license"}][i % 3]}
        for i in range(90)
    ]  # fmt: skip
    write_jsonl(folder / "raw" / "x.jsonl", records)
    flows = {"all": {"corpus": "web", "steps": TWINS, "outputs": [{"format": f, "shard_bytes": 400} for f in FORMS]}}
    small = {"web": {"files": ["raw/x.jsonl"], "shard_bytes": 400}}
    config = make_case(folder, n=3, corpora=small, targets={}, flows=flows)
    return tamis.run(config, "all")


@pytest.mark.filterwarnings("default")
def test_its_validator_accepts_it_and_loads_the_documents(run):
    import mlcroissant

    folder = run.outputs[0]
    found = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    rows = [
        {name.removeprefix("documents/"): value for name, value in row.items()} for row in found.records("documents")
    ]
    parts = sorted(folder.glob("part-*.parquet"))
    expected = [r for part in parts for r in pq.read_table(part).to_pylist()]
    assert len(parts) > 2 and [r["id"].decode() for r in rows] == [r["id"] for r in expected]
    assert [r["text"].decode() for r in rows] == [r["text"] for r in expected]
    assert found.metadata.license == ["CC-BY-4.0", "MIT"]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("form", ["jsonl.zst", "tokens"])
def test_forms_without_columns_have_their_files(run, form, tmp_path):
    import mlcroissant

    folder = run.outputs[1] if form == "jsonl.zst" else token_export(tmp_path)[1]
    found = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    described = json.loads((folder / "croissant.json").read_text())
    assert "recordSet" not in described
    for entry in described["distribution"]:
        assert hashlib.sha256((folder / entry["contentUrl"]).read_bytes()).hexdigest() == entry["sha256"]


def test_the_card_counts_licences(run):
    card = (run.outputs[0] / "card.md").read_text()
    assert "| licence | documents | tokens |" in card
    for name in ("CC-BY-4.0", "MIT", NO_LICENCE):
        assert f"| {name} | 30 | 60 |" in card


def test_licences_are_texts_of_a_key():
    import pyarrow as pa

    given = [None, "{}", '{"license": ["a"]}', '{"x": {"license": "MIT"}}', '{"License": "MIT"}', '{"license": "  "}']
    given += ['{"license": 1e999, "licence": "BSD", "n": ' + "9" * 400 + "}"]
    names = [NO_LICENCE] * 4 + ["MIT", NO_LICENCE, "BSD"]
    assert licences(pa.chunked_array([pa.array(given[:3], pa.string()), pa.array(given[3:], pa.string())])) == names
