"""The command that says what a flow will take, before it runs."""

from typing import Annotated

import typer

from .cli_options import DEFAULT_CONFIG, ConfigOption, JsonOption, QuietOption, SetOption


def plan_command(
    flow: Annotated[str, typer.Argument(help="Name of the flow.")],
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
    prefect: Annotated[bool, typer.Option(help="Plan a run under Prefect.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; default: the flow's, or the processors.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what a run of a flow will take, stage by stage, from a sample; exit code 3 where the disk is too small."""
    from .plan_printing import print_plan
    from .planning import plan
    from .progress import Reporter

    try:
        found = plan(
            config, flow, overrides=overrides, prefect=prefect, workers=workers, reporter=Reporter(quiet=quiet)
        )
    except KeyboardInterrupt:
        typer.echo("tamis: interrupted; nothing is left behind", err=True)
        raise typer.Exit(130) from None
    print_plan(found, as_json)
    raise typer.Exit(found.exit_code)
