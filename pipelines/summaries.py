"""What the commands print: tables for people, JSON for programs, always on stdout."""

import dataclasses
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..features.registry import REGISTRY as FEATURES
from ..selectors.registry import REGISTRY as SELECTORS
from ..storage.errors import ConfigError
from ..storage.lake import Lake
from ..storage.verify import verify
from ..storage.verify_sums import files_of
from .describing import describe
from .diff_printing import print_diff_in_short
from .loading import load_config
from .plan_printing import print_plan_beside_run
from .printing import command_name, print_json, print_line, print_table, short_path, shown
from .recorded import Run
from .runs import RunRecord, load_runs

ROWS_SHOWN = 1_000


def print_run(run: Run, as_json: bool) -> None:
    """Print what a run did and where to look next."""
    record = run.record
    if as_json:
        print_json({**asdict(record), "exit_code": run.exit_code})
        return
    _print_record(record)
    for step in record.steps:
        if found := step.get("clusters"):
            print_line(f"clusters  {step['name']}: {found['n_clusters']:,}, {found['empty_clusters']:,} empty; "
                  + " and ".join(short_path(run.lake.root / found[name]) for name in ("table", "map")))  # fmt: skip
    for model in record.models:
        print_line(f"model     {model['name']}: {short_path(Path(model['folder']))} and curve.png beside it")
    for folder in run.outputs:
        print_line(f"mixture   {short_path(folder)}")
    print_line(f"report    {short_path(run.report)}")
    if record.steps:
        print_line("\nlook next")
        print_line(f"  {command_name()} status {record.run} --lake {short_path(run.lake.root)}")
        query = (
            f"select step, kept, reason, count(*) as documents from selections where run = '{record.run}' group by all"
        )
        print_line(f'  {command_name()} sql --lake {short_path(run.lake.root)} "{query}"')


def _print_record(record: RunRecord) -> None:
    """Print the parts of a record that people ask for."""
    print_line(f"run       {record.run}   {record.flow}   {record.status if record.finished else 'done'}")
    if record.counts:
        c = record.counts
        parts = " + ".join(f"{c[kind]:,} {kind}" for kind in ("documents", "quarantined", "excluded"))
        print_line(f"{record.corpus:9} {parts} = {c['records']:,} records in {c['files']:,} files")
    if record.steps:
        rows = [[s["name"], _kind(s), s["entered"], s["kept"], s["tokens_kept"], _why(s)] for s in record.steps]
        print_table(["step", "kind", "entered", "kept", "tokens kept", "dropped"], rows)
        for step in record.steps:
            for name, value in (step.get("health") or {}).items():
                print_line(f"  {step['name']}: {name.replace('_', ' ')} {shown(value)}")
    if record.models:
        rows = [[m["name"], m["parameters"], m["tokens"], *(m["held_out"] or (None, None)), m["loss"], m["seconds"],
                 m["tokens"] / max(m["seconds"], 0.1)] for m in record.models]  # fmt: skip
        print_table(["model", "parameters", "tokens", "held out before", "after", "loss", "seconds", "tokens/s"], rows)
    for line in _refits(record):
        print_line(line)
    print_diff_in_short(record.diff)
    if record.mixture:
        _print_shares(record.mixture)
    _print_concerns(record)


def _refits(record: RunRecord) -> Iterator[str]:
    """Yield how the steps were fitted that say something other than `fresh`."""
    for step in record.steps:
        fit = step.get("fit") or {"refit": "fresh"}
        if fit["refit"] == "fresh":
            continue
        of = f" of run {fit['parent']['run']}" if fit["parent"] else ""
        how = {
            "frozen": f"the state{of}", "warm": f"begun at the state{of}", "found": "which was in the lake",
            "merged": f"made of the summary{of}", "fitted": "fitted anew",
        }[fit["how"]]  # fmt: skip
        why = f": {fit['why']}" if fit["why"] else ""
        yield f"fit       {step['name']}: {fit['refit']}, {how}{why}"


def _print_concerns(record: RunRecord) -> None:
    """Print alarms and warnings; what is both is said once."""
    for alarm in record.alarms:
        print_line(f"alarm     step {alarm['step']}: {alarm['message']} [{alarm['name']}]")
    said = tuple(alarm["message"] for alarm in record.alarms)
    for warning in record.warnings:
        if not warning.endswith(said):
            print_line(f"warning   {warning}")


def _print_shares(mixture: dict[str, Any]) -> None:
    """Print what each share of a mixture was asked for and has."""
    print_line(f"{mixture['name']:9} {mixture['achieved']:,} of {mixture['budget']:,} tokens, "
          f"{mixture['documents']:,} documents, {mixture['copies']:,} with their copies")  # fmt: skip
    names = ["part", "source", "weight", "available", "wanted", "asked", "achieved", "epochs", "documents"]
    rows = [[share[name] for name in names] for share in mixture["parts"][:ROWS_SHOWN]]
    print_table(names, rows)
    for origin in mixture["origins"]:
        if origin["lost"]:
            print_line(f"  {origin['part']}: {origin['lost']:,} documents are not counted: {mixture['rule']}")


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
                 round(sum(s.seconds for s in r.stages), 1), len(r.warnings), len(r.alarms)]
                for r in runs[-20:]]  # fmt: skip
        head = ["run", "flow", "status", "exit", "computed", "reused", "seconds", "warnings", "alarms"]
        print_table(head, rows)


def _print_one(record: RunRecord, as_json: bool) -> None:
    if as_json:
        print_json(asdict(record))
        return
    _print_record(record)
    print_table(
        ["stage", "computed", "reused", "seconds", "of them on what was there", "peak MB so far"],
        [[s.name, s.computed, s.reused, s.seconds, s.seconds_unchanged, s.peak_rss >> 20] for s in record.stages],
    )
    print_plan_beside_run(record)
    if record.error:
        print_line(f"error     {record.error}")


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
    print_table(["kind", "name", "about", "parameters and defaults"], rows)


def print_plugin(name: str, as_json: bool) -> None:
    """Print what a selector or feature is, and what its parameters mean."""
    found = describe(name)
    if as_json:
        print_json(found)
        return
    for line in (f"{found['kind']} {name}", "", *found["about"].splitlines(), ""):
        print_line(line)
    rows = [[p["name"], p["values"], str(p["default"]), p["about"]] for p in found["parameters"]]
    print_table(["parameter", "values", "default", "meaning"], rows)


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


def print_damage(lake: Lake, as_json: bool) -> int:
    """Print what is damaged in a lake; return the exit code: 1 where anything is."""
    found = list(verify(lake))
    if as_json:
        print_json([asdict(d) for d in found])
    elif found:
        print_line(f'{len(found):,} files in "{lake.root}" are damaged or missing')
        for one in found:  # paths are longer than a column could be
            print_line(one.file.removeprefix(f"{lake.root}/"))
            print_line(f"    {one.problem}; {one.repair}")
    else:
        print_line(f"nothing is damaged in {len(files_of(lake).files):,} files")
    return 1 if found else 0
