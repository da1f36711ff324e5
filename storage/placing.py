"""Published mixtures in other folders: linked where the file system can, else copied; the manifest comes last.

A kill in between leaves what the same call goes on from: every file is there whole or not at all.
"""

from filecmp import cmp
from pathlib import Path

from .errors import ConfigError
from .export import MANIFEST
from .lake import read_json, remove_stale
from .places import local
from .publish import publish_link


def check_place(output: Path) -> None:
    """Raise ConfigError where a folder has files that are none of a mixture's, before anything is computed for it."""
    if output.exists() and not output.is_dir():
        raise ConfigError(f'"{output}" is a file; name a folder')
    if not output.is_dir() or (output / MANIFEST).is_file():
        return
    remove_stale(output)
    if others := sorted(path.name for path in output.iterdir() if not _is_ours(path)):
        raise ConfigError(f'"{output}" is not empty: it has {others[0]!r}; name another folder')


def place(folder: Path, output: Path) -> None:
    """Put a published mixture into another folder too. Raises ConfigError where that holds another one."""
    manifest = folder / MANIFEST
    if (output / MANIFEST).is_file() and read_json(output / MANIFEST)["key"] != read_json(manifest)["key"]:
        raise ConfigError(f'"{output}" holds another mixture; name another folder')
    if not (output / MANIFEST).is_file() and output.is_dir():
        for path in output.iterdir():  # an interrupted call has left whole files of this mixture, or it was another's
            if not (folder / path.name).is_file() or not cmp(path, local(folder / path.name), shallow=False):
                raise ConfigError(
                    f'"{output}" is not empty: {path.name!r} is none of this mixture; name another folder'
                )
    for path in sorted(folder.iterdir(), key=lambda path: path == manifest):
        publish_link(output / path.name, path, output)


def _is_ours(path: Path) -> bool:
    """Say whether a file may be what an interrupted call left, by its name; `place` compares what is in it."""
    return path.name.startswith(("part-", "tokens-", "spans-", "shard.")) or path.name in (
        "ids.parquet", "tokenizer.json", "card.md", "croissant.json", "index.json", "README.md"
    )  # fmt: skip
