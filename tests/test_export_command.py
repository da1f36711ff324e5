"""Other forms of what a run chose, and the same choice on another copy of the corpus."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
import tamis
import yaml
from small_flow import chosen, documents, make_case, stages, write_jsonl
from small_tokens import TWINS, token_case
from tamis.pipelines import cli
from tamis.storage.errors import ConfigError, InputError
from tamis.storage.processes import HOST
from tamis.storage.verify import verify


@pytest.fixture
def call(capsys):
    def run(config, *arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(["export", *arguments, "-c", str(config), "-q"])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_a_run_is_written_in_another_form_without_running_again(tmp_path, call):
    config = token_case(tmp_path, forms=())
    run = tamis.run(config, "small")
    config.write_text(config.read_text().replace("dedup: exact", "dedup: exactly"))  # it is not asked
    options = ["--format", "tokens", "--tokenizer", "tokenizer.json", "--shard-bytes", "4KB"]
    code, out, err = call(config, "small", *options, "-o", str(tmp_path / "out"), "--json")
    assert code == 0, err
    record = json.loads(out)
    assert {s["name"] for s in record["stages"]} == {"feature tokens", "export tokens"}
    (manifest,) = record["outputs"]
    assert (manifest["run"], manifest["rows"], manifest["mixture"]) == (run.id, run.steps[-1]["kept"], "small")
    folder = run.lake.mixture("small", manifest["key"])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()
    }
    again = json.loads(call(config, run.id[-8:], *options, "-o", str(tmp_path / "out"), "--json")[1])
    assert again["outputs"] == record["outputs"] and sum(s["computed"] for s in again["stages"]) == 0
    assert list(verify(run.lake)) == []
    listed = tamis.sql(run.lake, "select format, run, documents from mixtures").fetchall()
    assert listed == [("tokens", run.id, manifest["rows"])]


def test_the_form_of_a_flow_and_that_of_the_command_are_one(tmp_path):
    config = token_case(tmp_path)
    run = tamis.run(config, "small")
    output = {"format": "tokens", "tokenizer": "tokenizer.json", "shard_bytes": 4_000}
    assert tamis.export(config, "small", [output]).outputs == run.outputs


def test_the_newest_run_is_taken_with_its_own_configuration(tmp_path):
    config = make_case(tmp_path, steps=TWINS)
    tamis.run(config, "small")
    narrow = {"name": "some", "select": "random", "cut": {"budget": {"documents": 7}}}
    config = make_case(tmp_path, steps=[*TWINS, narrow])
    run = tamis.run(config, "small", overrides=["seed=4"])
    (folder,) = tamis.export(config, "small", [{"format": "ids"}]).outputs
    assert pq.read_table(folder / "ids.parquet").column("doc_id").to_pylist() and sorted(
        pq.read_table(folder / "ids.parquet").column("doc_id").to_pylist()
    ) == chosen(run)
    assert json.loads((folder / "manifest.json").read_text())["seed"] == 4


@pytest.mark.parametrize(("arguments", "message"), [
    (["smal"], "did you mean 'small'"), ([], "either a flow or run, or both"), (["small", "--corpus", "web"], "either"),
    (["small", "--format", "parquets"], "format"), (["small", "--format", "tokens"], "'words' only counts"),
    (["small", "--end", "0"], "belongs to the formats"), (["--replay", "x.parquet", "--corpus", "wep"], "'web'"),
])  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, call, arguments, message):
    config = make_case(tmp_path, steps=TWINS)
    tamis.run(config, "small")
    code, out, err = call(config, *arguments)
    assert (code, out) == (2, "") and message in err and "Traceback" not in err


def test_another_mixture_is_not_written_over(tmp_path):
    config = make_case(tmp_path, steps=TWINS)
    tamis.run(config, "small")
    tamis.export(config, "small", [{"format": "ids"}], folder=tmp_path / "out")
    with pytest.raises(ConfigError, match="holds another mixture"):
        tamis.export(config, "small", [{"format": "parquet"}], folder=tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        tamis.export(config, "small", [{"format": "parquet"}], folder=tmp_path / "mine")
    with pytest.raises(ConfigError, match="expected one"):
        tamis.export(config, "small", [], folder=tmp_path / "none")


def exported_ids(folder):
    """Run a flow that draws by lot, and return the run and its list of ids."""
    config = make_case(folder)
    run = tamis.run(config, "small", overrides=["flows.small.outputs=[{format: parquet}, {format: ids}]"])
    return run, run.outputs[1] / "ids.parquet"


def texts(folder):
    """Return id, text and score of a mixture's documents."""
    table = pq.read_table(sorted(folder.glob("part-*.parquet"))).to_pylist()
    return sorted((r["id"], r["text"], r["score"]) for r in table)


def test_the_same_choice_is_made_from_another_copy(tmp_path, call):
    run, ids = exported_ids(tmp_path / "here")
    config = make_case(tmp_path / "there", files=2, corpora={"web": {"files": ["raw/*"], "shard_bytes": 5_000}})
    shutil.copy(ids, tmp_path / "ids.parquet")
    code, _, err = call(
        config, "--replay", str(tmp_path / "ids.parquet"), "--corpus", "web", "-o", str(tmp_path / "out")
    )
    assert code == 0, err
    assert texts(tmp_path / "out") == texts(run.outputs[0]) != []
    again = tamis.replay(config, tmp_path / "ids.parquet", "web", [{"format": "parquet"}])
    assert stages(again)["replay"] == (0, 1) and again.record.computed == 0
    query = "select reason, count(*) from selections where run = $1 and not kept group by 1"
    assert tamis.sql(again.lake, query, [again.id]).fetchall() == [("not in the list", 300 - run.steps[-1]["kept"])]


def test_other_ids_are_no_hindrance_and_copies_are_counted(tmp_path):
    """Of a text that the list has once and the copy twice one is taken; where the id is known, that one."""
    run, ids = exported_ids(tmp_path / "here")
    config = make_case(tmp_path / "there")
    (first, *_) = texts(run.outputs[0])
    renamed = [d if d["id"] == first[0] else {**d, "id": "z" + d["id"]} for d in documents(300)]
    copies = [{**d, "id": "a" + d["id"]} for d in documents(300)]
    for old in (tmp_path / "there" / "raw").iterdir():
        old.unlink()
    write_jsonl(tmp_path / "there" / "raw" / "one.jsonl", [*renamed, *copies])
    found = tamis.replay(config, ids, "web", [{"format": "parquet"}])
    assert [t[1:] for t in sorted(texts(found.outputs[0]), key=lambda t: t[1])] == [
        t[1:] for t in sorted(texts(run.outputs[0]), key=lambda t: t[1])
    ]
    names = {t[0] for t in texts(found.outputs[0])}
    assert first[0] in names and all(name.startswith("a") for name in names - {first[0]})
    assert found.exit_code == 0


def test_what_is_not_there_is_said(tmp_path):
    run, ids = exported_ids(tmp_path / "here")
    config = make_case(tmp_path / "there", n=150)
    found = tamis.replay(config, ids, "web", [{"format": "parquet"}])
    here, there = ({t[1] for t in texts(r.outputs[0])} for r in (run, found))
    assert there < here and found.exit_code == 3 and "listed documents are not in web" in found.record.warnings[0]


def test_a_file_that_is_no_list_is_refused(tmp_path):
    run, _ = exported_ids(tmp_path)
    for wrong in (run.outputs[0] / "part-00000.parquet", tmp_path / "flows.yaml", tmp_path / "nothing"):
        with pytest.raises(InputError, match="is no list of"):
            tamis.replay(tmp_path / "flows.yaml", wrong, "web")


def test_a_list_whose_mixture_is_no_name_is_refused(tmp_path):
    """What it names becomes a folder, and the file may come from anybody."""
    _, ids = exported_ids(tmp_path)
    table = pq.read_table(ids)
    for recipe in ('{"mixture": "../../evil"}', '{"mixture": "/tmp/evil"}', "{}", "[1]"):
        pq.write_table(table.replace_schema_metadata({b"tamis.recipe": recipe.encode()}), tmp_path / "evil.parquet")
        with pytest.raises(InputError, match="is no list of"):
            tamis.replay(tmp_path / "flows.yaml", tmp_path / "evil.parquet", "web", [{"format": "ids"}])


def test_a_choice_of_nothing_is_exported_and_made_again(tmp_path):
    config = make_case(tmp_path, steps=[{"name": "none", "filter": {"all": "stats.n_words > 1000000"}}])
    tamis.run(config, "small")
    (folder,) = tamis.export(config, "small", [{"format": "ids"}]).outputs
    assert pq.read_table(folder / "ids.parquet").num_rows == 0
    assert tamis.replay(config, folder / "ids.parquet", "web").steps[-1]["kept"] == 0


def test_a_replay_on_another_corpus_is_another_choice(tmp_path):
    config = make_case(tmp_path, corpora={"web": {"files": ["raw/*"]}, "twin": {"files": ["raw/*"]}})
    tamis.run(config, "small")
    (folder,) = tamis.export(config, "small", [{"format": "ids"}]).outputs
    for corpus in ("web", "twin"):
        run = tamis.replay(config, folder / "ids.parquet", corpus)
        assert tamis.sql(run.lake, "select distinct corpus from selections where run = $1", [run.id]).fetchall() == [
            (corpus,)
        ]


def test_a_flows_name_is_no_part_of_a_runs_id(tmp_path):
    config = make_case(tmp_path, steps=TWINS)
    suffix = tamis.run(config, "small").id[-2:]
    flows = {"small": {"corpus": "web", "steps": TWINS}, f"x{suffix}"[1:] if suffix.isalpha() else "e5": {
        "corpus": "web", "steps": TWINS}}  # fmt: skip
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"flows": flows}))
    other = next(name for name in flows if name != "small")
    with pytest.raises(ConfigError, match="no finished run"):
        tamis.export(config, other, [{"format": "ids"}])


def test_shards_are_no_larger_than_asked(tmp_path):
    config = make_case(tmp_path, n=600, steps=TWINS)
    tamis.run(config, "small")
    done = tamis.export(config, "small", [{"format": "parquet", "shard_bytes": 3_000}])
    (manifest,) = done.record.outputs
    assert len(manifest["files"]) > 5 and max(f["bytes"] for f in manifest["files"]) <= 3_000


def test_an_interrupted_copy_is_gone_on_with(tmp_path):
    """What a killed process left in the folder is whole, and its own: the same command finishes it."""
    config = make_case(tmp_path, steps=TWINS)
    tamis.run(config, "small")
    out = tmp_path / "out"
    out.mkdir()
    (written,) = tamis.export(config, "small", [{"format": "parquet"}]).outputs
    shutil.copy(written / "part-00000.parquet", out)
    (out / f"{HOST}~999999999~abc~card.md").write_bytes(b"")
    done = tamis.export(config, "small", [{"format": "parquet"}], folder=out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        p.name: p.read_bytes() for p in done.outputs[0].iterdir()
    }
    before = (out / "part-00000.parquet").stat()
    tamis.export(config, "small", [{"format": "parquet"}], folder=out)
    assert (out / "part-00000.parquet").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("name", ["README.md", "part-00000.parquet", "part-00001.parquet"])
def test_files_of_others_are_not_written_over(tmp_path, name):
    """Also where they have names that a mixture's files have."""
    config = make_case(tmp_path, steps=TWINS)
    tamis.run(config, "small")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_bytes(b"mine")
    with pytest.raises(ConfigError, match="is not empty"):
        tamis.export(config, "small", [{"format": "parquet"}], folder=tmp_path / "mine")
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "mine").iterdir()] == [(name, b"mine")]
