"""Mixtures of several parts as tokens: the same documents in the same order as in Parquet, copies included."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
from tamis.features.byte_bpe import train_tokenizer
from tamis.pipelines import cli
from tamis.storage.errors import ConfigError
from tamis.storage.exported_tokens import ExportedTokens
from test_mixtures import records, three_corpora, written
from tokenizers import Tokenizer

FORMS = ("parquet", "tokens", "megatron")
MIXTURE = {"budget": {"tokens": 1_500}, "weights": {"unimax": 3}}


def with_tokens(folder, forms=FORMS, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer((r["text"] for r in records("alpha", 50)), 300).save(str(folder / "tokenizer.json"))
    outputs = [{"format": f, **({"tokenizer": "tokenizer.json"} if f in ("tokens", "megatron") else {})} for f in forms]
    return three_corpora(folder, {**MIXTURE, "outputs": outputs}, **changes)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return tamis.mix(with_tokens(tmp_path_factory.mktemp("mixed")), "m")


def ids_of(folder):
    return np.concatenate([np.fromfile(p, np.uint16) for p in sorted(folder.glob("tokens-*.bin"))])


def test_they_are_the_documents_of_the_other_forms_in_their_order(mixed):
    texts = written(mixed)
    tokenizer = Tokenizer.from_file(str(mixed.outputs[1] / "tokenizer.json"))
    expected = [i for text in texts.column("text").to_pylist() for i in [*tokenizer.encode(text).ids, 0]]
    for folder in mixed.outputs[1:]:
        assert ids_of(folder).tolist() == expected
        spans = pa.concat_tables(pq.read_table(p) for p in sorted(folder.glob("spans-*.parquet")))
        assert spans.column("doc_id").to_pylist() == texts.column("id").to_pylist()
        assert spans.column("part").to_pylist() == texts.column("part").to_pylist()
        assert spans.column("corpus").to_pylist() == texts.column("corpus").to_pylist()
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["tokens"] == len(expected) and manifest["rows"] == mixed.mixture["copies"]
    assert mixed.mixture["copies"] > mixed.mixture["documents"], "some stand there more than once"


def test_the_reader_keeps_copies_apart(mixed):
    data = tamis.torch_dataset(mixed.outputs[1], 16, seed=1, rank=0, world=1, last="pad")
    exported = ExportedTokens(mixed.outputs[1])
    positions = np.concatenate([data.positions(place) for place in range(data.n_samples)])
    assert sorted(positions.tolist()) == list(range(exported.n_tokens))
    order = exported.doc_keys[data._epoch(0).documents]
    n_copies = len(order) - len(np.unique(order))
    assert n_copies > 20 and (order[1:] == order[:-1]).sum() < n_copies / 5


def test_workers_change_nothing(mixed, tmp_path):
    again = tamis.mix(with_tokens(tmp_path), "m", workers=3)
    for folder, other in zip(mixed.outputs[1:], again.outputs[1:], strict=True):
        assert [p.read_bytes() for p in sorted(folder.glob("*.bin"))] == [
            p.read_bytes() for p in sorted(other.glob("*.bin"))
        ]


def test_a_token_leads_to_the_flow_that_chose_its_document(tmp_path):
    flows = {"long": {"corpus": "beta", "steps": [{"name": "long", "filter": {"short": "stats.n_words >= 6"}}]}}
    config = with_tokens(tmp_path, ("tokens",), flows=flows)
    parts = json.dumps([{"flow": "long"}, {"corpus": "alpha"}])
    run = tamis.mix(config, "m", overrides=[f"mixtures.m.parts={parts}"])
    located = tamis.locate(run.outputs[0], range(0, ExportedTokens(run.outputs[0]).n_tokens, 97)).to_pylist()
    assert {row["part"] for row in located} == {"long", "alpha"}
    for row in located[:10]:
        found = tamis.explain_token(run.lake, run.outputs[0], row["position"])
        (document,) = found["explanation"]["documents"]
        assert (document["doc_id"], document["corpus"]) == (row["doc_id"], row["corpus"])
        assert [step["step"] for r in found["explanation"]["runs"] for step in r["steps"]] == (
            ["long"] if row["part"] == "long" else []
        )
        assert found["explanation"]["mixtures"][0]["mixture"] == "m"


def test_another_form_of_a_mixture_is_exported(mixed, tmp_path, capsys):
    config = with_tokens(tmp_path / "case", ("parquet",))
    first = tamis.mix(config, "m")
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", "m", "-f", "tokens", "--tokenizer", "tokenizer.json", "-o", str(tmp_path / "out"), "-q",
                  "-c", str(config)])  # fmt: skip
    assert not ended.value.code, capsys.readouterr().err
    assert ids_of(tmp_path / "out").tolist() == ids_of(mixed.outputs[1]).tolist()
    stages = {s.name: s.computed for s in tamis.export(config, "m", [{"format": "parquet"}]).record.stages}
    assert stages["draw m"] == stages["write parquet"] == 0 and first.outputs


def test_ids_alone_are_a_flows(tmp_path):
    with pytest.raises(ConfigError, match="`format: ids` is of a flow"):
        tamis.mix(with_tokens(tmp_path, ("ids",)), "m")
