"""The options that commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..storage.places import place

if TYPE_CHECKING:
    from .loading import Loaded

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration.", envvar="TAMIS_CONFIG")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: dotted.key=value. May be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LakeOption = Annotated[
    str | None, typer.Option("--lake", metavar="PLACE", help="The lake; default: that of the configuration.")
]
RehashOption = Annotated[
    bool, typer.Option("--rehash", help="Digest every input file; default: those whose size, mtime or inode moved.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
DEFAULT_CONFIG = Path("flows.yaml")


def configured(config: Path, lake: str | None) -> tuple["Loaded | None", Path]:
    """Return the configuration, which need not exist where a lake is named, and the place of the lake that is meant."""
    from .loading import load_config

    if lake is not None:
        return load_config(config) if config.exists() else None, place(lake)
    loaded = load_config(config)
    return loaded, loaded.lake
