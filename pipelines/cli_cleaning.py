"""The command that removes what nobody needs any more."""

import re
import sys
from typing import Annotated, Any

import typer

from ..storage.errors import ConfigError
from ..storage.lake import Lake
from .cli_options import DEFAULT_CONFIG, ConfigOption, JsonOption, LakeOption, configured


def clean_command(
    config: ConfigOption = DEFAULT_CONFIG,
    lake: LakeOption = None,
    keep_runs: Annotated[
        int | None, typer.Option(min=0, help="Newest finished runs of each flow to keep; default: keep.runs.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Remove only runs that began so long ago: 30d, 12h; default: keep.days.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Remove it; default: show it, and ask on a terminal.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what no kept run refers to and no published mixture needs; show it first."""
    from .cleaning import clean, survey
    from .keep_entry import Keep

    loaded, root = configured(config, lake)
    keep = loaded.config.keep if loaded is not None else Keep()
    given: dict[str, Any] = {} if keep_runs is None else {"runs": keep_runs}
    keep = keep.model_copy(update=given if older_than is None else {**given, "days": _days(older_than)})
    home = Lake.open(root)
    found = survey(home, keep)
    if not as_json:
        _show(found, removed=False)
    if found.gone and not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        yes = typer.confirm("remove it?")
    done = clean(home, keep, found) if yes else None
    if as_json:
        _show_json(done or found, done is not None)
    elif done is not None:
        _show(done, removed=True)


def _days(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([dh])", text.strip())
    if found is None:
        raise ConfigError(f"--older-than {text!r}: expected days or hours, such as 30d or 12h")
    return float(found[1]) / (1 if found[2] == "d" else 24)


def _show(found: Any, *, removed: bool) -> None:
    from .cleaning import lines
    from .printing import print_line, print_table

    n_bytes = sum(one.n_bytes for one in found.gone)
    if removed:
        print_line(f"removed {len(found.gone):,} artefacts, {n_bytes / 1e6:,.1f} MB")
        return
    for line in lines(found):
        print_line(line)
    if found.gone:
        rows = [
            [row["kind"], row["artefacts"], row["files"], row["bytes"], row["oldest"], ", ".join(row["of"])]
            for row in found.by_kind()
        ]
        print_table(["to be removed", "artefacts", "files", "bytes", "oldest", "of runs of"], rows)
        print_line(f"{n_bytes / 1e6:,.1f} MB; nothing is removed without --yes")
    else:
        print_line("nothing is to be removed")


def _show_json(found: Any, removed: bool) -> None:
    from .printing import print_json

    kinds = found.by_kind()
    print_json({
        "removed": removed, "bytes": sum(row["bytes"] for row in kinds), "kinds": kinds,
        "artefacts": [one.path for one in found.gone], "kept": found.kept, "dropped": found.dropped,
        "running": found.running, "unknown": found.unknown,
    })  # fmt: skip
