"""DuckDB that can do no more than it is needed for: no file elsewhere, no extension, no setting that says otherwise.

A catalogue may come from somebody else, and its views may name any file: what is read through a connection lies in the
lake, or the query fails. A query of a user's own has the same limits, so that one from a web page is as harmless.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .lake import Lake

_SETTINGS = (
    "enable_external_access = false",
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "allow_community_extensions = false",
    "lock_configuration = true",
)


def lock(connection: Any, lake: Lake, more: Iterable[Path] = ()) -> None:
    """Let a connection read no file but those of a lake and its scratch space, and change no setting any more.

    `more` are folders that it may read too.
    """
    folders = [str(folder / "x").removesuffix("x") for folder in (lake.root, lake.scratch, *more)]
    listed = ", ".join("'{}'".format(folder.replace("'", "''")) for folder in folders)
    connection.execute(f"set allowed_directories = [{listed}]")
    for setting in _SETTINGS:
        connection.execute(f"set {setting}")
