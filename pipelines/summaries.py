"""What the commands print: tables for people, JSON for programs, always on stdout."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from ..features.registry import REGISTRY as FEATURES
from ..selectors.registry import REGISTRY as SELECTORS
from ..storage.catalog import connect, reads_only
from ..storage.errors import ConfigError
from ..storage.lake import Lake
from ..storage.plugins import nearest
from ..storage.publish import json_ready
from ..storage.verify import Damage
from .api import Run
from .describing import describe
from .loading import load_config
from .runs import RunRecord, load_runs

ROWS_SHOWN = 1_000
CELL_SHOWN = 200
QUERY_FORMATS = ("table", "csv", "json")


def print_run(run: Run, as_json: bool) -> None:
    """Print what a run did and where to look next."""
    record = run.record
    if as_json:
        print_json({**asdict(record), "exit_code": run.exit_code})
        return
    _print_record(record)
    for step in record.steps:
        if found := step.get("clusters"):
            _line(f"clusters  {step['name']}: {found['n_clusters']:,}, {found['empty_clusters']:,} empty; "
                  + " and ".join(_short(run.lake.root / found[name]) for name in ("table", "map")))  # fmt: skip
    for model in record.models:
        _line(f"model     {model['name']}: {_short(Path(model['folder']))} and curve.png beside it")
    for folder in run.outputs:
        _line(f"mixture   {_short(folder)}")
    if record.steps:
        _line("\nlook next")
        _line(f"  {_command()} status {record.run} --lake {_short(run.lake.root)}")
        query = (
            f"select step, kept, reason, count(*) as documents from selections where run = '{record.run}' group by all"
        )
        _line(f'  {_command()} sql --lake {_short(run.lake.root)} "{query}"')


def _print_record(record: RunRecord) -> None:
    """Print the parts of a record that people ask for."""
    _line(f"run       {record.run}   {record.flow}   {record.status if record.finished else 'done'}")
    if record.counts:
        c = record.counts
        parts = " + ".join(f"{c[kind]:,} {kind}" for kind in ("documents", "quarantined", "excluded"))
        _line(f"{record.corpus:9} {parts} = {c['records']:,} records in {c['files']:,} files")
    if record.steps:
        rows = [[s["name"], _kind(s), s["entered"], s["kept"], s["tokens_kept"], _why(s)] for s in record.steps]
        _table(["step", "kind", "entered", "kept", "tokens kept", "dropped"], rows)
        for step in record.steps:
            for name, value in (step.get("health") or {}).items():
                _line(f"  {step['name']}: {name.replace('_', ' ')} {_number(value)}")
    if record.models:
        rows = [[m["name"], m["parameters"], m["tokens"], *(m["held_out"] or (None, None)), m["loss"], m["seconds"],
                 m["tokens"] / max(m["seconds"], 0.1)] for m in record.models]  # fmt: skip
        _table(["model", "parameters", "tokens", "held out before", "after", "loss", "seconds", "tokens/s"], rows)
    if record.mixture:
        _print_shares(record.mixture)
    for warning in record.warnings:
        _line(f"warning   {warning}")


def _print_shares(mixture: dict[str, Any]) -> None:
    """Print what each share of a mixture was asked for and has."""
    _line(f"{mixture['name']:9} {mixture['achieved']:,} of {mixture['budget']:,} tokens, "
          f"{mixture['documents']:,} documents, {mixture['copies']:,} with their copies")  # fmt: skip
    names = ["part", "source", "weight", "available", "wanted", "asked", "achieved", "epochs", "documents"]
    rows = [[share[name] for name in names] for share in mixture["parts"][:ROWS_SHOWN]]
    _table(names, rows)
    for origin in mixture["origins"]:
        if origin["lost"]:
            _line(f"  {origin['part']}: {origin['lost']:,} documents are not counted: {mixture['rule']}")


def _kind(step: dict[str, Any]) -> str:
    return str(step.get("selector") or step["kind"])


def _why(step: dict[str, Any]) -> str:
    kept = "kept but flagged: " if step.get("action") == "flag" and step["reasons"] else ""
    return kept + ", ".join(f"{n:,} {reason}" for reason, n in step["reasons"].items())


def print_status(lake: Lake, wanted: str | None, as_json: bool) -> None:
    """Print the runs of a lake, or one run with its stages."""
    runs = load_runs(lake)
    if wanted is not None:
        found = [r for r in runs if wanted in r.run]
        if not found:
            raise ConfigError(f"no run {wanted!r}; `tamis status` lists them")
        _print_one(found[-1], as_json)
    elif as_json:
        print_json([asdict(r) for r in runs])
    else:
        rows = [[r.run, r.flow, r.status, r.exit_code, r.computed, sum(s.reused for s in r.stages),
                 round(sum(s.seconds for s in r.stages), 1), len(r.warnings)] for r in runs[-20:]]  # fmt: skip
        _table(["run", "flow", "status", "exit", "computed", "reused", "seconds", "warnings"], rows)


def _print_one(record: RunRecord, as_json: bool) -> None:
    if as_json:
        print_json(asdict(record))
        return
    _print_record(record)
    _table(
        ["stage", "computed", "reused", "seconds"], [[s.name, s.computed, s.reused, s.seconds] for s in record.stages]
    )
    if record.error:
        _line(f"error     {record.error}")


def print_list(config: Path, as_json: bool) -> None:
    """Print the plug-ins with their parameters, and the flows where there is a configuration."""
    plugins: list[tuple[str, str, Any]] = [("selector", n, SELECTORS.find(n)) for n in SELECTORS.names()]
    plugins += [("feature", n, FEATURES.find(n)) for n in FEATURES.names()]
    listed: list[dict[str, Any]] = [
        {
            "kind": kind,
            "name": name,
            "about": _first_sentence(found),
            "parameters": _parameters(found),
            "columns": _columns(kind, found),
        }
        for kind, name, found in plugins
    ]
    found = load_config(config).config if config.exists() else None
    flows, mixtures = (found.flows, found.mixtures) if found else ({}, {})
    listed += [
        {
            "kind": "flow",
            "name": name,
            "about": f"{flow.corpus}: " + " → ".join(s.name for s in flow.steps),
            "parameters": {},
        }
        for name, flow in flows.items()
    ]
    listed += [{"kind": "mixture", "name": name, "about": ", ".join(p.title for p in m.parts), "parameters": {}}
               for name, m in mixtures.items()]  # fmt: skip
    if as_json:
        print_json(listed)
        return
    rows = [
        [p["kind"], p["name"], _about(p), ", ".join(f"{k}={v}" for k, v in p["parameters"].items())] for p in listed
    ]
    _table(["kind", "name", "about", "parameters and defaults"], rows)


def print_plugin(name: str, as_json: bool) -> None:
    """Print what a selector or feature is, and what its parameters mean."""
    found = describe(name)
    if as_json:
        print_json(found)
        return
    _line(f"{found['kind']} {name}\n\n{found['about']}\n")
    rows = [[p["name"], p["values"], str(p["default"]), p["about"]] for p in found["parameters"]]
    _table(["parameter", "values", "default", "meaning"], rows)


def _about(listed: dict[str, Any]) -> str:
    columns = listed.get("columns")
    return f"{listed['about']}: {', '.join(columns)}" if columns else str(listed["about"])


def _columns(kind: str, plugin: Any) -> list[str]:
    """Return the columns of a feature whose parameters all have defaults."""
    if kind != "feature" or any(f.default is dataclasses.MISSING for f in fields(plugin)):
        return []
    names: list[str] = plugin().columns.names
    return names


def _first_sentence(plugin: Any) -> str:
    return (plugin.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ").split(";")[0].rstrip(".")


def _parameters(plugin: Any) -> dict[str, Any]:
    return {f.name: None if f.default is dataclasses.MISSING else f.default for f in fields(plugin)}


def print_query(lake: Lake, query: str, form: str) -> None:
    """Print the result of a query. Raises ConfigError for a query that DuckDB refuses."""
    if form not in QUERY_FORMATS:
        raise ConfigError(f"--format {form!r}{nearest(form, QUERY_FORMATS)}")
    connection = connect(lake)
    try:
        if not reads_only(connection, query):
            raise ConfigError("the query is not one statement that reads; use select, from, describe or explain")
        found = connection.execute(query)
        columns, rows = [d[0] for d in found.description or []], found.fetchall()
    except duckdb.Error as error:
        raise ConfigError(f"the query failed: {error}") from None
    if form == "json":
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif form == "csv":
        _csv(columns, rows)
    else:
        _table(columns, rows[:ROWS_SHOWN])
        if len(rows) > ROWS_SHOWN:
            left = f"and {len(rows) - ROWS_SHOWN:,} rows more: --format csv or json prints all"
            print(left, file=sys.stderr)  # noqa: T201


def print_damage(damage: Iterable[Damage], as_json: bool) -> int:
    """Print what is damaged; return the exit code: 1 where anything is."""
    found = list(damage)
    if as_json:
        print_json([asdict(d) for d in found])
    elif found:
        _table(["file", "what is wrong", "what repairs it"], [[d.file, d.problem, d.repair] for d in found])
    else:
        _line("nothing is damaged")
    return 1 if found else 0


def print_json(value: Any) -> None:
    """Print JSON; NaN becomes null and bytes become hex."""
    print(json.dumps(json_ready(value), indent=1, ensure_ascii=False, default=str))  # noqa: T201


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table: numbers to the right, plain where stdout is no terminal."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [list(row) for row in rows]
    for i, name in enumerate(head):
        numeric = bool(rows) and all(isinstance(r[i], (int, float)) or r[i] is None for r in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_number(v) for v in row))
    console.print(table)


def _number(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    text = text if len(text) <= CELL_SHOWN else text[: CELL_SHOWN - 1] + "…"
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text).replace("[", "\\[")


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    import csv

    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows(
        [json.dumps(v, default=str) if isinstance(v, (list, dict)) else json_ready(v) for v in r] for r in rows
    )


def _command() -> str:
    """Return what calls tamis here: its name where the shell finds it, else the path that was called."""
    return (
        "tamis" if shutil.which("tamis") or not sys.argv[0].endswith("tamis") else _short(Path(sys.argv[0]).absolute())
    )


def _short(path: Path) -> str:
    """Return a path as people would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _line(text: str) -> None:
    print(text)  # noqa: T201
