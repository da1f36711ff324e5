"""`tamis explain`: what is said of a document is what the tables hold."""

import json

import numpy as np
import pytest
import tamis
from small_flow import make_case, write_jsonl
from small_tokens import token_case
from tamis.pipelines import cli
from tamis.pipelines.explaining import explain
from tamis.pipelines.explaining_tokens import explain_token
from tamis.storage.errors import ConfigError
from tamis.storage.exported_tokens import ExportedTokens
from tamis.storage.lake import Lake


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run whose steps drop documents by a rule, as duplicates and by a budget."""
    config = make_case(tmp_path_factory.mktemp("explain"))
    return config, tamis.run(config, "small")


def rows(run, query, *values):
    return tamis.sql(run.lake, query, list(values)).pl().rows(named=True)


@pytest.mark.parametrize("kind", ["chosen", "cut by the budget", "filtered", "duplicate"])
def test_it_says_what_the_tables_hold(done, kind):
    _, run = done
    which = {
        "chosen": "step = 'like_code' and kept", "cut by the budget": "step = 'like_code' and not kept",
        "filtered": "step = 'clean' and not kept", "duplicate": "step = 'twins' and not kept",
    }[kind]  # fmt: skip
    chosen = rows(run, f"from selection_steps where run = $1 and {which} order by doc_id limit 20", run.id)
    assert chosen
    for row in chosen:
        found = explain(run.lake, row["doc_id"])
        (document,), (one,) = found["documents"], found["runs"]
        (expected,) = rows(run, "from documents where doc_id = $1", row["doc_id"])
        for name in ("corpus", "source", "n_bytes", "n_tokens", "file", "line", "file_sha256"):
            assert document[name] == expected[name]
        last = one["steps"][-1]
        assert (one["run"], one["flow"], last["step"]) == (run.id, "small", row["step"])
        assert {n: last[n] for n in ("kept", "reason", "ref", "score", "rank")} == {
            n: row[n] for n in ("kept", "reason", "ref", "score", "rank")
        }
        assert all(step["kept"] for step in one["steps"][:-1])
        assert (kind == "duplicate") == (last["ref"] is not None)
        if row["step"] == "like_code":
            whole = rows(run, "from selection_steps where run = $1 and step = 'like_code'", run.id)
            assert last["cut"]["lowest_kept_score"] == min(r["score"] for r in whole if r["kept"])
            assert last["cut"]["highest_dropped_score"] == max(r["score"] for r in whole if not r["kept"])
            assert last["cut"]["ranked"] == last["entered"] == len(whole)


def test_an_unknown_id_is_refused_with_the_nearest_one(done):
    _, run = done
    (known,) = rows(run, "select doc_id from documents order by doc_id limit 1")
    with pytest.raises(ConfigError, match=f"did you mean '{known['doc_id']}'"):
        explain(run.lake, known["doc_id"] + "x")
    with pytest.raises(ConfigError, match="no run 'never'"):
        explain(run.lake, known["doc_id"], run="never")


def test_a_record_that_repeats_an_id_is_said(tmp_path):
    records = [{"id": "a", "text": "one two three"}, {"id": "a", "text": "four five"}]
    write_jsonl(tmp_path / "raw" / "x.jsonl", records)
    steps = [{"name": "twins", "dedup": "exact"}]
    config = make_case(
        tmp_path, n=3, corpora={"web": {"files": ["raw/x.jsonl"]}}, targets={},
        flows={"small": {"corpus": "web", "steps": steps}},
    )  # fmt: skip
    found = explain(tamis.run(config, "small").lake, "a")
    (document,) = found["documents"]
    stays = f"{document['file']}:{document['line']}"
    assert [(e["reason"], e["ref"]) for e in found["excluded"]] == [("repeated id", stays)]


def test_a_mixture_is_said_too(tmp_path):
    config = make_case(tmp_path, mixtures={"m": {"budget": {"tokens": 500}, "parts": [{"flow": "small"}]}})
    tamis.mix(config, "m")
    lake = Lake.open(tmp_path / "lake")
    (row,) = tamis.sql(lake, "from mixture_rows order by doc_id limit 1").pl().rows(named=True)
    (said,) = explain(lake, row["doc_id"])["mixtures"]
    assert said == {name: row[name] for name in ("corpus", "mixture", "draw", "part", "multiplicity")}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    config = token_case(tmp_path_factory.mktemp("tokens"))
    return config, tamis.run(config, "small")


def test_a_token_leads_to_its_document_and_the_steps_that_chose_it(exported):
    _, run = exported
    folder = run.outputs[0]
    n_tokens = ExportedTokens(folder).n_tokens
    for position in [0, n_tokens - 1, *np.random.default_rng(0).integers(0, n_tokens, 20).tolist()]:
        found = explain_token(run.lake, folder, position)
        (document,) = found["explanation"]["documents"]
        (text,) = rows(run, "select text from text where doc_id = $1", found["doc_id"])
        around = found["before"] + ("" if found["token"]["end"] else found["token"]["text"]) + found["after"]
        assert "\ufffd" in around or around in text["text"]
        assert (found["file"], found["line"]) == (document["file"], document["line"])
        assert [s["kept"] for s in found["explanation"]["runs"][0]["steps"]] == [True]
        assert [r["run"] for r in found["explanation"]["runs"]] == [run.id] == [found["run"]]
    assert found["token"]["end"] in (True, False) and explain_token(run.lake, folder, n_tokens - 1)["token"]["end"]


def test_a_token_needs_no_lake(exported):
    found = explain_token(None, exported[1].outputs[0], 5)
    assert found["explanation"] is None and found["line"] and found["offset"] == 5


def test_only_the_documents_of_a_corpus_are_explained(tmp_path):
    corpora = {"web": {"files": ["raw/*"]}, "twin": {"files": ["raw/*"]}}
    mixture = {"budget": {"tokens": 10**6}, "parts": [{"corpus": "twin"}]}
    config = make_case(tmp_path, corpora=corpora, mixtures={"m": mixture})
    run = tamis.run(config, "small")
    tamis.mix(config, "m")
    (row,) = rows(run, "select doc_id from mixture_rows order by doc_id limit 1")
    both, web = explain(run.lake, row["doc_id"]), explain(run.lake, row["doc_id"], corpus="web")
    assert [d["corpus"] for d in both["documents"]] == ["twin", "web"] and len(both["mixtures"]) == 1
    assert [d["corpus"] for d in web["documents"]] == ["web"] and web["mixtures"] == [] and web["runs"]
    with pytest.raises(ConfigError, match="no document"):
        explain(run.lake, row["doc_id"], corpus="nowhere")


def call(capsys, config, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "-c", str(config)])
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def test_the_command(exported, capsys):
    config, run = exported
    (row,) = rows(run, "from selections where not kept order by doc_id limit 1")
    code, out, _ = call(capsys, config, "explain", row["doc_id"])
    assert code == 0 and f"dropped: {row['reason']} of {row['ref']}" in out and run.id in out and "raw/" in out
    code, out, _ = call(capsys, config, "explain", row["doc_id"], "--json")
    assert json.loads(out)["runs"][0]["steps"][0]["ref"] == row["ref"]
    code, out, _ = call(capsys, config, "explain", "--export", str(run.outputs[0]), "--token", "7")
    assert code == 0 and out.startswith("token     7 is ") and "kept" in out
    assert call(capsys, config, "explain")[0] == 2
    assert call(capsys, config, "explain", "--export", str(run.outputs[0]), "--token", str(10**9))[0] == 2
