"""The shape of the repository: folders and their one direction, who may open files, sizes, what `import tamis` does."""

import ast
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import tamis

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("storage", "features", "selectors", "pipelines")  # each imports itself and those before it
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))

TABLES = {"storage", "selectors", "pipelines"}  # the contracts of features speak Arrow and NumPy alone
ONLY_IN = {
    "polars": TABLES,
    "duckdb": TABLES,
    "prefect": {"pipelines"},
    "ray": {"pipelines"},
    "typer": {"pipelines"},
    "rich": {"pipelines"},
    "matplotlib": {"pipelines"},
}
# Calls that open a file, whatever object they are called on, but for `Lake.open`.
OPENING = {
    "open", "fdopen", "read_text", "read_bytes", "write_text", "write_bytes", "memory_map", "OSFile",
    "ParquetFile", "ParquetWriter", "read_table", "write_table", "scan_parquet", "read_parquet", "scan_csv", "read_csv",
    "safe_open", "save_file",
}  # fmt: skip
MAY_OPEN = {
    "pipelines/loading.py": "reads flows.yaml",
    "pipelines/runs.py": "appends to the log of its run",
    "pipelines/comparison_page.py": "reads what the page is made of, which is installed with it",
}


def test_there_are_files_to_examine():
    assert {path.parent.name for path in FILES} == set(FOLDERS)


def test_folders_are_flat_and_have_no_init():
    """`selectors/__init__.py` would hide the standard library's selectors from every program started here."""
    for folder in FOLDERS:
        assert not (ROOT / folder / "__init__.py").exists()
        assert [p.name for p in (ROOT / folder).iterdir() if p.is_dir() and p.name != "__pycache__"] == []


def test_no_file_is_named_like_a_module_of_the_standard_library():
    assert [str(path.relative_to(ROOT)) for path in FILES if path.stem in sys.stdlib_module_names] == []


def test_selectors_stays_the_standard_librarys_in_the_root():
    code = "import asyncio, selectors; print(selectors.__file__)"
    assert Path(output_of(code, ROOT).strip()).resolve() == Path(sysconfig.get_path("stdlib"), "selectors.py").resolve()


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_themselves_and_those_to_their_left(folder):
    allowed = set(FOLDERS[: FOLDERS.index(folder) + 1]) | {"__version__"}
    wrong = [f"{place} imports {name}" for place, name in inner_imports(folder) if name not in allowed]
    assert wrong == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_libraries_stay_in_their_folders(folder):
    wrong = [
        f"{where(path, node)} imports {name}"
        for path, node in nodes(folder)
        for name in outer_imports(node)
        if folder not in ONLY_IN.get(name, {folder})
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FOLDERS[1:])
def test_only_storage_opens_files(folder):
    wrong = [
        f"{where(path, node)} calls {ast.unparse(node.func)}"
        for path, node in nodes(folder)
        if isinstance(node, ast.Call) and opens_a_file(node.func) and str(path.relative_to(ROOT)) not in MAY_OPEN
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("open(p)", True),
        ("(folder / name).open('a')", True),
        ("pq.read_table(p)", True),
        ("Lake.open(p)", False),
        ("lake.read(p)", False),
    ],
)
def test_what_counts_as_opening_a_file(code, expected):
    assert opens_a_file(ast.parse(code, mode="eval").body.func) is expected


def test_files_have_at_most_300_lines():
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    sizes = sorted(((n, name) for name, n in lines.items()), reverse=True)
    assert sizes[0][0] <= 300, f"the longest files: {sizes[:5]}"


def test_functions_have_at_most_60_lines():
    sizes = sorted(
        (
            (node.end_lineno - node.lineno + 1, f"{where(path, node)} {node.name}")
            for folder in FOLDERS
            for path, node in nodes(folder)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
        reverse=True,
    )
    assert sizes[0][0] <= 60, f"the longest functions: {sizes[:5]}"


def test_import_tamis_loads_nothing_heavy():
    code = "import sys, tamis; print(*{name.partition('.')[0] for name in sys.modules})"
    heavy = {"prefect", "torch", "duckdb", "polars", "pyarrow", "numpy", "numba"}
    assert not heavy & set(output_of(code, ROOT.parent).split())


@pytest.mark.parametrize("name", tamis.__all__)
def test_public_names_resolve(name):
    assert getattr(tamis, name) is not None


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sieve'"):
        tamis.sieve  # noqa: B018


def output_of(code, folder):
    """Return what a fresh Python prints that is started in a folder."""
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout


def nodes(folder):
    """Yield the path and every node of the files of a folder."""
    for path in FILES:
        if path.parent.name == folder:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield path, node


def where(path, node):
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def inner_imports(folder):
    """Yield the place and the folder (or root name) of every import within tamis."""
    for path, node in nodes(folder):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield where(path, node), folder
        elif isinstance(node, ast.ImportFrom) and node.level > 1:
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((where(path, node), module.partition(".")[0]) for module in modules)
        elif isinstance(node, ast.Import | ast.ImportFrom) and "tamis" in outer_imports(node):
            yield where(path, node), "tamis by its absolute name, which tools cannot follow"


def outer_imports(node):
    """Return the top-level names of the packages that an absolute import loads."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module.partition(".")[0]]
    return []


def opens_a_file(function):
    if isinstance(function, ast.Name):
        return function.id in OPENING
    return isinstance(function, ast.Attribute) and function.attr in OPENING and ast.unparse(function) != "Lake.open"
