"""The options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

from ..storage.places import place

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration.", envvar="TAMIS_CONFIG")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: dotted.key=value. May be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LakeOption = Annotated[
    Path | None,
    typer.Option("--lake", parser=place, metavar="PLACE", help="The lake; default: that of the configuration."),
]
RehashOption = Annotated[
    bool, typer.Option("--rehash", help="Digest every input file; default: those whose size, mtime or inode moved.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
DEFAULT_CONFIG = Path("flows.yaml")
