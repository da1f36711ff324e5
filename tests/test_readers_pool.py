"""The benchmark pool in six formats: every document arrives, with its id and its exact text."""

import hashlib
import json

import pyarrow.parquet as pq
import pytest
from reference import reference_data
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import BadRecord, ReadOptions, read_records


def digests_and_repaired(folder):
    """Return id -> first 16 hex digits of the text's SHA-256, and the ids of repaired documents."""
    digests, repaired = {}, set()
    for file in list_inputs(["crawl-*.jsonl*", "crawl-*.parquet", "crawl-09/*.txt"], folder):
        for item in read_records(file, ReadOptions(file_id="stem")):
            assert not isinstance(item, BadRecord), item
            texts = item.column("text").to_pylist()
            for doc_id, text, mended in zip(
                item.column("doc_id").to_pylist(), texts, item.column("repaired").to_pylist(), strict=True
            ):
                assert doc_id not in digests
                digests[doc_id] = hashlib.sha256(text.encode()).hexdigest()[:16]
                repaired |= {doc_id} if mended else set()
    return digests, repaired


@pytest.mark.parametrize(
    ("name", "n_documents", "n_nothing"), [("data/pool-small", 2_176, 8), ("data/pool", 99_678, 0)]
)
def test_every_document_arrives_with_its_text(name, n_documents, n_nothing):
    folder = reference_data(name)
    labels = pq.read_table(folder.parent / "labels.parquet" if name == "data/pool" else folder / "labels.parquet")
    truth = dict(zip(labels["id"].to_pylist(), labels["sha256_16"].to_pylist(), strict=True))
    found, repaired = digests_and_repaired(folder)
    content = {path.stem: path.read_bytes() for path in (folder / "crawl-09").iterdir()}
    nothing = {stem for stem, data in content.items() if not data}
    assert len(nothing) == n_nothing, (
        "a file of zero bytes holds no document, though the labels count it as an empty one"
    )
    assert len(truth) == n_documents and found.keys() == truth.keys() - nothing
    marked = {stem for stem, data in content.items() if data.startswith(b"\xef\xbb\xbf")}  # the mark is not text
    assert {i for i in found if found[i] != truth[i]} == repaired | marked
    kinds = dict(zip(labels["id"].to_pylist(), labels["kind"].to_pylist(), strict=True))
    assert repaired and repaired == {i for i, kind in kinds.items() if kind == "lone_surrogate"}


def test_fields_are_those_of_a_plain_json_parser(read):
    path = reference_data("data/pool-small/crawl-07.jsonl")
    raw = [json.loads(line) for line in path.read_bytes().splitlines()]
    documents, bad = read(path, batch_bytes=50_000)
    assert not bad and [d["line"] for d in documents] == list(range(1, len(raw) + 1))
    for document, record in zip(documents, raw, strict=True):
        assert (document["doc_id"], document["source"]) == (record["id"], record["source"])
        assert json.loads(document["meta"] or "{}") == record["meta"]
        if not document["repaired"]:
            assert document["text"] == record["text"]


def test_a_text_file_is_named_by_its_path_or_its_stem():
    folder = reference_data("data/pool-small")
    files = [file for file in list_inputs(["**/*.txt"], folder) if file.size]
    for option, expected in [("path", "crawl-09/{}"), ("stem", "{}")]:
        batches = [next(read_records(file, ReadOptions(file_id=option))) for file in files]
        ids = [batch.column("doc_id").to_pylist() for batch in batches]
        assert ids == [[expected.format(file.path.stem)] for file in files]
