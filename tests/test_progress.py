"""What people see of a stage while it goes on: documents, their speed and the time that is left."""

import io
import itertools

import pytest
from rich.console import Console
from tamis.pipelines import progress
from tamis.pipelines.progress import Reporter


@pytest.fixture
def clock(monkeypatch):
    """Twenty seconds pass between any two looks at the time."""
    ticks = itertools.count(0, 20)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks))


def test_lines_weigh_by_documents(clock, capsys):
    reporter = Reporter(console=Console(file=io.StringIO(), force_terminal=False))
    assert list(reporter.track("abc", [100, 300, 600], "feature x", "documents")) == list("abc")
    assert capsys.readouterr().err.splitlines() == [
        "feature x: 100 of 1,000 documents, 5 a second, about 180 s left",
        "feature x: 400 of 1,000 documents, 10 a second, about 60 s left",
    ]


def test_without_a_unit_the_items_are_counted(clock, capsys):
    reporter = Reporter(console=Console(file=io.StringIO(), force_terminal=False))
    assert list(reporter.track("ab", [1, 1], "ingest web")) == ["a", "b"]
    assert capsys.readouterr().err == "ingest web: 1 of 2, about 20 s left\n"


def test_a_terminal_shows_a_bar_with_the_speed():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    for _ in Reporter(console=console).track(range(50), [10] * 50, "score y", "documents"):
        pass
    shown = console.file.getvalue()
    assert "score y" in shown and "500/500" in shown and "documents/s" in shown


def test_quiet_is_quiet(clock, capsys):
    console = Console(file=io.StringIO(), force_terminal=True)
    assert list(Reporter(quiet=True, console=console).track("ab", [1, 1], "z")) == ["a", "b"]
    assert capsys.readouterr() == ("", "") and console.file.getvalue() == ""


def test_more_or_fewer_results_than_announced_are_an_error():
    reporter = Reporter(console=Console(file=io.StringIO(), force_terminal=False))
    with pytest.raises(ValueError, match="shorter"):
        list(reporter.track("a", [1, 1], "z"))
