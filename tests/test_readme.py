"""What the README says is so: its example runs, its tables and lists are those of the code."""

import re
from pathlib import Path
from typing import get_args

import pytest
import tamis
import yaml
from small_flow import make_case
from small_tokens import token_export
from tamis.features.registry import REGISTRY as FEATURES
from tamis.pipelines.alarm_limits import AlarmLimits
from tamis.pipelines.cli import app
from tamis.pipelines.config import Config
from tamis.pipelines.loading import load_config
from tamis.pipelines.outputs import Output
from tamis.selectors.registry import REGISTRY as SELECTORS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLANNING = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")


def block(language, containing=""):
    found = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.S) if containing in b]
    assert len(found) == 1, (language, containing)
    return found[0]


def first_cells(header, page=README):
    """Return the first cell of each row of the table with this header."""
    table = page[page.index(f"| {header} |") :].split("\n\n")[0].splitlines()[2:]
    return [re.match(r"\| `([^`]+)`", row)[1] for row in table]


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    config = make_case(tmp_path)
    config.write_text(config.read_text().replace("small:", "demo:"))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block("python", "tamis.run("), "README.md", "exec"), names)
    assert names["chosen"].height == names["run"].steps[-1]["kept"] > 0
    assert str(names["run"].outputs[0]) in capsys.readouterr().out
    assert isinstance(names["run"], tamis.Run)


def test_the_training_example_runs(tmp_path, monkeypatch):
    (tmp_path / "tokens").symlink_to(token_export(tmp_path, shard_bytes=10**6)[1])
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block("python", "torch_dataset").replace("2048", "64"), "README.md", "exec"), names)
    assert names["epoch"] == names["data"].epoch == 1 and names["batch"]["input_ids"].shape[1] == 64


def test_the_forms_of_outputs_are_listed():
    table = README[README.index("`format` of an") :].split("\n\n")[0]
    cells = re.findall(r"^\| (`[^|]+`) \| ", table, re.M)
    listed = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    assert listed - {"format"} == set(get_args(Output.model_fields["format"].annotation))


def test_the_flow_is_a_valid_configuration():
    config = Config.model_validate(yaml.safe_load(block("yaml", "version: 1")))
    assert [s.name for s in config.flows["code"].steps] == ["clean", "twins", "near_code"]


def test_the_mixture_is_one_of_that_configuration():
    blocks = [yaml.safe_load(block("yaml", start)) for start in ("version: 1", "mixtures:")]
    config = Config.model_validate(blocks[0] | blocks[1])
    parts = config.mixtures["v1"].parts
    assert {part.flow for part in parts} - {None} <= config.flows.keys()
    assert {part.corpus for part in parts} - {None} <= config.corpora.keys()


def test_the_repositorys_own_configuration_is_valid():
    config = load_config(ROOT / "flows.yaml").config
    assert {"demo", "demo_random"} <= config.flows.keys()
    assert config.alarms == AlarmLimits() and config.alarms.model_fields_set == AlarmLimits.model_fields.keys()


def test_the_tables_list_what_there_is():
    assert first_cells("selector") == list(SELECTORS.names())
    assert first_cells("feature") == list(FEATURES.names())
    assert first_cells("alarm", PLANNING) == list(AlarmLimits.model_fields)
    commands = {c.name for c in app.registered_commands} | {f"catalog {c.name}" for g in app.registered_groups
                                                            for c in g.typer_instance.registered_commands}  # fmt: skip
    assert {
        re.sub(r" (\[?[A-Z_]+\]?)$", "", cell.removeprefix("tamis ")) for cell in first_cells("command")
    } == commands


def test_the_layout_is_the_folders():
    layout = README[README.index("## Layout") :].split("```")[1]
    listed = re.findall(r"^(\S+?)/?\s{2,}", layout, re.M)
    assert all((ROOT / name).exists() for name in listed)
    folders = {
        p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] != "." and [*p.glob("*.py"), *p.glob("*.ipynb")]
    }
    assert folders == set(listed) - {"docs", "flows.yaml"}


@pytest.mark.parametrize(
    "name", re.findall(r"`([a-z_, ]+)`", README[README.index("The catalogue has") :].split("\n\n")[0])
)
def test_the_catalogue_has_what_is_listed(tmp_path_factory, name):
    lake = tmp_path_factory.getbasetemp() / "readme-lake"
    if not lake.exists():
        from tamis.storage.catalog import build_catalog
        from tamis.storage.lake import Lake

        build_catalog(Lake.open(lake, create=True))
    for view in name.split(", "):
        assert tamis.sql(lake, f"from {view}").columns


def test_the_make_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"^make (\w+)", block("sh", "make demo"), re.M):
        assert re.search(rf"^{command}:", makefile, re.M)
