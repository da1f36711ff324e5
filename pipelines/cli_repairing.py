"""The command that mends a lake."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ..storage.lake import Lake
from ..storage.lake_format import repair_marker
from .cli_options import DEFAULT_CONFIG, ConfigOption, JsonOption, LakeOption, QuietOption, configured


def repair_command(
    context: typer.Context,
    config: ConfigOption = DEFAULT_CONFIG,
    lake: LakeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is damaged and what would be done.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Also remove what cannot be had again, and repeat long trainings.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Mend what `tamis verify` names: flipped bits put right, the rest read and computed again."""
    from .progress import Reporter
    from .repairing import look, repair

    loaded, root = configured(config, lake)
    said_by = context.get_parameter_source("config")
    is_named = said_by is not None and said_by.name == "COMMANDLINE"
    if loaded is not None and not is_named and loaded.lake.resolve() != root.resolve():
        loaded = None  # it lies here and is of another lake; one that is named is of a lake that was moved
    home = Lake(root.resolve())
    if not dry_run:
        repair_marker(home.root, home.scratch)
    home = Lake.open(home.root)
    found = look(home, loaded) if dry_run else repair(home, loaded, yes=yes, reporter=Reporter(quiet=quiet))
    if as_json:
        from .printing import print_json

        print_json(asdict(found))
    else:
        _show(home, found, dry_run=dry_run)
    raise typer.Exit((1 if found.damaged else 0) if dry_run else found.exit_code)


def _show(lake: Lake, found: Any, *, dry_run: bool) -> None:
    from .printing import print_line

    if not found.damaged:
        print_line("nothing is damaged")
        return
    would = "would be " if dry_run else ""
    print_line(f"{len(found.damaged):,} files are damaged or missing")
    print_line(f"{len(found.corrected):,} {would}put right, of each of which one bit had flipped")
    print_line(f"{len(found.removed):,} {would}removed; {len(found.runs):,} runs {would}done again")
    if found.put_back:
        print_line(f"{len(found.put_back):,} put back as they were: nothing could make them again")
    for problem in found.problems:
        print_line(f"{'cannot be' if dry_run else 'not'} mended: {problem}")
    for one in found.damaged if dry_run else found.left:
        print_line(f"{one.file.removeprefix(f'{lake.root}/')}: {one.problem}")
