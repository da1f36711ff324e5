"""The command line: `tamis run | mix | export | train-aux | ingest | status | list | sql | verify | schema | …`.

Data goes to stdout, progress and complaints to stderr. Exit codes: 0 done · 1 failed · 2 wrong usage or configuration ·
3 done, with quarantined input, a budget not met or evaluation documents not protected · 130 interrupted.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..storage.errors import ConfigError, TamisError
from ..storage.lake import Lake

app = typer.Typer(
    name="tamis", help="Choose the documents that a language model should be trained on.", no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
catalog_app = typer.Typer(help="The DuckDB catalogue of the lake.", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration.", envvar="TAMIS_CONFIG")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: dotted.key=value. May be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LakeOption = Annotated[Path | None, typer.Option("--lake", help="The lake; default: that of the configuration.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
DEFAULT_CONFIG = Path("flows.yaml")
_NO_CACHE = (
    "compiled kernels can be kept neither beside the installed files nor below the home folder; "
    "name a folder for them that can be written: NUMBA_CACHE_DIR=/path"
)


@app.command("run")
def run_command(
    flow: Annotated[str, typer.Argument(help="Name of the flow.")],
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
    prefect: Annotated[bool, typer.Option(help="Run under Prefect: tasks, retries, artifacts.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; default: the flow's, or the processors.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a flow; what is already in the lake is not computed again."""
    from . import api
    from .progress import Reporter
    from .summaries import print_run

    with _resumable():
        done = api.run(
            config, flow, overrides=overrides, prefect=prefect, reporter=Reporter(quiet=quiet), workers=workers
        )
    print_run(done, as_json)
    raise typer.Exit(done.exit_code)


@app.command("mix")
def mix_command(
    mixture: Annotated[str, typer.Argument(help="Name of an entry of `mixtures`.")],
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
    prefect: Annotated[
        bool, typer.Option(help="Run the flows of its parts under Prefect, where any is to run.")
    ] = True,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; default: the mixture's, or the processors.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a training mixture of several selections and corpora; flows of its parts that were not run are run first."""
    from . import api
    from .progress import Reporter
    from .summaries import print_run

    with _resumable():
        done = api.mix(
            config, mixture, overrides=overrides, prefect=prefect, reporter=Reporter(quiet=quiet), workers=workers
        )
    print_run(done, as_json)
    raise typer.Exit(done.exit_code)


@app.command("train-aux")
def train_aux_command(
    model: Annotated[str, typer.Argument(help="Name of an entry of `models`.")],
    flow: Annotated[
        str | None, typer.Option(help="The flow that trains it; default: the only one, or a whole corpus.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; default: the flow's, or the processors.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a model whose losses choose documents, and those that it comes from; a flow that needs it finds it."""
    from . import api
    from .progress import Reporter
    from .summaries import print_run

    with _resumable():
        done = api.train_aux(
            config, model, flow=flow, overrides=overrides, reporter=Reporter(quiet=quiet), workers=workers
        )
    print_run(done, as_json)
    raise typer.Exit(done.exit_code)


@app.command("export")
def export_command(
    name: Annotated[str | None, typer.Argument(help="A flow, whose newest run is taken, or the id of a run.")] = None,
    form: Annotated[
        str, typer.Option("--format", "-f", help="parquet | jsonl.zst | tokens | megatron | ids")
    ] = "parquet",
    ids: Annotated[bool, typer.Option("--ids", help="The same as --format ids.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder that gets the files too.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Of tokens: default: the flow's.")] = None,
    end: Annotated[str | None, typer.Option(help="Of tokens: what follows each document, a token or its id.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of tokens: uint16 | uint32 | int32.")] = None,
    shard_bytes: Annotated[str | None, typer.Option(help="Most bytes of text in one file.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Choose what this ids.parquet lists, from --corpus.")] = None,
    corpus: Annotated[str | None, typer.Option(help="With --replay: the corpus to choose from.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; default: the processors.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write what a run chose in another form; or, from a list of ids, make the choice again on another copy."""
    from . import api
    from .progress import Reporter
    from .summaries import print_run

    given = {"format": "ids" if ids else form, "tokenizer": tokenizer, "dtype": dtype, "shard_bytes": shard_bytes,
             "end": int(end) if end and end.isdecimal() else end}  # fmt: skip
    options: dict[str, Any] = {
        "folder": output, "overrides": overrides, "reporter": Reporter(quiet=quiet), "workers": workers
    }  # fmt: skip
    with _resumable():
        if replay is not None and corpus is not None and name is None:
            done = api.replay(config, replay, corpus, [given], **options)
        elif replay is None and corpus is None and name is not None:
            done = api.export(config, name, [given], **options)
        else:
            raise ConfigError("export needs either a flow or run, or both --replay FILE and --corpus NAME")
    print_run(done, as_json)
    raise typer.Exit(done.exit_code)


@app.command("ingest")
def ingest_command(
    corpus: Annotated[str, typer.Argument(help="Name of the corpus.")],
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring a corpus into the lake, without a flow."""
    from . import api
    from .progress import Reporter
    from .summaries import print_run

    with _resumable():
        done = api.ingest(config, corpus, overrides=overrides, reporter=Reporter(quiet=quiet))
    print_run(done, as_json)
    raise typer.Exit(done.exit_code)


@app.command("status")
def status_command(
    run: Annotated[str | None, typer.Argument(help="Id of a run, or a part of it; default: the newest runs.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the runs of a lake: how they ended, what they computed and what they reused."""
    from .summaries import print_status

    print_status(_lake(lake, config), run, as_json)


@app.command("list")
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


@app.command("sql")
def sql_command(
    query: Annotated[str, typer.Argument(help="A query over the catalogue; it can only read.")],
    config: ConfigOption = DEFAULT_CONFIG,
    lake: LakeOption = None,
    form: Annotated[str, typer.Option("--format", "-f", help="table | csv | json")] = "table",
    as_json: JsonOption = False,
) -> None:
    """Ask the catalogue; works while a run is in progress."""
    from .summaries import print_query

    print_query(_lake(lake, config), query, "json" if as_json else form)


@app.command("verify")
def verify_command(config: ConfigOption = DEFAULT_CONFIG, lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Read every artefact again and compare it with its name; say what is damaged and what repairs it."""
    from ..storage.verify import verify
    from .summaries import print_damage

    raise typer.Exit(print_damage(verify(_lake(lake, config)), as_json))


@catalog_app.command("rebuild")
def rebuild_command(
    config: ConfigOption = DEFAULT_CONFIG, lake: LakeOption = None, as_json: JsonOption = False
) -> None:
    """Build the catalogue again from the manifests in the lake."""
    from ..storage.catalog import build_catalog

    found = _lake(lake, config)
    build_catalog(found)
    typer.echo(json.dumps({"catalog": str(found.catalog)}) if as_json else found.catalog)


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of flows.yaml, for editors."""
    from .config import Config

    typer.echo(json.dumps(Config.model_json_schema(), indent=1))


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Handle what belongs to no command."""
    if version:
        typer.echo(f"tamis {__version__}")
        raise typer.Exit


@contextmanager
def _resumable() -> Iterator[None]:
    """Say at Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("tamis: interrupted; what is finished is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None


def _lake(lake: Path | None, config: Path) -> Lake:
    """Open the lake that an option names, or that of the configuration."""
    if lake is None:
        from .loading import load_config

        lake = load_config(config).lake
    return Lake.open(lake)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; every error that tamis raises on purpose is one message and an exit code."""
    try:
        app(arguments)
    except TamisError as error:
        typer.echo(f"tamis: {error}", err=True)
        sys.exit(error.exit_code)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        typer.echo(f"tamis: {_NO_CACHE}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
