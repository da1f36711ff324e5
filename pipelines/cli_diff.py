"""The command `tamis diff`."""

from pathlib import Path
from typing import Annotated

import typer

from ..storage.errors import ConfigError
from ..storage.result_files import result_target
from .cli_looking import open_lake
from .cli_options import DEFAULT_CONFIG, ConfigOption, JsonOption, LakeOption


def diff_command(
    run: Annotated[
        str | None, typer.Argument(help="A flow, whose newest finished run is meant, or a run; default: the newest.")
    ] = None,
    other: Annotated[
        str | None, typer.Argument(help="What it is compared with; default: the run before of the same flow.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .parquet file that gets the documents, a row each.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run chose otherwise than the one before: documents in, out and kept, sources, drift of the scores."""
    from .diff_notes import diff
    from .diff_printing import print_diff
    from .printing import print_json

    home = open_lake(lake, config)
    if output is not None:
        if output.suffix.lower() != ".parquet":
            raise ConfigError(f"--output {str(output)!r} ends with no form; the documents of a diff are .parquet")
        result_target(home, output)
    found = diff(home, run, other, output=output)
    if as_json:
        print_json(found)
    else:
        print_diff(found)
