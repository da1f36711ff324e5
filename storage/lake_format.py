"""The marker of a lake, `lake.json`: its format version, and a digest that tells another version from a flipped bit."""

import json
from pathlib import Path

from .errors import LakeError
from .fingerprint import fingerprint
from .publish import MARKER, publish_bytes

FORMAT = 1
_SIGNS = ("runs/*/run.json", "corpora/*/newest.json", "corpora/*/packs/*.json", "sums/*~*~*.txt")
"""What no folder has that is no lake; many a project has `runs/`."""


def check_format(root: Path) -> None:
    """Raise LakeError for a lake of another format version, or whose marker is damaged."""
    content = (root / MARKER).read_bytes()
    try:
        found = json.loads(content)
        version = found["format"]
        is_whole = found == {"format": version} or content == marked(version)  # the first: an older tamis made it
    except (ValueError, KeyError, TypeError):
        version, is_whole = None, False
    if not is_whole:
        raise LakeError(f'"{root / MARKER}" is damaged; `tamis repair` writes it again')
    if version != FORMAT:
        raise LakeError(f'"{root}" has format {version!r}, this tamis reads {FORMAT}; use the tamis that made it')


def repair_marker(root: Path, scratch: Path) -> bool:
    """Write the marker of a lake again where it is damaged or gone, and say so.

    Raises LakeError where the folder is not that of a lake, or of another format version.
    """
    try:
        check_format(root)
    except FileNotFoundError:
        if not any(any(root.glob(pattern)) for pattern in _SIGNS):
            raise LakeError(f'"{root}" is no lake: it has neither {MARKER} nor what a run leaves in one') from None
    except LakeError as error:
        if "is damaged" not in str(error):
            raise
    else:
        return False
    publish_bytes(root / MARKER, marked(), scratch)
    return True


def marked(version: object = FORMAT) -> bytes:
    """Return what the marker of a lake holds."""
    return (json.dumps({"format": version, "digest": fingerprint(version)}) + "\n").encode()
