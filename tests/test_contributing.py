"""The examples of CONTRIBUTING.md work as printed: inside the repository, and as entry points of another package."""

import re
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pytest
from tamis.storage.plugins import Registry

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.S))
ENTRY_POINTS = re.findall(r'\[project\.entry-points\."(tamis\.\w+)"\]\n(\w+) = "my_package\.(\w+):(\w+)"', TEXT)
TEXTS = ["aeiou aeiou", "banana", "12 34"]  # 10 of 10, 3 of 6 and 0 of 0 letters are vowels


@pytest.fixture
def in_repository(tmp_path, monkeypatch):
    """The files of the examples, as if they lay in the folders whose names they give."""
    for place, code in BLOCKS.items():
        path = tmp_path / place
        path.parent.mkdir()
        path.write_text(code, encoding="utf-8")
        package = import_module(f"tamis.{path.parent.name}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
    yield registries()
    for place in BLOCKS:
        sys.modules.pop(f"tamis.{place.removesuffix('.py').replace('/', '.')}", None)


@pytest.fixture
def in_another_package(tmp_path, monkeypatch):
    """The files of the examples in my_package, with absolute imports and the entry points of the example."""
    package = tmp_path / "my_package"
    package.mkdir()
    for place, code in BLOCKS.items():
        folder, name = place.split("/")
        code = code.replace("from ..features.vowels", "from .vowels").replace("from ..", "from tamis.")
        (package / name).write_text(code.replace("from .base", f"from tamis.{folder}.base"), encoding="utf-8")
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    lines = [f"[{group}]\n{name} = my_package.{module}:{kind}\n" for group, name, module, kind in ENTRY_POINTS]
    (info / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield registries()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def registries():
    """Return fresh registries: those of tamis remember what they found."""
    return Registry("Feature", "tamis.features", "feature"), Registry("Selector", "tamis.selectors", "selector")


def test_the_examples_are_found_in_the_text():
    assert list(BLOCKS) == ["features/vowels.py", "selectors/usual_vowels.py"]
    assert [name for _, name, _, _ in ENTRY_POINTS] == ["vowels", "usual_vowels"]


@pytest.mark.parametrize("home", ["in_repository", "in_another_package"])
def test_the_feature_measures(home, request):
    features, _ = request.getfixturevalue(home)
    vowels = features.find("vowels")
    counts = vowels().compute(documents())
    assert counts.to_pydict() == {"n_vowels": [10, 3, 0], "n_letters": [10, 6, 0]}
    assert counts.schema == vowels().columns
    yes = pa.record_batch({"text": pa.array(["yes"], pa.large_string())})
    assert replace(vowels(), with_y=True).compute(yes).column("n_vowels").to_pylist() == [2]


@pytest.mark.parametrize("home", ["in_repository", "in_another_package"])
def test_the_selector_fits_and_scores(home, request):
    _, selectors = request.getfixturevalue(home)
    selector = selectors.find("usual_vowels")()
    (feature,) = selector.needs.values()
    counts = feature.compute(documents())
    batch = pa.record_batch({f"{feature.name}.{name}": counts.column(name) for name in counts.schema.names})
    summary = selector.merge([selector.summarise(batch.slice(0, 1)), selector.summarise(batch.slice(1))])
    assert summary == selector.summarise(batch)
    state = selector.fit(summary, [], lambda purpose: 0)
    assert (state.n_vowels, state.n_letters) == (13, 16)
    table = selector.score(batch, state)
    assert table.column("score").to_pylist() == [-3 / 16, -5 / 16, None]
    assert table.column("reason").to_pylist() == [None, None, "no letters"]


def documents():
    return pa.record_batch({"text": pa.array(TEXTS, pa.large_string())})
