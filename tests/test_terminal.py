"""Data on a terminal is text: nothing in it is obeyed, moved or taken for what tamis itself says."""

import csv
import io
import json
import sys
import unicodedata

import pytest
import tamis
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from small_flow import make_case
from tamis.pipelines import cli
from tamis.pipelines.printing import as_json, complain, harmless, print_line, print_table
from tamis.pipelines.progress import Reporter

STEPS = [{"name": "clean", "filter": {"too_short": "stats.n_words >= 5"}}]
EVIL = [
    "\x1b[2J\x1b]0;owned\x07", "\x9b31m", "a\rb", "\x08\x7f", "\u202egnp.exe", "\u2066x\u2069", "[red]r[/red]",
    "\\[bold]b", "a\ntamis: all is well", "\x00", "\u2028", "\ufeff", "\U000e0041", "<script>alert(1)</script>",
]  # fmt: skip


def is_text(shown):
    return all(c.isprintable() or c in "\n\t\u200c\u200d" or unicodedata.category(c) == "Zs" for c in shown)


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zs", "Zl"])))
def test_no_text_is_obeyed_and_json_keeps_it(text):
    assert is_text(harmless(text)) and len(harmless(text)) == len(text)
    written = as_json({text: [text]}, indent=1)
    assert is_text(written)
    if text.isascii() or text == text.encode(errors="replace").decode():  # two halves are a whole
        assert json.loads(written) == {text: [text]}


def test_texts_of_people_stay():
    for text in ("héllo\tworld", "می\u200cخواهم", "क्\u200dष", "a\u00a0b", "日本語", "👩\u200d🚀"):
        assert harmless(text) == text


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_whatever_prints(evil, capsys):
    print_table(["x", evil], [[evil, 1]])
    print_line(evil)
    complain(evil)
    printed = capsys.readouterr()
    assert is_text(printed.out) and is_text(printed.err)
    for kept in ("[red]r[/red]", "\\[bold]b"):
        assert evil != kept or printed.out.count(kept) == 3
    assert "\ntamis: all" not in printed.out.partition("  1\n")[2] + printed.err


def test_progress_too():
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    reporter = Reporter(console=console)
    reporter.say("\x1b]0;owned\x07")
    with reporter.meter(2, "\x1b]0;owned\x07[red]n", "") as advance:
        advance(1, "\x1b]0;owned\x07")
    assert "\x1b]" not in console.file.getvalue() and "\x07" not in console.file.getvalue()


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    config = make_case(tmp_path_factory.mktemp("evil"), n=20, files=1, steps=STEPS)
    lines = [{"id": e, "source": e, "text": f"one two three four five {e}", e: e} for e in EVIL]
    lines += [{"text": e * 1000} for e in EVIL]
    bad = "\n".join(f'{{"{e}' for e in ("\x1b[2J", "\u202e"))
    text = "\n".join(map(json.dumps, lines)) + f'\n{{"id": "\x1b[2J"}}\n{bad}\n'
    (config.parent / "raw" / "\x1b[31mevil\u202e.jsonl").write_text(text, encoding="utf-8")
    return tamis.run(config, "small").lake


QUERIES = ["from documents", "from quarantine", 'select doc_id as "\x1b[2J", * from selections']
COMMANDS = [
    ["status"], ["verify"], ["clean"], ["compare", "small", "small", "--quiet"], ["status", "small"],
    *[["explain", e] for e in EVIL], ["explain", "--text", "one two three four five \x1b[2J"],
    *[["sql", q, *f] for q in QUERIES for f in ([], ["--json"], ["--format", "csv"])],
    *[["sql", "select 1", "--format", EVIL[0]], ["sql", EVIL[0]], ["explain", "--at", EVIL[0]], ["status", EVIL[0]]],
]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_command_shows_a_terminal_anything_but_text(lake, monkeypatch):
    for command in COMMANDS:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        with pytest.raises(SystemExit):
            cli.main([*command, "--lake", str(lake.root)])
        monkeypatch.undo()
        shown = terminal.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")  # rich: bold heads
        assert shown and is_text(shown), command


def test_pipes_and_files_get_data_as_they_are(lake, capsys, tmp_path):
    cli.app(["sql", "select distinct doc_id from documents where doc_id like 'a%'", "--format", "csv",
             "--lake", str(lake.root), "--output", str(tmp_path / "a.csv")], standalone_mode=False)  # fmt: skip
    found = (tmp_path / "a.csv").read_bytes().decode()
    assert sorted(csv.reader(io.StringIO(found, newline=""))) == [["a\ntamis: all is well"], ["a\rb"], ["doc_id"]]
