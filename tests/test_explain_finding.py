"""Finding a document without its id: by a piece of its text, or by file and line as people type them."""

import json
import os

import pytest
import tamis
from small_flow import make_case, write_jsonl
from tamis.pipelines import cli
from tamis.pipelines.finding import explain_at, explain_text
from tamis.storage.errors import ConfigError


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finding")
    steps = [
        {"name": "twins", "dedup": "exact"},
        {"name": "some", "select": "random", "cut": {"budget": {"documents": 9}}},
    ]
    config = make_case(
        folder, n=60, corpora={"web": {"files": ["raw/*", "notes/*.txt"]}}, targets={},
        flows={"small": {"corpus": "web", "steps": steps}},
    )  # fmt: skip
    texts = ["Zürich 'quoted' 100%_ lines\nand more", *["five twins"] * 5, "two alike", "two alike", "[bold] \x1b[31m"]
    write_jsonl(folder / "raw" / "z.jsonl", [{"id": f"z{i}", "text": text} for i, text in enumerate(texts)])
    (folder / "raw" / "y.jsonl").write_text(
        '\n{"id": "y0", "text": "after an empty line"}\n{"text": "Gen\\u00e8ve broken\n'
    )
    (folder / "notes").mkdir()
    (folder / "notes" / "a:7.txt").write_text("a note in a file of its own")
    return config, tamis.run(config, "small")


def ids(told):
    return [one["doc_id"] for one in told["found"]]


def test_a_piece_of_text_finds_its_document_letter_for_letter(done):
    _, run = done
    for snippet in ("Zürich", "'quoted' 100%_", "lines\nand"):
        told = explain_text(run.lake, snippet)
        assert ids(told) == ["z0"] and told["n_hits"] == 1 and told["found"][0]["runs"][0]["run"] == run.id
        assert snippet in told["hits"][0]["text"]
    for snippet in ("zürich", "100_", "lines and"):
        with pytest.raises(ConfigError, match="no text in"):
            explain_text(run.lake, snippet)
    with pytest.raises(ConfigError, match="is empty"):
        explain_text(run.lake, "")


def test_a_few_hits_are_all_explained_and_many_are_listed(done):
    _, run = done
    assert ids(explain_text(run.lake, "two alike")) == ["z6", "z7"]
    told = explain_text(run.lake, "five twins")
    assert (
        told["n_hits"] == 5
        and told["found"] == []
        and [h["doc_id"] for h in told["hits"]] == [f"z{i}" for i in range(1, 6)]
    )


def test_unread_bytes_are_found_as_text_and_as_json_writes_it(done):
    _, run = done
    for snippet in ("Genève broken", "broken"):
        told = explain_text(run.lake, snippet)
        assert told["found"] == [] and [(q["file"], q["line"]) for q in told["quarantined"]] == [("raw/y.jsonl", 3)]


def test_bytes_beyond_utf_8_are_found_where_they_were_not_read(tmp_path):
    config = make_case(tmp_path, n=9, files=1, targets={},
                       flows={"small": {"corpus": "web", "steps": [{"name": "twins", "dedup": "exact"}]}})  # fmt: skip
    (tmp_path / "raw" / "bad.jsonl").write_bytes(b'{"id": "b", "text": "caf\xe9 au lait"}\n')
    lake = tamis.run(config, "small").lake
    (found,) = explain_text(lake, os.fsdecode(b"caf\xe9 au"))["quarantined"]
    assert (found["file"], found["line"]) == ("raw/bad.jsonl", 1)
    with pytest.raises(ConfigError, match="no text in"):
        explain_text(lake, os.fsdecode(b"caf\xe8 au"))


@pytest.mark.parametrize("arguments", [[], ["--text"], ["--at"], ["--run", "small", "--at"]])
@pytest.mark.parametrize("wrong", [
    os.fsdecode(b"\xff"), "\ud800", "\0", *(f"raw/z.jsonl:{line}" for line in ("", "²", "1²", "9" * 30, "9" * 5000)),
])  # fmt: skip
def test_what_cannot_be_is_refused_like_what_is_not_there(done, capsys, arguments, wrong):
    code, out, err = call(capsys, done[0], "explain", *arguments, wrong)
    assert (code, out) == (2, "") and err.startswith("tamis: ") and len(err.splitlines()) == 1


def test_a_line_is_found_as_people_type_its_file(done, monkeypatch, tmp_path):
    config, run = done
    raw = config.parent / "raw" / "z.jsonl"
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(config.parent)
    for name in ("raw/z.jsonl", raw, os.path.relpath(raw), "z.jsonl", "./z.jsonl", link / "raw" / "z.jsonl"):
        assert ids(explain_at(run.lake, f"{name}:1")) == ["z0"]
    monkeypatch.chdir(raw.parent)
    assert ids(explain_at(run.lake, "z.jsonl:9")) == ["z8"]
    assert ids(explain_at(run.lake, "y.jsonl:2")) == ["y0"]
    assert ids(explain_at(run.lake, "notes/a:7.txt")) == ["a:7"]
    for place, error in {
        "z.jsonl:0": "9 documents, from line 1 to 9", "y.jsonl:1": "1 documents, from line 2 to 2",
        "notes/a:7.txt:1": "is one document; leave the line out", "x.jsonl:1": "has read no file 'x.jsonl'",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=error):
            explain_at(run.lake, place)


def test_a_file_of_two_folders_wants_more_of_its_path(tmp_path):
    config = make_case(tmp_path, n=9, files=1, corpora={"web": {"files": ["raw/**/*.jsonl"]}}, targets={},
                       flows={"small": {"corpus": "web", "steps": [{"name": "twins", "dedup": "exact"}]}})  # fmt: skip
    for folder in ("one", "two"):
        write_jsonl(tmp_path / "raw" / folder / "x.jsonl", [{"id": folder, "text": folder}])
    run = tamis.run(config, "small")
    with pytest.raises(ConfigError, match=r"may be any of raw/one/x\.jsonl, raw/two/x\.jsonl"):
        explain_at(run.lake, "x.jsonl:1")
    assert ids(explain_at(run.lake, "two/x.jsonl:1")) == ["two"]


def test_a_file_that_was_read_again_speaks_of_today(tmp_path):
    config = make_case(tmp_path, n=9, files=1, corpora={"web": {"files": ["raw/*"]}}, targets={},
                       flows={"small": {"corpus": "web", "steps": [{"name": "twins", "dedup": "exact"}]}})  # fmt: skip
    write_jsonl(tmp_path / "raw" / "x.jsonl", [{"id": "old", "text": "before it changed"}])
    tamis.run(config, "small")
    write_jsonl(tmp_path / "raw" / "x.jsonl", [{"id": "new", "text": "after it changed"}])
    lake = tamis.run(config, "small").lake
    assert ids(explain_at(lake, "raw/x.jsonl:1")) == ["new"] == ids(explain_text(lake, "it changed"))
    ((old),) = explain_text(lake, "before it changed")["found"]
    assert [e["reason"] for e in old["excluded"]] == ["superseded file"] and len(old["runs"]) == 1


def call(capsys, config, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "-c", str(config)])
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def test_the_command(done, capsys):
    config, _ = done
    code, out, _ = call(capsys, config, "explain", "--text", "two alike")
    assert code == 0 and out.count("document  z") == 2 and "drawn by its key" in out and "stays" not in out
    assert "z7" in out and "is raw/z.jsonl line" in out
    code, out, _ = call(capsys, config, "explain", "--text", "two alike", "--no-reasons")
    assert code == 0 and "drawn by its key" not in out
    code, out, _ = call(capsys, config, "explain", "--text", "five twins")
    assert code == 2 and "5 documents have it" in out and "z5" in out
    code, out, _ = call(capsys, config, "explain", "--text", "five twins", "--json")
    assert code == 2 and json.loads(out)["n_hits"] == 5
    code, out, _ = call(capsys, config, "explain", "--at", "raw/y.jsonl:3")
    assert code == 0 and out.startswith("not read  raw/y.jsonl line 3   web: ")
    code, out, _ = call(capsys, config, "explain", "--at", "raw/z.jsonl:9", "--json")
    assert code == 0 and json.loads(out)["found"][0]["runs"][0]["steps"][-1]["why"]["kind"] == "chance"
    code, out, _ = call(capsys, config, "explain", "--at", "raw/z.jsonl:9")
    assert code == 0 and "\x1b" not in out
    for wrong in (["z0", "--text", "x"], ["--at", "x:1", "--text", "x"], ["z0", "--token", "3"], []):
        code, _, err = call(capsys, config, "explain", *wrong)
        assert code == 2 and "needs one of" in err
    assert call(capsys, config, "explain", "z99")[0] == 2
