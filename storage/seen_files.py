"""How a run came to know its input files: by their stat alone, by a digest, or by reading them.

Which it was is a fact about a run and not about the files, so it is kept with the run: the same files give the same
snapshot, however they were looked at.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from .fingerprint import file_sha256
from .inputs import InputFile

How = Literal["trusted", "digested", "read"]
"""trusted: size, mtime and inode are those of its record. digested: its bytes are. read: they were new."""
SEEN = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("how", pa.string(), nullable=False),
        pa.field("bytes_digested", pa.int64(), nullable=False),  # to find out; reading a file digests it once more
        pa.field("seconds", pa.float64(), nullable=False),  # of that digest
    ]
)


class Digested(NamedTuple):
    """The digest of a listed file, and what it took."""

    sha256: str
    """Empty where the file cannot be read: who reads it says why."""
    n_bytes: int
    seconds: float


def digest_file(file: InputFile) -> Digested:
    """Digest a listed file."""
    begin = time.perf_counter()
    try:
        sha256 = file_sha256(file.path)
    except OSError:
        return Digested("", 0, time.perf_counter() - begin)
    return Digested(sha256, file.size, time.perf_counter() - begin)


def seen_table(files: Sequence[InputFile], digests: Mapping[str, Digested], unread: Iterable[InputFile]) -> pa.Table:
    """Return how each listed file came to be known, as rows of SEEN."""
    new = {file.name for file in unread}
    rows = []
    for file in files:
        digest = digests.get(file.name)
        how: How = "read" if file.name in new else "digested" if digest else "trusted"
        n_bytes, seconds = (digest.n_bytes, round(digest.seconds, 6)) if digest else (0, 0.0)
        rows.append((file.name, file.size, how, n_bytes, seconds))
    columns = list(zip(*rows, strict=True)) or [()] * len(SEEN)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SEEN, strict=True)], schema=SEEN)


def seen_summary(table: pa.Table) -> dict[str, Any]:
    """Return how many files there are of each kind, and what the digests took (seconds: of all threads together)."""
    how = table.column("how").to_pylist()
    counts = {kind: how.count(kind) for kind in ("trusted", "digested", "read")}
    digested = {name: sum(table.column(name).to_pylist()) for name in ("bytes_digested", "seconds")}
    return {**counts, **digested, "seconds": round(digested["seconds"], 6)}
