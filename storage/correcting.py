"""A flipped bit put back: the digest of a file says that it is the one, so nothing has to be computed again."""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from .flip_kernels import places_of
from .lake import Lake
from .sums import FOLDER, GROWS, Sum, corrected, journals, read_sums, sum_of_bytes


def correct(lake: Lake, names: Iterable[str]) -> Iterator[str]:
    """Put right the files of a lake that are damaged by one bit, and yield their names; of a journal every line.

    Journals come first, because they say what the other files were. Lines that cannot be put right are left out.
    """
    for journal in journals(lake.root):
        content = journal.read_bytes()
        if (whole := corrected(content)) != content:
            lake.publish_bytes(journal, whole)
            yield f"{FOLDER}/{journal.name}"
    sums = read_sums(lake.root)
    for name in names:
        if (content_then := put_right(lake.root / name, sums.published(name))) is not None:
            lake.publish_bytes(lake.root / name, content_then)
            yield name


def correctable(lake: Lake, names: Iterable[str]) -> Iterator[str]:
    """Yield the names of the files that `correct` would put right, but for journals."""
    sums = read_sums(lake.root)
    return (name for name in names if put_right(lake.root / name, sums.published(name)) is not None)


def put_right(path: Path, found: list[Sum]) -> bytes | None:
    """Return what a file was before one bit of it flipped, None where that cannot be told."""
    if not found or not path.is_file():
        return None
    data = path.read_bytes()
    if path.name != GROWS:
        return flipped_bit(data, found)
    longest = max(found)
    begin = flipped_bit(data[: longest.size], [longest])
    return None if begin is None else begin + data[longest.size :]


def flipped_bit(data: bytes, found: Iterable[Sum]) -> bytes | None:
    """Return a file as it was before one bit of it flipped, None where no one bit explains what it is now."""
    crc = zlib.crc32(data)
    for one in found:
        if one.size != len(data):
            continue
        for place in places_of(crc ^ one.crc, len(data)).tolist():
            whole = bytearray(data)
            whole[place >> 3] ^= 1 << (place & 7)
            if sum_of_bytes(bytes(whole)) == one:
                return bytes(whole)
    return None
