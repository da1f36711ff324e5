"""Mixtures as tokens: every chosen text is there once, in order, and each token leads back to its raw record."""

import errno
import json
import random
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import make_case, write_jsonl
from small_tokens import TWINS, token_case, token_export
from tamis.storage.errors import ConfigError, DiskError
from tamis.storage.token_export import MegatronSink
from tamis.storage.verify import verify
from tokenizers import AddedToken, Tokenizer

TEXT = (
    "select doc_id, text from selections join text using (corpus, doc_id) where run = $1 and kept order by text.shard"
)


def written(folder, dtype="uint16"):
    """Return the documents of all shards: their spans with their ids, in order."""
    found = []
    for path in sorted(folder.glob("tokens-*.bin")):
        ids = np.fromfile(path, dtype)
        spans = pq.read_table(path.with_name(path.name.replace("tokens", "spans")).with_suffix(".parquet")).to_pylist()
        assert [s["start"] for s in spans] == [0, *np.cumsum([s["length"] for s in spans]).tolist()][:-1]
        assert len(ids) == sum(s["length"] for s in spans)
        found += [{**s, "ids": ids[s["start"] : s["start"] + s["length"]].tolist()} for s in spans]
    return found


def texts_of(run):
    return dict(tamis.sql(run.lake, TEXT, [run.id]).fetchall())


def test_every_text_is_there_once_with_the_end_token_after_it(tmp_path):
    run, folder = token_export(tmp_path)
    tokenizer, texts = Tokenizer.from_file(str(folder / "tokenizer.json")), texts_of(run)
    rows = written(folder)
    assert {r["doc_id"]: r["ids"] for r in rows} == {
        doc: [*tokenizer.encode(text).ids, 0] for doc, text in texts.items()
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(rows) == len(texts) == manifest["rows"] == run.steps[-1]["kept"]
    assert manifest["tokens"] == sum(len(r["ids"]) for r in rows)
    assert (manifest["end"], manifest["dtype"], manifest["format"]) == (0, "uint16", "tokens")
    names = {f["file"] for f in manifest["files"]}
    assert len(list(folder.glob("tokens-*.bin"))) > 2
    assert names | {"manifest.json", "card.md", "croissant.json"} == {p.name for p in folder.iterdir()}
    assert [(r["file"], r["line"]) for r in rows] == sorted((r["file"], r["line"]) for r in rows)


def test_workers_and_shards_change_no_token(tmp_path):
    one = token_export(tmp_path / "a", corpora={"web": {"files": ["raw/*"]}}, shard_bytes=10**9)[1]
    config = token_case(tmp_path / "b")
    other = tamis.run(config, "small", workers=3).outputs[0]
    places = ("start", "shard", "row")
    rows = [[{k: v for k, v in r.items() if k not in places} for r in written(folder)] for folder in (one, other)]
    assert len(list(one.glob("*.bin"))) == 1 < len(list(other.glob("*.bin")))
    assert rows[0] == rows[1]


def test_a_second_run_writes_nothing_and_another_tokenizer_all(tmp_path):
    config = token_case(tmp_path)
    first, again = tamis.run(config, "small"), tamis.run(config, "small")
    assert again.outputs == first.outputs and again.record.computed == 0
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert tamis.run(config, "small").outputs != first.outputs


@pytest.mark.parametrize("end", [65, "e", "<stop>"])
def test_an_end_that_texts_can_spell_is_refused(tmp_path, end):
    config = token_case(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<stop>", special=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    outputs = json.dumps([{"format": "tokens", "tokenizer": "tokenizer.json", "end": end}])
    with pytest.raises(ConfigError, match="which a text can spell"):
        tamis.run(config, "small", overrides=[f"flows.small.outputs={outputs}"])


def test_no_text_can_spell_the_end_token(tmp_path):
    config = token_case(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write_jsonl(tmp_path / "raw" / "sly.jsonl", [{"id": "sly", "text": "one<|endoftext|>two"}])
    (row,) = [r for r in written(tamis.run(config, "small").outputs[0]) if r["doc_id"] == "sly"]
    assert tokenizer.encode("one<|endoftext|>two").ids.count(0) == 1, "as a tokenizer usually does"
    assert row["ids"].count(0) == 1 and row["ids"][-1] == 0
    assert tokenizer.decode(row["ids"][:-1]) == "one<|endoftext|>two"


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    config = token_case(tmp_path, forms=("tokens", "megatron"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_tokens([f"token-{i}" for i in range(70_000)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    run = tamis.run(config, "small")
    kinds = [json.loads((folder / "manifest.json").read_text())["dtype"] for folder in run.outputs]
    assert kinds == ["uint32", "int32"]
    assert [r["ids"] for r in written(run.outputs[0], "uint32")] == [r["ids"] for r in written(run.outputs[1], "int32")]
    with pytest.raises(ConfigError, match="uint16 cannot hold"):
        tamis.run(config, "small", overrides=["flows.small.outputs=[{format: tokens, tokenizer: tokenizer.json, dtype: uint16}]"])  # fmt: skip # noqa: E501


def read_index(path):
    """Read an index by the definition of the format, with nothing of ours."""
    data = path.read_bytes()
    assert data[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, boundaries = struct.unpack_from("<QBQQ", data, 9)
    lengths = np.frombuffer(data, "<i4", sequences, 34)
    pointers = np.frombuffer(data, "<i8", sequences, 34 + 4 * sequences)
    documents = np.frombuffer(data, "<i8", boundaries, 34 + 12 * sequences)
    assert len(data) == 34 + 12 * sequences + 8 * boundaries
    return version, code, lengths, pointers, documents


def test_megatrons_index_says_where_each_document_is(tmp_path):
    folder = token_export(tmp_path, forms=("megatron",))[1]
    rows, at = written(folder), 0
    for path in sorted(folder.glob("*.idx")):
        version, code, lengths, pointers, documents = read_index(path)
        assert (version, code) == (1, 8) and documents.tolist() == list(range(len(lengths) + 1))
        data = path.with_suffix(".bin").read_bytes()
        for length, pointer in zip(lengths.tolist(), pointers.tolist(), strict=True):
            assert np.frombuffer(data, "<u2", length, pointer).tolist() == rows[at]["ids"]
            at += 1
    assert at == len(rows) and len(list(folder.glob("*.idx"))) > 2


def test_megatrons_own_reader_agrees(tmp_path):
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed")
    folder = token_export(tmp_path, forms=("megatron",))[1]
    rows, found = written(folder), []
    for path in sorted(folder.glob("*.idx")):
        dataset = indexed.IndexedDataset(str(path.with_suffix("")))
        found += [dataset[i].tolist() for i in range(len(dataset))]
    assert found == [r["ids"] for r in rows]


def test_a_changed_byte_and_a_missing_file_are_found(tmp_path):
    run, folder = token_export(tmp_path)
    assert list(verify(run.lake)) == []
    for path in sorted(folder.glob("*.bin"))[:1] + sorted(folder.glob("spans-*"))[:1] + [folder / "tokenizer.json"]:
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[random.Random(path.name).randrange(len(whole))] ^= 4
        path.write_bytes(changed)
        assert [d.file for d in verify(run.lake)] == [str(path)]
        path.unlink()
        assert [(d.file, d.problem) for d in verify(run.lake)] == [(str(path), "is missing")]
        path.write_bytes(whole)


def test_an_export_that_fails_leaves_nothing_and_the_next_run_writes_it(tmp_path, monkeypatch):
    config = token_case(tmp_path, forms=("megatron",))
    close, shards = MegatronSink.close, []

    def full(self):
        shards.append(self)
        if len(shards) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        close(self)

    with monkeypatch.context() as patch, pytest.raises(DiskError, match="the disk is full"):
        patch.setattr(MegatronSink, "close", full)
        tamis.run(config, "small")
    assert list((tmp_path / "lake" / "tmp").iterdir()) == []
    assert list((tmp_path / "lake" / "mixtures").glob("*/*/manifest.json")) == []
    run = tamis.run(config, "small")
    assert len(written(run.outputs[0])) == run.steps[-1]["kept"] and list(verify(run.lake)) == []


@pytest.mark.parametrize(("output", "message"), [
    ({"format": "tokens"}, "'words' only counts"),
    ({"format": "tokens", "tokenizer": "tokenizer.json", "end": "</s>"}, "no token '</s>'"),
    ({"format": "tokens", "tokenizer": "tokenizer.json", "end": 300}, "expected an id from 0 to"),
    ({"format": "tokens", "tokenizer": "nowhere.json"}, "nowhere.json"),
    ({"format": "tokens", "tokenizer": "tokenizer.json", "dtype": "int32"}, "no type int32"),
    ({"format": "megatron", "tokenizer": "tokenizer.json", "dtype": "uint32"}, "no type uint32"),
    ({"format": "parquet", "end": 0}, "`end` belongs to the formats tokens and megatron"),
    ({"format": "tokens", "tokeniser": "tokenizer.json"}, "did you mean 'tokenizer'"),
])  # fmt: skip
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, output, message):
    config = token_case(tmp_path)
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        tamis.run(config, "small", overrides=[f"flows.small.outputs={json.dumps([output])}"])
    assert not (tmp_path / "lake").exists()


def test_ids_go_without_texts(tmp_path):
    config = make_case(tmp_path, steps=TWINS)
    run = tamis.run(config, "small", overrides=["flows.small.outputs=[{format: ids}]"])
    (folder,) = run.outputs
    table = pq.read_table(folder / "ids.parquet")
    query = "select doc_id, text_hash, n_tokens from documents join selections using (corpus, doc_id, n_tokens) where run = $1 and kept"  # noqa: E501
    expected = {row[0]: row[1:] for row in tamis.sql(run.lake, query, [run.id]).fetchall()}
    assert {r["doc_id"]: (r["text_hash"], r["n_tokens"]) for r in table.to_pylist()} == expected
    recipe = json.loads(table.schema.metadata[b"tamis.recipe"])
    assert (recipe["run"], recipe["steps"][-1]["kept"], recipe["seed"]) == (run.id, table.num_rows, 17)
    assert Path(folder / "manifest.json").exists() and list(verify(run.lake)) == []
