"""The compressors whose sizes measure texts: gzip, zstd and lz4, in bytes with their frames.

The numbers are those of the installed libraries, so `version` belongs into the identity of whatever uses them. zlib's
sizes have not changed since 1.2; zlib-ng, which some builds of Python carry instead, gives others.
"""

import zlib
from collections.abc import Callable
from typing import Literal

import lz4
import lz4.frame
import zstandard

from ..storage.errors import ConfigError

Compressor = Literal["gzip", "zstd", "lz4"]
LEVELS: dict[str, tuple[int, int]] = {"gzip": (1, 9), "zstd": (1, 22), "lz4": (0, 16)}
"""The levels that measure something, by compressor."""
_GZIP_WINDOW = 31  # zlib's code for a gzip frame and its largest window


def check_level(name: str, compressor: Compressor, level: int) -> None:
    """Refuse a level that the compressor does not have, or at which it only stores. Raises ConfigError."""
    low, high = LEVELS[compressor]
    if low <= level <= high:
        return
    why = (
        ": gzip 0 stores without compressing, so that sizes only tell lengths"
        if (compressor, level) == ("gzip", 0)
        else ""
    )
    raise ConfigError(f"{name}: level is {level}, expected {low} to {high} for {compressor}{why}")


def version(compressor: Compressor) -> str:
    """Return the version of the library that decides the sizes."""
    if compressor == "gzip":
        return zlib.ZLIB_RUNTIME_VERSION
    if compressor == "zstd":
        return ".".join(map(str, zstandard.ZSTD_VERSION))
    return str(lz4.library_version_string())


def sizer(compressor: Compressor, level: int) -> Callable[[bytes], int]:
    """Return what gives the compressed size of a text in bytes; for one thread."""
    if compressor == "zstd":
        compress = zstandard.ZstdCompressor(level=level).compress
        return lambda text: len(compress(text))
    if compressor == "lz4":
        return lambda text: len(lz4.frame.compress(text, compression_level=level))
    return lambda text: len(zlib.compress(text, level, _GZIP_WINDOW))


def sizer_behind(compressor: Compressor, level: int, source: bytes) -> Callable[[bytes], int]:
    """Return what gives the size of `source` and a text behind it; gzip compresses the source once, and copies."""
    if compressor != "gzip":
        size = sizer(compressor, level)
        return lambda text: size(source + text)
    state = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)
    begun = len(state.compress(source))

    def size_behind(text: bytes) -> int:
        rest = state.copy()
        return begun + len(rest.compress(text)) + len(rest.flush())

    return size_behind
