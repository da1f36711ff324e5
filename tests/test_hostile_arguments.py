"""Raw documents and paths as arguments of every command: a message, an exit code, and nothing is written elsewhere."""

import io
import socket

import pytest
import tamis
from small_flow import make_case
from tamis.pipelines import cli, prefect_server

STEPS = [{"name": "clean", "filter": {"too_short": "stats.n_words >= 5"}}]
DOCUMENT = "From: a\n\x1b[2J'; drop table runs; --\n${HOME} $(touch owned) `touch owned` {0} %s <script>\u202e " * 20
HOSTILE = [
    DOCUMENT,
    "",
    "../../etc",
    "/etc/passwd",
    "..",
    "x" * 300_000,
    "--",
    "-",
    "null",
    "CON",
    "a/b",
    "\x00",
    "*",
    "[",
    "🙂" * 50,
]
#: A command, with its argument in the place of None; and what makes it end before any work.
COMMANDS = {
    "run": ["run", None, "--no-prefect", "-q"],
    "plan": ["plan", None],
    "mix": ["mix", None, "-q"],
    "export": ["export", None, "-q"],
    "export run": ["export", "small", "--format", None, "-q"],
    "replay": ["export", "--replay", None, "--corpus", "web", "-q"],
    "replay corpus": ["export", "--replay", "flows.yaml", "--corpus", None, "-q"],
    "train-aux": ["train-aux", None, "-q"],
    "ingest": ["ingest", None, "-q"],
    "set key": ["ingest", "web", "-q", "--set", None],
    "set value": ["ingest", "web", "-q", "--set", "corpora.web.on_bad=", None],
    "status": ["status", None],
    "compare": ["compare", None, None],
    "compare by": ["compare", "small", "small", "-q", "--by", None],
    "diff": ["diff", None],
    "explain": ["explain", None],
    "explain text": ["explain", "--text", None],
    "explain at": ["explain", "--at", None],
    "explain run": ["explain", "doc-0-0001", "--run", None],
    "explain export": ["explain", "--token", "0", "--export", None],
    "list": ["list", None],
    "sql": ["sql", None],
    "sql format": ["sql", "select 1", "--format", None],
    "lake": ["status", "--lake", None],
    "config": ["plan", "small", "--config", None],
    "unknown": [None],
}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    config = make_case(tmp_path_factory.mktemp("arguments"), n=20, files=1, steps=STEPS)
    tamis.run(config, "small")
    return config


def everything(folder):
    """List the files; a run that was asked for by the empty name, which is a part of every id, may be there."""
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*")}
    return {name for name in found if not name.startswith(("lake/tmp", "lake/runs"))}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_argument_makes_a_traceback_or_a_file(case, command, monkeypatch, capsys):
    monkeypatch.chdir(case.parent)
    before = everything(case.parent)
    for hostile in HOSTILE:
        words = COMMANDS[command]
        if words[-2:-1] == ["corpora.web.on_bad="]:
            words = [*words[:-2], words[-2] + hostile]
        words = [hostile if word is None else word for word in words]
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        shown = capsys.readouterr()
        finds = command in ("explain text", "status", "sql", "list") or hostile in ("", "--", "-", "null")
        assert ended.value.code in (1, 2) or (finds and ended.value.code in (0, 3)), (words, shown)
        assert "Traceback" not in shown.err and "\x1b[2J" not in shown.err + shown.out
    assert everything(case.parent) == before


def test_servers_listen_on_this_machine_alone(monkeypatch):
    bound = []
    real = socket.socket.bind
    monkeypatch.setattr(socket.socket, "bind", lambda self, address: bound.append(address) or real(self, address))
    started = []

    class Started(Exception):
        pass

    def popen(command, **_):
        started.append(command)
        raise Started

    monkeypatch.setattr(prefect_server.subprocess, "Popen", popen)
    with pytest.raises(Started), prefect_server.own_server(io.BytesIO()):
        pass
    assert started[0][started[0].index("--host") + 1] == "127.0.0.1" and {a[0] for a in bound} == {"127.0.0.1"}
