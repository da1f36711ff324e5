"""The command line: `tamis run | plan | serve | mix | export | train-aux | ingest | status | compare | diff | …`.

Data goes to stdout, progress and complaints to stderr. Exit codes: 0 done · 1 failed · 2 wrong usage or configuration ·
3 done, with quarantined input, a budget not met or evaluation documents not protected, or planned, and the disk is too
small · 130 interrupted.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..storage.disks import disk_error
from ..storage.errors import ConfigError, TamisError
from ..storage.memory_lack import lack_of_memory
from . import cli_cleaning, cli_diff, cli_looking, cli_planning, cli_repairing, cli_serving, cli_working
from .printing import complain

app = typer.Typer(
    name="tamis", help="Choose the documents that a language model should be trained on.", no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
catalog_app = typer.Typer(help="The DuckDB catalogue of the lake.", no_args_is_help=True)
_COMMANDS: dict[str, Callable[..., None]] = {
    "run": cli_working.run_command,
    "plan": cli_planning.plan_command,
    "serve": cli_serving.serve_command,
    "mix": cli_working.mix_command,
    "export": cli_working.export_command,
    "train-aux": cli_working.train_aux_command,
    "ingest": cli_working.ingest_command,
    "status": cli_looking.status_command,
    "compare": cli_looking.compare_command,
    "diff": cli_diff.diff_command,
    "explain": cli_looking.explain_command,
    "list": cli_looking.list_command,
    "sql": cli_looking.sql_command,
    "verify": cli_looking.verify_command,
    "repair": cli_repairing.repair_command,
    "clean": cli_cleaning.clean_command,
    "schema": cli_looking.schema_command,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(catalog_app, name="catalog")
catalog_app.command("rebuild")(cli_looking.rebuild_command)

STDOUT = Path("/dev/stdout")
"""Where what has no other name was to be written."""
_NO_CACHE = (
    "compiled kernels can be kept neither beside the installed files nor below the home folder; "
    "name a folder for them that can be written: NUMBA_CACHE_DIR=/path"
)


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Handle what belongs to no command."""
    if version:
        typer.echo(f"tamis {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; every error that tamis raises on purpose is one message and an exit code."""
    try:
        if any("\0" in one for one in arguments or ()):  # a shell cannot pass it; Python can
            raise ConfigError("an argument has a NUL character, which no name and no path has")
        app(arguments)
    except TamisError as raised:
        error = disk_error(raised, STDOUT) or raised
        complain(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if isinstance(error, MemoryError):
            said = str(lack_of_memory(error))
        elif isinstance(error, RuntimeError) and "no locator available" in str(error):
            said = _NO_CACHE
        elif (found := disk_error(error, STDOUT)) is None:
            raise
        else:
            said = str(found)
        complain(said)
        sys.exit(1)


if __name__ == "__main__":
    main()
