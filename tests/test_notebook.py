"""The notebook of `examples/` runs whole in a fresh folder, its tables are the lake's, and it is stored clean."""

import json
import shutil
import sys
from pathlib import Path

import nbclient
import nbformat
import polars as pl
import pytest
import tamis

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "compare.ipynb"
FLOWS = ["demo", "demo_random", "demo_diverse"]
SHOWN = """
import json

frames = {"overlap": overlap, "only": only, "kinds": kinds, "measures": measures}
frames["steps"] = pl.DataFrame([{key: step[key] for key in ("flow", "step", "kept", "rank")} for step in steps])
ids = {"runs": {flow: run.id for flow, run in runs.items()}}
print(json.dumps({name: frame.to_dicts() for name, frame in frames.items()} | ids))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("clone")
    (made / "examples").mkdir()
    shutil.copy(ROOT / "flows.yaml", made)
    return made


@pytest.fixture(scope="module")
def executed(folder):
    """Execute the notebook and a cell that prints its variables, by a kernel of this Python and nobody's settings."""
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps({
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "this Python", "language": "python",
            "env": {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "IPYTHONDIR": str(folder / "ipython")},
        })
    )  # fmt: skip
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(SHOWN, id="shown"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder / "examples"}})
        client.execute()
    return {cell.id: cell for cell in notebook.cells}


@pytest.fixture(scope="module")
def shown(executed):
    return json.loads(executed["shown"].outputs[0].text)


def ask(folder, query, *parameters):
    return tamis.sql(folder / "lake", query, list(parameters)).pl()


def kept(folder, shown, flow):
    return ask(folder, "select doc_id, n_tokens from selections where run = $1 and kept", shown["runs"][flow])


def test_it_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 8
    assert [cell.id for cell in code if cell.outputs or cell.execution_count] == []
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}


def test_every_cell_shows_something_and_nothing_else_is_printed(executed):
    code = [cell for cell in executed.values() if cell.cell_type == "code" and cell.id not in ("imports", "shown")]
    kinds = {cell.id: [output.output_type for output in cell.outputs] for cell in code}
    plots = {name for name in kinds if name.endswith("-plot")}
    assert len(plots) == 3
    assert kinds == {name: ["display_data"] if name in plots else ["execute_result"] for name in kinds}
    assert all("image/png" in executed[name].outputs[0].data for name in plots)


def test_its_tables_are_those_of_the_lake(folder, shown):
    assert list(shown["runs"]) == FLOWS, "the development set has the vectors of demo_diverse"
    ids = {flow: set(kept(folder, shown, flow)["doc_id"]) for flow in FLOWS}
    (overlap,) = shown["overlap"]
    assert overlap["documents_both"] == len(ids["demo"] & ids["demo_random"])
    assert {row["doc_id"] for row in shown["only"]} == ids["demo"] - ids["demo_random"]
    kinds = pl.DataFrame(shown["kinds"])
    for flow in FLOWS:
        mine = kinds.filter(pl.col("choice") == flow)
        assert mine["tokens"].sum() == kept(folder, shown, flow)["n_tokens"].sum()
        assert mine["share"].sum() == pytest.approx(1)
    assert kinds.filter(pl.col("choice") == "corpus")["documents"].sum() == ask(folder, "from documents").height


def test_its_measures_tell_the_choice_by_target_from_the_lot(shown):
    """How far choices by lot lie apart follows the packages that are installed, whose text the pool is."""
    measures = {row["measure"]: row for row in shown["measures"]}
    unseen, mauve = measures["KL reduction, unseen part"], measures["MAUVE"]
    for row in (unseen, mauve):
        assert row["target"] == "readme" and row["better"] == "higher"
        assert row["low"] <= row["by lot"] <= row["high"]
    assert unseen["by lot"] < unseen["demo"] and mauve["high"] < mauve["demo"]
    assert all(row.keys() >= set(FLOWS) for row in shown["measures"])


def test_its_page_is_written(folder, executed):
    page = folder / "build" / "compare.html"
    assert page.as_uri() in executed["page"].outputs[0].data["text/plain"]
    assert all(flow in page.read_text(encoding="utf-8") for flow in FLOWS)


def test_its_explanation_is_of_a_document_that_only_the_demo_chose(folder, shown, executed):
    last = {step["flow"]: step for step in shown["steps"]}
    assert last["demo"]["kept"] and last["demo"]["step"] == "readme_like" and not last["demo_random"]["kept"]
    assert last["demo"]["rank"] == shown["only"][0]["rank"]
    assert "n-gram" in executed["why"].outputs[0].data["text/html"]
