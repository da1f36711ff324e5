"""The command that runs flows when they are due."""

from typing import Annotated

import typer

from .cli_options import DEFAULT_CONFIG, ConfigOption, SetOption


def serve_command(
    flows: Annotated[
        list[str] | None, typer.Argument(help="Names of flows; default: all that have a schedule.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(help="A Prefect server's address; default: that of Prefect's settings, or one started here."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the deployments; default: the folder of the configuration.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
) -> None:
    """Run the flows with a `schedule` whenever they are due, until Ctrl-C or SIGTERM."""
    from .serving import serve

    serve(config, flows or (), server, overrides or (), name, typer.echo)
