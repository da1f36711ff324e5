"""The bytes of a raw file, whatever it is compressed with, and the lines in them.

Compression is found by content; names lie. Everything before damage is handed out: a decoder that fails is run again
from the start of its member (gzip) or frame (zstd), byte by byte over the piece where it broke, which decodes one
member twice, and only in damaged files. Input goes in by 2 KB: a decompression bomb (zstd makes 128 KB of 4 bytes) then
holds 64 MB at most, and an ordinary file loses a tenth of its speed (800 MB/s of zstd).
"""

import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import zstandard

from .inputs import RAW_BYTES, Allowance

#: So much of a stream decides what it is.
HEAD_BYTES = 1 << 16

#: Lines are handed on by so many bytes, or more: what one thread parses at a time.
BLOCK_BYTES = 1 << 20

_PIECE_BYTES = 2048
_CHUNK_BYTES = 1 << 20
_MAX_WINDOW = 1 << 31  # what `zstd --long=31` writes
_CHECKSUM_SIGNS = ("incorrect data check", "incorrect length check", "doesn't match checksum")
_NO_MEMORY = "Allocation error"
_SKIPPABLE = tuple(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))


class DamagedError(Exception):
    """The stream broke here. `at_end`: all of it was decoded, so that its last line is whole without a newline."""

    def __init__(self, reason: str, *, at_end: bool = False) -> None:
        super().__init__(reason)
        self.at_end = at_end
        self.rest = b""


@dataclass(frozen=True)
class _Codec:
    unit: str
    magic: tuple[bytes, ...]
    decoder: Callable[[], Any]
    error: type[Exception]


_CODECS = (
    _Codec("gzip member", (b"\x1f\x8b",), lambda: zlib.decompressobj(wbits=31), zlib.error),
    _Codec(
        "zstd frame",
        (b"\x28\xb5\x2f\xfd", *_SKIPPABLE),
        lambda: zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj(),
        zstandard.ZstdError,
    ),
)


def decompressed(handle: BinaryIO, allowance: Allowance) -> Iterator[bytes]:
    """Yield the content of a seekable file in pieces; raise `DamagedError` where it breaks, after all before that.

    A packed file also breaks where it unpacks to more than is allowed.
    """
    start = handle.read(4)
    handle.seek(0)
    codec = next((codec for codec in _CODECS if start.startswith(codec.magic)), None)
    if codec is None:
        while chunk := handle.read(_CHUNK_BYTES):
            yield chunk
    else:
        for data in _members(handle, codec):
            if reason := allowance.spend(len(data)):
                yield data[: allowance.left]  # negative: so much too many
                raise DamagedError(reason)
            yield data


def with_head(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first 64 KB or more of a stream, and the stream as it was, without its UTF-8 byte order mark."""
    parts: list[bytes] = []
    damage = None
    try:
        while sum(map(len, parts)) < HEAD_BYTES and (chunk := next(chunks, b"")):
            parts.append(chunk)
    except DamagedError as error:
        damage = error
    head = b"".join(parts).removeprefix(b"\xef\xbb\xbf")

    def whole() -> Iterator[bytes]:
        yield head
        if damage:
            raise damage
        yield from chunks

    return head, whole()


class Block(NamedTuple):
    """Some lines of a stream."""

    n_before: int  # lines before them
    data: bytes  # whole lines, each with its newline
    damage: DamagedError | None = None  # the stream broke after them

    @property
    def n_lines(self) -> int:
        """How many lines there are, counted five times as fast as `bytes.count` does."""
        return int(np.count_nonzero(np.frombuffer(self.data, np.uint8) == ord("\n")))


def line_blocks(chunks: Iterator[bytes], max_bytes: int) -> Iterator[Block]:
    """Cut a stream after newlines into blocks of about 1 MB. Damage ends it and does not raise.

    A line longer than `max_bytes` comes cut, but still longer than that.
    """
    parts: list[bytes] = []
    n_lines = n_bytes = 0
    damage = None
    try:
        for part in _whole_lines(chunks, max_bytes):
            parts.append(part)
            n_bytes += len(part)
            if n_bytes >= BLOCK_BYTES:
                yield (block := Block(n_lines, b"".join(parts)))
                n_lines += block.n_lines
                parts, n_bytes = [], 0
    except DamagedError as error:
        damage = error
    if parts or damage:
        yield Block(n_lines, b"".join(parts), damage)


def _whole_lines(chunks: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    """Move the cuts of a stream behind newlines; the last line gets one. Where the stream breaks, its rest is kept."""
    parts: list[bytes] = []  # of the line that has not ended yet
    n_open = 0
    try:
        for chunk in chunks:
            if end := chunk.rfind(b"\n") + 1:
                yield b"".join((*parts, chunk[:end]))
                parts, n_open = [], 0
            if len(chunk) > end and n_open <= max_bytes:
                parts.append(chunk[end:])
                n_open += len(chunk) - end
    except DamagedError as damage:
        rest = b"".join(parts)
        if damage.at_end and rest:
            yield rest + b"\n"
        else:
            damage.rest = rest[:RAW_BYTES]
        raise
    if parts:
        yield b"".join((*parts, b"\n"))


def _members(handle: BinaryIO, codec: _Codec) -> Iterator[bytes]:
    start = yield from _member(handle, codec, 0)
    while True:
        handle.seek(start)
        magic = handle.read(4)
        if not magic or _only_zeros(handle, magic):  # tar and tape pad with zeros, and gzip(1) ignores them
            return
        if not magic.startswith(codec.magic):
            reason = f"garbage after the last {codec.unit}, from byte {start:,} of the file; it was not read"
            raise DamagedError(reason, at_end=True)
        start = yield from _member(handle, codec, start)


def _member(handle: BinaryIO, codec: _Codec, start: int) -> Generator[bytes, None, int]:
    """Yield what one member or frame holds; return the offset of its end."""
    handle.seek(start)
    decoder = codec.decoder()
    position = start
    try:
        while not decoder.eof:
            piece = handle.read(_PIECE_BYTES)
            if not piece:
                raise DamagedError(f"truncated: the file ends inside a {codec.unit}; what follows is lost")
            try:
                data = decoder.decompress(piece)
            except codec.error as error:
                if _NO_MEMORY in str(error):
                    raise MemoryError(str(error)) from error  # zstd's own word for it: the file is as good as before
                yield from _until_damage(handle, codec, start, position)
                raise _explained(codec, error) from error
            position += len(piece)
            if data:
                yield data
        return int(position - len(decoder.unused_data))
    finally:
        del decoder  # an error remembers this frame, and a window of 2 GB with it


def _until_damage(handle: BinaryIO, codec: _Codec, start: int, position: int) -> Iterator[bytes]:
    """Decode the piece at `position` again, byte by byte, up to the byte that fails."""
    decoder = codec.decoder()
    handle.seek(start)
    for at in range(start, position, _PIECE_BYTES):
        decoder.decompress(handle.read(min(_PIECE_BYTES, position - at)))
    try:
        for byte in handle.read(_PIECE_BYTES):
            if data := decoder.decompress(bytes([byte])):
                yield data
    except codec.error:
        return
    finally:
        del decoder


def _explained(codec: _Codec, error: Exception) -> DamagedError:
    message = str(error).removeprefix("zstd decompressor error: ").rpartition("decompressing data: ")[2]
    if any(sign in message for sign in _CHECKSUM_SIGNS):
        kept = "what was decoded is kept but may be wrong; what follows is lost"
        return DamagedError(f"the checksum (CRC) of a {codec.unit} does not match: {kept}", at_end=True)
    return DamagedError(f"corrupt: a {codec.unit} cannot be decoded further ({message}); what follows is lost")


def _only_zeros(handle: BinaryIO, first: bytes) -> bool:
    piece = first
    while piece and not piece.strip(b"\0"):
        piece = handle.read(_CHUNK_BYTES)
    return not piece
