"""The command line: data on stdout, complaints on stderr, exit codes as documented."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from small_flow import make_case
from tamis.features.registry import REGISTRY as FEATURES
from tamis.pipelines import cli
from tamis.pipelines.compiling import COMPILING
from tamis.selectors.registry import REGISTRY as SELECTORS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def config(tmp_path):
    return make_case(tmp_path)


@pytest.fixture
def call(config, capsys):
    """Call the command line with the small configuration; return exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "-c", str(config)])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_run_prints_what_it_did_and_where_to_look(call):
    code, out, err = call("run", "small", "--no-prefect")
    assert code == 0
    assert "300 documents + 0 quarantined" in out and "like_code" in out and "tamis sql" in out
    assert err.strip() in ("", COMPILING)


def test_run_status_and_list_speak_json(call):
    code, out, _ = call("run", "small", "--no-prefect", "--json")
    record = json.loads(out)
    assert (code, record["status"], record["flow"]) == (0, "done", "small")
    assert [s["name"] for s in record["steps"]] == ["clean", "twins", "like_code"]
    again = json.loads(call("run", "small", "--no-prefect", "--json")[1])
    assert sum(s["computed"] for s in again["stages"]) == 0
    runs = json.loads(call("status", "--json")[1])
    assert [r["run"] for r in runs] == [record["run"], again["run"]]
    one = json.loads(call("status", again["run"], "--json")[1])
    assert one["stages"] and all(s["computed"] == 0 for s in one["stages"])
    names = {(p["kind"], p["name"]) for p in json.loads(call("list", "--json")[1])}
    assert {("selector", "dsir"), ("feature", "text_stats"), ("flow", "small")} <= names


@pytest.mark.parametrize("name", [*SELECTORS.names(), *FEATURES.names()])
def test_a_plugin_is_explained_with_every_parameter(call, name):
    found = json.loads(call("list", name, "--json")[1])
    plugin = (SELECTORS if found["kind"] == "selector" else FEATURES).find(name)
    assert found["name"] == name and found["about"].startswith(plugin.__doc__.strip().split("\n")[0])
    names = dict.fromkeys(p["name"].partition(".")[0] for p in found["parameters"])
    assert [*names] == [f.name for f in dataclasses.fields(plugin)]
    assert [p["name"] for p in found["parameters"] if not p["about"] or not p["values"]] == []
    printed = call("list", name)[1]
    assert all(p["name"] in printed for p in found["parameters"])


def test_a_plugin_that_there_is_not_gets_the_nearest_name(call):
    code, _, error = call("list", "zipfit")
    assert code == 2 and "did you mean 'zip_fit'?" in error


def test_sql_prints_tables_csv_and_json(call):
    call("ingest", "web")
    query = "select corpus, documents from corpora"
    assert json.loads(call("sql", query, "--json")[1]) == [{"corpus": "web", "documents": 300}]
    assert call("sql", query, "-f", "csv")[1].split() == ["corpus,documents", "web,300"]
    assert "300" in call("sql", query)[1]
    code, out, err = call("sql", "select nonsense")
    assert (code, out) == (2, "") and "the query failed" in err


@pytest.mark.parametrize("query", [
    "copy runs to 'stolen.csv'", "drop view selections", "attach 'x.db'", "install httpfs", "set threads = 1",
    "create table t as from runs", "select 1; drop view selections", "pragma database_list", "",
    "explain analyze copy (select 1) to 'stolen.csv'", "explain /* */ analyze copy (select 1) to 'stolen.csv'",
])  # fmt: skip
def test_sql_only_reads(call, tmp_path, monkeypatch, query):
    monkeypatch.chdir(tmp_path)
    call("ingest", "web")
    before = sorted(p.name for p in tmp_path.iterdir())
    code, out, _ = call("sql", query)
    assert (code, out) == (2, "")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "query", ["from runs", "describe documents", "explain from runs", "with x as (select 1 i) from x", "show tables"]
)
def test_sql_reads_in_every_way(call, query):
    call("ingest", "web")
    assert call("sql", query)[0] == 0


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "smal", "--no-prefect"], "did you mean 'small'"),
    (["ingest", "webb"], "did you mean 'web'"),
    (["run", "small", "--set", "flows.small.stepss=[]"], "did you mean 'steps'"),
    (["run", "small", "--set", "corpora.web.files=[nowhere/*]"], "nowhere/*"),
    (["run", "small", "--set", "flows.small.steps.like_code.select=dsirr"], "did you mean 'dsir'"),
    (["run", "small", "--set", "flows.small.steps.like_code.with={ngram: 3}"], "did you mean 'ngrams'"),
    (["run", "small", "--set", "flows.small.steps.like_code.target=cod"], "did you mean 'code'"),
    (["run", "small", "--set", "flows.small.steps.clean.filter.too_short=stats.words > 3"], "did you mean"),
    (["run", "small", "--set", "features.stats.use=text_stat"], "did you mean 'text_stats'"),
    (["run", "small", "--set", "tokenizer=nowhere.json"], "tokenizer"),
])  # fmt: skip
def test_what_is_wrong_is_said_before_any_work(call, tmp_path, arguments, message):
    code, out, err = call(*arguments)
    assert code == 2
    assert message in err and "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "lake").exists()


def test_a_lake_that_is_none_is_left_alone(call, tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "letters.txt").write_text("mine")
    code, _, err = call("run", "small", "--no-prefect")
    assert code == 1 and "not empty" in err
    assert [p.name for p in (tmp_path / "lake").iterdir()] == ["letters.txt"]


def test_a_budget_that_cannot_be_met_ends_with_3(call):
    code, out, _ = call("run", "small", "--no-prefect", "--set", "flows.small.steps.like_code.cut.budget.tokens=1B")
    assert code == 3 and "is not met" in out


def test_verify_and_catalog_rebuild(call, tmp_path):
    call("run", "small", "--no-prefect")
    code, out = call("verify")[:2]
    n_files = int(out.removeprefix("nothing is damaged in ").removesuffix(" files\n"))
    assert code == 0 and n_files > 20
    (tmp_path / "lake" / "catalog.duckdb").unlink()
    code, _, err = call("sql", "from runs")
    assert code == 1 and "catalog rebuild" in err
    assert call("catalog", "rebuild")[0] == 0
    assert len(json.loads(call("sql", "from runs", "--json")[1])) == 1
    next((tmp_path / "lake" / "corpora" / "web" / "shards").glob("*")).write_bytes(b"PAR1 no")
    code, out, _ = call("verify")
    assert code == 1 and "does not have the digest" in out and "tamis repair" in out


def test_the_schema_accepts_what_the_tool_accepts(capsys, config):
    with pytest.raises(SystemExit) as ended:
        cli.main(["schema"])
    assert ended.value.code == 0
    validator = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    for path in (config, ROOT / "flows.yaml"):
        tree = yaml.safe_load(path.read_text())
        assert list(validator.iter_errors(tree)) == []
    tree["flows"]["demo"]["stepss"] = []
    assert not validator.is_valid(tree)


@pytest.mark.parametrize("lake", ["flows.yaml", "/proc/nothing", "flows.yaml/below"])
def test_a_lake_that_cannot_be_made_is_one_message(call, lake):
    code, _, err = call("run", "small", "--no-prefect", "--set", f"lake={lake}")
    assert code == 1 and "Traceback" not in err and lake.split("/")[-1] in err


def test_without_prefect_nothing_heavy_is_loaded(config):
    code = ("import sys; from tamis.pipelines import cli\ntry: cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
            "print([m for m in ('prefect', 'torch') if m in sys.modules], file=sys.stderr)")  # fmt: skip
    command = [sys.executable, "-c", code, "run", "small", "--no-prefect", "-q", "-c", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stderr == "[]\n"


def test_under_prefect_a_flow_run_with_a_task_a_stage(config):
    """The one test that starts Prefect: a server, a flow run, artifacts; no process is left behind."""
    code = """
import sys
from tamis.features.registry import REGISTRY as FEATURES
from tamis.pipelines import cli
try: cli.main(sys.argv[1:])
except SystemExit as ended: assert not ended.code
from prefect.client.orchestration import get_client
from tamis.pipelines.prefect_flow import temporary_server
with temporary_server(), get_client(sync_client=True) as client:
    (flow_run,) = client.read_flow_runs()
    names = sorted(t.name for t in client.read_task_runs())
    print(flow_run.state.name, flow_run.state.message, names, file=sys.stderr)
"""
    command = [sys.executable, "-c", code, "run", "small", "-q", "-c", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stderr.startswith("Completed ") and "documents" in ended.stderr
    for task in (
        "ingest web",
        "ingest targets/code",
        "feature tokens",
        "feature stats",
        "filter clean",
        "dedup twins",
        "summarise like_code",
        "fit like_code",
        "score like_code",
        "cut like_code",
        "export parquet",
    ):
        assert f"'{task}'" in ended.stderr
    assert "done" in ended.stdout
