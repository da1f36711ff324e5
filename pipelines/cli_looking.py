"""The commands that look: at the lake, its runs and documents, and at what there is to choose by."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..storage.errors import ConfigError
from ..storage.lake import Lake
from ..storage.result_files import result_target
from .cli_options import DEFAULT_CONFIG, ConfigOption, JsonOption, LakeOption, QuietOption


def status_command(
    run: Annotated[str | None, typer.Argument(help="Id of a run, or a part of it; default: the newest runs.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the runs of a lake: how they ended, what they computed and what they reused."""
    from .summaries import print_status

    print_status(open_lake(lake, config), run, as_json)


def explain_command(
    doc_id: Annotated[str | None, typer.Argument(help="Id of a document.")] = None,
    text: Annotated[str | None, typer.Option(help="Instead of an id: a piece of its text, letter for letter.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="FILE:LINE", help="Instead of an id: where it stands in a raw file.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="With --token: the folder of an exported mixture.")] = None,
    token: Annotated[int | None, typer.Option(min=0, help="A token of it, counted from 0 over all its files.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this run: its id or a part of it, or a flow.")] = None,
    reasons: Annotated[
        bool | None,
        typer.Option(help="Say where each score comes from. Default: yes, but what takes models only with --run."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a document is in or out: what every step read, decided and why, its score, rank and cut, its raw file."""
    from .explaining import explain
    from .explaining_tokens import explain_token
    from .explanations import print_explanation, print_found, print_token
    from .finding import explain_at, explain_text

    ways = [doc_id, text, at, export]
    if sum(way is not None for way in ways) != 1 or (export is None) != (token is None):
        raise ConfigError("explain needs one of: the id of a document, --text, --at, or --export DIR with --token N")
    wanted = _wanted(reasons, run)
    if export is not None and token is not None:
        home = None if lake is None and not config.exists() else open_lake(lake, config)
        print_token(explain_token(home, export, token), as_json)
    elif doc_id is not None:
        print_explanation(explain(open_lake(lake, config), doc_id, run=run, reasons=wanted), as_json)
    else:
        found = explain_text if text is not None else explain_at
        told = found(open_lake(lake, config), text or at or "", run=run, reasons=wanted)
        raise typer.Exit(print_found(told, as_json))


def compare_command(
    runs: Annotated[list[str], typer.Argument(help="Flows, whose newest finished runs are meant, or ids of runs.")],
    html: Annotated[Path | None, typer.Option(help="Write the comparison as one page that opens from disk.")] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Break the choices down by an expression, as in filters. May be repeated.")
    ] = None,
    vectors: Annotated[
        str | None, typer.Option(help="Feature of vectors to measure by; default: one whose vectors are there.")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Documents that are shown of what only one run chose.")] = 6,
    proxy: Annotated[
        bool,
        typer.Option("--proxy", help="Train a small model on each choice, which takes minutes, and compare losses."),
    ] = False,
    proxy_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each training.")] = 262_144,
    proxy_seeds: Annotated[int, typer.Option(min=1, help="Trainings of each choice.")] = 3,
    proxy_start: Annotated[
        Path | None, typer.Option(help="Folder of a model to go on from; default: new weights.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    lake: LakeOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare what runs chose: what they share and consist of, how near to the targets and how varied they are."""
    from .comparing import compare, write_page
    from .comparison_table import print_comparison
    from .printing import print_json, print_line
    from .progress import Reporter
    from .proxy_model import ProxySettings

    home = open_lake(lake, config)
    if html is not None:
        result_target(home, html)  # before the work
    settings = ProxySettings(tokens=proxy_tokens, seeds=proxy_seeds, start=proxy_start) if proxy else None
    samples = samples if html is not None or as_json else 0  # nobody would see them
    found = compare(
        home, runs, by=by or (), vectors=vectors, samples=samples, proxy=settings, reporter=Reporter(quiet=quiet)
    )
    if html is not None:
        write_page(home, found, html)
    if as_json:
        print_json(found)
        return
    print_comparison(found)
    if html is not None:
        print_line(f"\npage      {html}")


def list_command(
    name: Annotated[str | None, typer.Argument(help="A selector or feature: what it does and its parameters.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List the selectors and features there are, and the flows of the configuration; or explain one of them."""
    from .summaries import print_list, print_plugin

    if name is None:
        print_list(config, as_json)
    else:
        print_plugin(name, as_json)


def sql_command(
    query: Annotated[str, typer.Argument(help="A query over the catalogue; it can only read.")],
    config: ConfigOption = DEFAULT_CONFIG,
    lake: LakeOption = None,
    form: Annotated[
        str | None, typer.Option("--format", "-f", help="table | csv | json | parquet; default: table, or by --output.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file that gets the result.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the catalogue; works while a run is in progress."""
    from .querying import answer

    answer(open_lake(lake, config), query, "json" if as_json else form, output)


def verify_command(config: ConfigOption = DEFAULT_CONFIG, lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Read every artefact again and compare it with its name; say what is damaged and what repairs it."""
    from ..storage.verify_sums import not_covered
    from .summaries import print_damage

    home = open_lake(lake, config)
    code = print_damage(home, as_json)
    if bare := not_covered(home):
        said = "a killed run, an object store or a tamis that noted none"
        typer.echo(
            f"no digest was noted of {', '.join(bare[:3])}{f' and {len(bare) - 3:,} others' if bare[3:] else ''} (of "
            f"{said}): only what they carry themselves was compared",
            err=True,
        )
    raise typer.Exit(code)


def rebuild_command(
    config: ConfigOption = DEFAULT_CONFIG, lake: LakeOption = None, as_json: JsonOption = False
) -> None:
    """Build the catalogue again from the manifests in the lake."""
    from ..storage.catalog import build_catalog

    found = open_lake(lake, config)
    build_catalog(found)
    typer.echo(json.dumps({"catalog": str(found.catalog)}) if as_json else found.catalog)


def schema_command() -> None:
    """Print the JSON Schema of flows.yaml, for editors."""
    from .config import Config

    typer.echo(json.dumps(Config.model_json_schema(), indent=1))


def _wanted(reasons: bool | None, run: str | None) -> Literal["none", "quick", "all"]:
    """Return which reasons are asked for: of one run all, of many those for which no model has to be run."""
    if reasons is None:
        return "quick" if run is None else "all"
    return "all" if reasons else "none"


def open_lake(lake: str | None, config: Path) -> Lake:
    """Open the lake that an option names, or that of the configuration."""
    if lake is not None:
        return Lake.open(lake)
    from .loading import load_config

    return Lake.open(load_config(config).lake)
