"""What a corpus is after files were added, changed, removed or renamed, and whose record an id is."""

import hashlib
import json

import pytest
import tamis
from reference import reference_data
from small_flow import documents, make_case, write_jsonl
from tamis.storage.errors import InputError

ALL = [{"name": "all", "filter": {"any": "true"}}]


def ask(run, query):
    return tamis.sql(run.lake, query).fetchall()


def ids(run):
    return [i for (i,) in ask(run, "select doc_id from documents order by 1")]


def shards(run):
    return {s for (s,) in ask(run, "select shard from shards")}


@pytest.fixture
def config(tmp_path):
    return make_case(tmp_path, n=60, files=3, steps=ALL)


def test_a_new_file_moves_nobody_elses_shards(config, tmp_path):
    before = tamis.run(config, "small")
    old = shards(before)
    write_jsonl(tmp_path / "raw" / "a-first.jsonl", documents(5, seed=5))
    after = tamis.run(config, "small")
    assert old < shards(after)
    assert len(ids(after)) == 65


def test_a_changed_file_replaces_its_own_documents(config, tmp_path):
    tamis.run(config, "small")
    changed = documents(60)[0::3][:10]
    write_jsonl(tmp_path / "raw" / "part-0.jsonl", changed)
    run = tamis.run(config, "small")
    assert ids(run) == sorted(d["id"] for d in documents(60)[1::3] + documents(60)[2::3] + changed)
    assert run.record.counts["records"] == 50
    assert run.record.counts["superseded"] == 20
    assert ask(run, "select distinct reason from excluded") == [("superseded file",)]


def test_a_file_that_is_gone_takes_its_documents_along(config, tmp_path):
    tamis.run(config, "small")
    (tmp_path / "raw" / "part-1.jsonl").unlink()
    run = tamis.run(config, "small")
    assert ids(run) == sorted(d["id"] for d in documents(60)[0::3] + documents(60)[2::3])
    write_jsonl(tmp_path / "raw" / "part-1.jsonl", documents(60)[1::3])
    assert len(ids(tamis.run(config, "small"))) == 60


def test_a_file_that_comes_back_is_known_by_its_bytes(config, tmp_path):
    first = tamis.run(config, "small")
    path = tmp_path / "raw" / "part-2.jsonl"
    old = path.read_bytes()
    path.write_bytes(old[: len(old) // 2].rsplit(b"\n", 1)[0] + b"\n")
    tamis.run(config, "small")
    path.write_bytes(old)
    again = tamis.run(config, "small")
    assert [s.computed for s in again.record.stages if s.name == "ingest web"] == [0]
    assert ids(again) == ids(first)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_a_repeated_id_the_smallest_content_stays_in_any_order_of_files(tmp_path, order):
    config = make_case(tmp_path, n=6, files=1, steps=ALL)
    texts = {"a": "one text", "b": "another text"}
    for place, name in enumerate(order):
        write_jsonl(tmp_path / "raw" / f"x{place}.jsonl", [{"id": "twice", "text": texts[name]}])
    run = tamis.run(config, "small")
    smallest = min(texts.values(), key=lambda t: hashlib.sha256(t.encode()).digest())
    assert ask(run, "select text from text where doc_id = 'twice'") == [(smallest,)]
    assert run.record.counts["excluded"] == 1
    (found,) = ask(run, "select doc_id, reason, ref from excluded")
    assert found[:2] == ("twice", "repeated id") and found[2].startswith("raw/x")


def test_records_without_an_id_get_one_that_appending_does_not_move(tmp_path):
    config = make_case(tmp_path, n=3, files=1, steps=ALL)
    lines = [{"text": "same"}, {"text": "other"}, {"text": "same"}]
    write_jsonl(tmp_path / "raw" / "no-ids.jsonl", lines)
    before = ids(tamis.run(config, "small"))
    write_jsonl(tmp_path / "raw" / "no-ids.jsonl", [*lines, {"text": "same"}, {"text": "new"}])
    after = ids(tamis.run(config, "small"))
    assert len(set(before)) == 6 and len(set(after)) == 8
    assert set(before) < set(after)
    assert sum(i.endswith(("-1", "-2")) for i in after) == 2


def test_documents_carry_their_origin(config, tmp_path):
    run = tamis.run(config, "small")
    file, sha256, line, meta = ask(
        run, "select file, file_sha256, line, meta from documents where doc_id = 'doc-0-0004'"
    )[0]
    assert (file, line) == ("raw/part-1.jsonl", 2)
    assert sha256 == hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
    assert json.loads(meta) == {"url": "https://example.org/4"}


def test_hostile_files_cost_what_is_broken_in_them(tmp_path):
    bad = reference_data("data/bad")
    config = make_case(tmp_path, n=6, files=1, steps=ALL, corpora={"web": {"files": [f"{bad}/*.*"]}})
    run = tamis.run(config, "small")
    counts = run.record.counts
    assert run.exit_code == 3
    assert counts["records"] == counts["documents"] + counts["quarantined"] + counts["excluded"]
    assert ask(run, "select count(*) from documents") == [(counts["documents"],)]
    listed = ask(
        run, "select regexp_extract(file, '[^/]*$'), line, reason, octet_length(raw) from quarantine order by 1, 2"
    )
    assert len(listed) == counts["quarantined"]
    assert [line for file, line, _, _ in listed if file == "malformed_middle.jsonl"] == [41, 42, 43, 44, 45, 61]
    assert all(reason and size <= 4096 for _, _, reason, size in listed)
    by_file = dict(ask(run, "select regexp_extract(file, '[^/]*$'), documents from files"))
    for entry in json.loads((bad / "MANIFEST.json").read_text()):
        if entry["good_docs"] is not None and entry["file"] != "wrong_type_id.jsonl":
            assert by_file[entry["file"]] == entry["good_docs"], entry["file"]
    repeated = ask(run, "select count(*) from excluded where reason = 'repeated id'")[0][0]
    assert repeated == counts["excluded"] > 0


def test_a_file_that_only_grew_keeps_its_other_documents(tmp_path):
    """Its first shard is the same as before, and must not be struck out with the old reading's rows."""
    config = make_case(tmp_path, n=300, files=3, steps=ALL, corpora={"web": {"files": ["raw/*"], "shard_bytes": 4000}})
    tamis.run(config, "small")
    with (tmp_path / "raw" / "part-0.jsonl").open("a") as file:
        file.write('{"id": "appended", "text": "one more"}\n')
    run = tamis.run(config, "small")
    assert run.record.counts["documents"] == run.steps[0]["entered"] == len(ids(run)) == 301


def test_a_shard_of_which_every_row_is_excluded_does_no_harm(tmp_path):
    config = make_case(tmp_path, n=60, files=1, corpora={"web": {"files": ["raw/*"], "shard_bytes": 2000}})
    (tmp_path / "raw" / "copy.jsonl").write_bytes((tmp_path / "raw" / "part-0.jsonl").read_bytes())
    run = tamis.run(config, "small")
    assert (run.record.counts["documents"], run.record.counts["excluded"]) == (60, 60)


def test_on_bad_fail_stops_also_where_the_file_was_read_before(tmp_path):
    config = make_case(tmp_path, n=6, files=1, steps=ALL)
    write_jsonl(tmp_path / "raw" / "bad.jsonl", [{"id": "no text"}])
    assert tamis.run(config, "small").exit_code == 3
    with pytest.raises(InputError, match=r"bad\.jsonl line 1"):
        tamis.run(config, "small", overrides=["corpora.web.on_bad=fail"])


def test_quarantine_shows_the_newest_reading_of_each_corpus_once(tmp_path):
    config = make_case(tmp_path, n=6, files=1, steps=ALL, corpora={n: {"files": ["raw/*"]} for n in ("web", "again")})
    write_jsonl(tmp_path / "raw" / "bad.jsonl", [{"id": "no text"}])
    tamis.run(config, "small")
    run = tamis.run(config, "small", overrides=["flows.small.corpus=again"])
    assert ask(run, "select corpus, line from quarantine order by 1") == [("again", 1), ("web", 1)]
    write_jsonl(tmp_path / "raw" / "bad.jsonl", [{"id": "a", "text": "mended"}])
    tamis.run(config, "small")
    run = tamis.run(config, "small", overrides=["flows.small.corpus=again"])
    assert run.exit_code == 0 and ask(run, "from quarantine") == []
