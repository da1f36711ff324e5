"""The digest of every file of a lake, noted when it is published: `sums/` holds a journal of each process that wrote.

A line says path, size, CRC-32 and XXH3 (128 bits) of the bytes, and carries a check of its own, so a flipped bit is
found in any file: a picture, a manifest, the footer of a Parquet file, the catalogue, and in a journal itself. It is
written before a file takes the place of another, and after a new one has its name. A path that was published again has
several lines, and a file is whole where it is what any of them says; of a text that grows each line says how it began.
Reading 1 GB costs 0.2 s.

Against bad disks and slips, not against people: who can write into the lake can write lines. In an object store nothing
is noted; the store has checksums of its own.
"""

import json
import os
import platform
import threading
import uuid
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import xxhash

from .locks import alone_with

FOLDER = "sums"
GROWS = "log.jsonl"
PASSING = "training/"
"""What comes and goes while a model is trained: nobody notes that it went."""
_CHUNK = 1 << 22


class Sum(NamedTuple):
    """What the bytes of a file were when it was published."""

    size: int
    crc: int
    digest: str


GONE = Sum(-1, 0, "")
"""Said of a file before it is removed on purpose."""


@dataclass
class Sums:
    """What all journals of a lake say."""

    files: dict[str, list[Sum]] = field(default_factory=dict)
    """By path below the root, in no order; `GONE` among them where the file was removed."""
    damaged: dict[str, list[int]] = field(default_factory=dict)
    """The numbers, from 1, of the lines of a journal that are not what was written."""

    def published(self, name: str) -> list[Sum]:
        """Return what a file may be."""
        return [one for one in self.files.get(name, ()) if one != GONE]

    def expected(self) -> Iterator[str]:
        """Yield the files that were published and never removed on purpose, but those of a training in progress."""
        return (name for name, found in self.files.items() if GONE not in found and not name.startswith(PASSING))


def sum_of(path: Path, size: int | None = None) -> Sum:
    """Return the sum of a file, or of so many bytes at its begin."""
    left = path.stat().st_size if size is None else size
    n, crc, digest = 0, 0, xxhash.xxh3_128()
    with path.open("rb") as file:
        while left and (data := file.read(min(_CHUNK, left))):
            n, left, crc = n + len(data), left - len(data), zlib.crc32(data, crc)
            digest.update(data)
    return Sum(n, crc, digest.hexdigest())


def sum_of_bytes(data: bytes) -> Sum:
    """Return the sum of a file's content."""
    return Sum(len(data), zlib.crc32(data), xxhash.xxh3_128_hexdigest(data))


def is_whole(path: Path, found: Iterable[Sum]) -> bool:
    """Say whether a file is what was published; of one that grows, whether it begins so."""
    if path.name == GROWS:
        longest = max(found)
        return path.stat().st_size >= longest.size and sum_of(path, longest.size) == longest
    return sum_of(path) in found


class _Journals:
    """The journals of this process, one a lake."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: dict[tuple[int, Path], Path] = {}

    def append(self, root: Path, sums: Mapping[str, Sum], *, durable: bool) -> None:
        lines = b"".join(_line(name, one) for name, one in sums.items())
        with self._lock:
            path = self._paths.setdefault((os.getpid(), root), root / FOLDER / _name())
            path.parent.mkdir(exist_ok=True)
            with _held(path) as file:
                before = file.seek(0, os.SEEK_END)
                try:
                    if file.write(lines) != len(lines):
                        raise OSError(28, os.strerror(28), str(path))
                except OSError:
                    file.truncate(before)  # half a line would pass for a damaged one
                    raise
                if durable:
                    os.fsync(file.fileno())


_JOURNALS = _Journals()
"""As long as the process lives; a fork begins others, because its number is another."""


@contextmanager
def _held(path: Path) -> Iterator[IO[bytes]]:
    """Open a journal to add to it, which nobody gathers meanwhile."""
    while True:
        with path.open("ab", buffering=0) as file, alone_with(file.fileno()):
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def note(root: Path, target: Path, content: Path) -> None:
    """Note what a file of the lake at `root` is, or is about to be; nothing for one that lies elsewhere.

    What takes the place of another is noted first, and durably: a crash must not leave the new file with the old line.
    """
    if target.is_relative_to(root) and target != root / "lake.json" and target.parent != root / FOLDER:
        name = target.relative_to(root).as_posix()
        _JOURNALS.append(root, {name: sum_of(content)}, durable=target.exists() and target != content)


def note_gone(root: Path, names: Iterable[str]) -> None:
    """Note that files are about to be removed on purpose."""
    _JOURNALS.append(root, dict.fromkeys(names, GONE), durable=False)


def note_given_up(root: Path) -> None:
    """Note that mixtures and runs are gone whose folders are not there: so a person gives them up, `clean` says."""
    gone = []
    for name in read_sums(root).expected():
        kind, *parts = name.split("/")
        depth = {"mixtures": 2, "runs": 1}.get(kind)
        if depth and not root.joinpath(kind, *parts[:depth]).exists():
            gone.append(name)
    if gone:
        note_gone(root, gone)


def read_sums(root: Path) -> Sums:
    """Read all journals of a lake on this machine."""
    found = Sums()
    for journal in journals(root):
        content = journal.read_bytes()
        if damaged := [n for n, line in enumerate(_lines(content), 1) if _parsed(line) is None]:
            found.damaged[f"{FOLDER}/{journal.name}"] = damaged
            content = corrected(content)
        for name, one in filter(None, map(_parsed, _lines(content))):
            sums = found.files.setdefault(name, [])
            if one not in sums:
                sums.append(one)
    return found


def journals(root: Path) -> list[Path]:
    """Return the files that hold the sums."""
    return sorted((root / FOLDER).glob("*.txt"))


def gather(root: Path) -> None:
    """Make one journal of all, without damaged lines and what is said of files that were removed on purpose.

    What is missing is missed on. A process that lives begins another journal, because its own gets another name before
    it is read, and is read when nobody writes into it. Who is killed leaves some of the journals that went into the new
    one: that a file was removed on purpose is forgotten with the last journal that knows of the file, not before.
    """
    taken = [path.rename(path.with_name(f"gathered-{_name()}")) for path in journals(root)]
    sums: dict[str, list[Sum]] = defaultdict(list)
    knowing: dict[str, set[Path]] = defaultdict(set)
    for path in taken:
        for name, one in filter(None, map(_parsed, _lines(_read_alone(path)))):
            knowing[name].add(path)
            if one not in sums[name]:
                sums[name].append(one)
    kept = {name: _present(root, name, found, len(knowing[name]) == 1) for name, found in sums.items()}
    content = b"".join(_line(name, one) for name in sorted(kept) for one in kept[name])
    if content:
        temporary = root / FOLDER / f"{_name()}~"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(root / FOLDER / f"gathered-{_name()}")
    for path in taken:
        path.unlink(missing_ok=True)


def corrected(content: bytes) -> bytes:
    """Return a journal with every damaged line put right that has one flipped bit, the others left out."""
    out, bad = [], b""
    for line in [*_lines(content), b""]:
        if line and _parsed(line) is None:
            bad += line
            continue
        if bad:
            out.append(_mended(bad))
            bad = b""
        out.append(line)
    return b"".join(out)


def _mended(bad: bytes) -> bytes:
    """Return the lines that these were before a bit of them flipped, nothing where no bit explains it."""
    for place in range(len(bad) * 8):
        tried = bytearray(bad)
        tried[place >> 3] ^= 1 << (place & 7)
        if tried.endswith(b"\n") and all(_parsed(line) for line in _lines(bytes(tried))):
            return bytes(tried)
    return b""


def _read_alone(path: Path) -> bytes:
    with path.open("rb") as file, alone_with(file.fileno()):
        return file.read()


def _present(root: Path, name: str, found: list[Sum], is_known_once: bool) -> list[Sum]:
    """Return of several sums of a path that of what is there now, all where it is none of them, none of what went.

    Of what went it is said once more that it did where several journals know of it.
    """
    path = root / name
    if not path.exists():
        if GONE in found and not is_known_once:
            return [GONE]
        return [] if GONE in found or name.startswith(PASSING) else found
    found = [one for one in found if one != GONE]
    if len(found) < 2 or path.name == GROWS:
        return [max(found)] if found else []
    now = sum_of(path)
    return [now] if now in found else found


def _name() -> str:
    return f"{platform.node().replace('/', '-').replace('~', '-')}~{os.getpid()}~{uuid.uuid4().hex[:12]}.txt"


def _lines(content: bytes) -> list[bytes]:
    """Split at line feeds alone: `splitlines` cuts at carriage returns too, which a flipped bit may have made."""
    parts = content.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _line(name: str, one: Sum) -> bytes:
    text = json.dumps([name, *one]).encode()
    return f"{xxhash.xxh32_hexdigest(text)} ".encode() + text + b"\n"


def _parsed(line: bytes) -> tuple[str, Sum] | None:
    """Return what a line says, None where it is not what was written."""
    check, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or xxhash.xxh32_hexdigest(text[:-1]).encode() != check:
        return None
    name, *rest = json.loads(text)
    return name, Sum(*rest)
