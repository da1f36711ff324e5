"""The commands that change the lake: they run, mix, train, export and read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..storage.errors import ConfigError
from .cli_options import DEFAULT_CONFIG, ConfigOption, JsonOption, QuietOption, RehashOption, SetOption


def run_command(
    flow: Annotated[str, typer.Argument(help="Name of the flow.")],
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
    prefect: Annotated[bool, typer.Option(help="Run under Prefect: tasks, retries, artifacts.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; default: the flow's, or the processors.")] = None,
    rehash: RehashOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a flow; what is already in the lake is not computed again."""
    from . import api
    from .progress import Reporter
    from .summaries import print_run

    with _resumable():
        done = api.run(
            config, flow, overrides=overrides, prefect=prefect, reporter=Reporter(quiet=quiet), workers=workers,
            rehash=rehash,
        )  # fmt: skip
    print_run(done, as_json)
    raise typer.Exit(done.exit_code)


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
    rehash: RehashOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a training mixture of several selections and corpora; flows of its parts that were not run are run first."""
    from . import api
    from .progress import Reporter
    from .summaries import print_run

    with _resumable():
        done = api.mix(
            config, mixture, overrides=overrides, prefect=prefect, reporter=Reporter(quiet=quiet), workers=workers,
            rehash=rehash,
        )  # fmt: skip
    print_run(done, as_json)
    raise typer.Exit(done.exit_code)


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


def export_command(
    name: Annotated[
        str | None, typer.Argument(help="A flow, whose newest run is taken, the id of a run, or a mixture.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", "-f", help="parquet | jsonl.zst | mds | tokens | megatron | ids")
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


def ingest_command(
    corpus: Annotated[str, typer.Argument(help="Name of the corpus.")],
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
    rehash: RehashOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring a corpus into the lake, without a flow."""
    from . import api
    from .progress import Reporter
    from .summaries import print_run

    with _resumable():
        done = api.ingest(config, corpus, overrides=overrides, reporter=Reporter(quiet=quiet), rehash=rehash)
    print_run(done, as_json)
    raise typer.Exit(done.exit_code)


@contextmanager
def _resumable() -> Iterator[None]:
    """Say at Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("tamis: interrupted; what is finished is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
