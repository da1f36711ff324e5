"""What is handed on: the source distribution, the wheel that is made of it, and the packages that both ask for."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from minimum_versions import minima
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"].values()
REQUIREMENTS = [Requirement(r) for r in [*PROJECT["dependencies"], *(r for extra in EXTRAS for r in extra)]]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
PINNED = {canonicalize_name(name): Version(version) for name, version in PINS.items()}
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "*.egg-info", "lake", "__pycache__", ".*_cache", ".hypothesis"
)


def test_every_requirement_is_pinned_within_its_bounds():
    wrong = [str(r) for r in REQUIREMENTS if PINNED.get(canonicalize_name(r.name), Version("0")) not in r.specifier]
    assert wrong == []


@pytest.mark.skipif("minimum" in Path(sys.prefix).name, reason="the packages here are the oldest, not the pinned ones")
def test_all_that_the_requirements_require_is_pinned_too():
    seen, todo = set(), [(canonicalize_name(r.name), frozenset(r.extras)) for r in REQUIREMENTS]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            needs = [Requirement(need) for need in requires(name) or []]
        except PackageNotFoundError:
            continue  # of another system, or not installed here
        todo += [
            (canonicalize_name(r.name), frozenset(r.extras))
            for r in needs
            if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in {"", *extras})
        ]
    assert len(seen) > 150
    assert {name for name, _ in seen} - set(PINNED) - {"setuptools", "pip", "wheel"} == set()


def test_every_package_has_a_lowest_version():
    lowest = minima(PROJECT)
    assert {canonicalize_name(name) for name in lowest} < {canonicalize_name(r.name) for r in REQUIREMENTS}
    assert all(Version(version) <= PINNED[canonicalize_name(name)] for name, version in lowest.items())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution of a copy of this checkout, and the wheel that is made of the former alone."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "checkout", ignore=LEFT_BEHIND)
    run(sys.executable, "-m", "build", "--outdir", folder, folder / "checkout")
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_what_is_built_holds_everything_installs_and_runs(built, tmp_path):
    """One test, so that it is built once whatever process runs it."""
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    here = {str(path.relative_to(ROOT)) for path in files_of_the_checkout()}
    assert here - inside == {".gitignore"} & here
    holds_what_is_imported(wheel)
    runs_from_an_empty_folder(wheel, tmp_path)


def files_of_the_checkout():
    """Yield the files that git would show, also where this is no repository."""
    for top in sorted(ROOT.iterdir()):
        if top.name not in LEFT_BEHIND(str(ROOT), [top.name]) and top.name not in ("PKG-INFO", "setup.cfg"):
            found = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
            yield from (path for path in found if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts))


def holds_what_is_imported(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (place,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = Metadata.from_email(archive.read(place), validate=True)
        assert f"{place.rpartition('/')[0]}/licenses/LICENSE" in archive.namelist()
    folders = ("storage", "features", "selectors", "pipelines")
    data = (path for folder in folders for path in (ROOT / folder).iterdir() if path.suffix != ".py" and path.is_file())
    modules = (path for folder in folders for path in (ROOT / folder).glob("*.py"))
    assert names == {f"tamis/{path.relative_to(ROOT)}" for path in [ROOT / "__init__.py", *modules, *data]}
    assert (metadata.name, metadata.license_expression) == ("tamis", "Apache-2.0")
    assert {str(r) for r in metadata.requires_dist if r.marker is None} == {
        str(Requirement(r)) for r in PROJECT["dependencies"]
    }


def runs_from_an_empty_folder(wheel, folder):
    """Install the wheel alone, beside the packages that are there, and run a flow where nothing else is."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    beside = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "beside.pth").write_text("".join(f"{path}\n" for path in beside))
    python = folder / "venv" / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        wheel,
    )
    empty = folder / "empty"
    empty.mkdir()
    for name in ("one", "two"):
        (empty / f"{name}.txt").write_text(f"the text of {name}")
    flow = {"corpus": "notes", "steps": [{"name": "some", "select": "random", "cut": {"budget": {"documents": 1}}}]}
    config = {"version": 1, "tokenizer": "bytes", "corpora": {"notes": {"files": ["*.txt"]}}, "flows": {"tiny": flow}}
    (empty / "flows.yaml").write_text(yaml.safe_dump(config))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    said = run(python.with_name("tamis"), "run", "tiny", "--no-prefect", "--json", cwd=empty, env=environment)
    assert '"done"' in said
    where = run(python, "-c", "import tamis; print(tamis.__file__)", cwd=empty, env=environment).strip()
    assert Path(where).is_relative_to(packages)
