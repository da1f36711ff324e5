"""What a record becomes when it enters the lake: a document with an id, a key, a hash, a size and an origin.

The hashes are those of the C libraries, called once a document: 1 GB of text a second in all, a tenth of what reading
and writing takes. A kernel would be slower, because it cannot use the processor's SHA instructions.
"""

import hashlib
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from .inputs import InputFile
from .schema import DOCUMENT


def documents(file: InputFile, records: pa.RecordBatch, ids: "IdMaker") -> pa.RecordBatch:
    """Return records (schema RECORD) as documents (schema DOCUMENT); `ids` is the file's own."""
    text, doc_ids = records.column("text"), records.column("doc_id")
    hashes = text_hashes(text)
    names = doc_ids.to_pylist()
    if doc_ids.null_count:
        names = [ids.make(text_hash) if name is None else name for name, text_hash in zip(names, hashes, strict=True)]
        doc_ids = pa.array(names, pa.string())
    columns = {
        "doc_id": doc_ids,
        "doc_key": pa.array(np.fromiter(map(doc_key, names), np.uint64, len(names))),
        "file": pa.repeat(pa.scalar(file.name, pa.string()), records.num_rows),
        "n_bytes": pc.binary_length(text).cast(pa.int64()),
        "text_hash": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), len(hashes), [None, pa.py_buffer(b"".join(hashes))]
        ),
    }
    arrays = [columns[f.name] if f.name in columns else records.column(f.name) for f in DOCUMENT]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT)


def text_hashes(text: pa.Array) -> list[bytes]:
    """Return for each text the first 16 bytes of the SHA-256 of its UTF-8 form."""
    if len(text) == 0:
        return []
    offsets = np.frombuffer(text.buffers()[1], dtype=np.int64)[text.offset : text.offset + len(text) + 1].tolist()
    data = memoryview(text.buffers()[2] or b"")
    return [hashlib.sha256(data[start:stop]).digest()[:16] for start, stop in pairwise(offsets)]


def doc_key(doc_id: str) -> int:
    """Return the 64-bit key of a document id: xxh3_64 of its UTF-8 form."""
    return xxhash.xxh3_64_intdigest(doc_id.encode())


class IdMaker:
    """Make ids for the records of one file that have none: hash(path below the glob, text), `-n` for the n-th copy.

    The copies are counted over 64-bit prefixes kept in sorted runs: 8 bytes a record, so a file of 10^8 records needs
    0.8 GB.
    """

    def __init__(self, below: str) -> None:
        self._below = below.encode()
        self._runs: list[npt.NDArray[np.uint64]] = []
        self._fresh: set[int] = set()
        self._copies: dict[int, int] = {}

    def make(self, text_hash: bytes) -> str:
        """Return the id of the next record without one."""
        name = hashlib.blake2b(self._below + b"\0" + text_hash, digest_size=16).hexdigest()
        key = int(name[:16], 16)
        if key not in self._fresh and not any(_contains(run, key) for run in self._runs):
            self._fresh.add(key)
            if len(self._fresh) >= 1 << 16:
                self._spill()
            return name
        self._copies[key] = self._copies.get(key, 0) + 1
        return f"{name}-{self._copies[key]}"

    def _spill(self) -> None:
        run = np.array(sorted(self._fresh), dtype=np.uint64)
        self._fresh = set()
        while self._runs and self._runs[-1].size <= run.size:
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        self._runs.append(run)


def _contains(run: npt.NDArray[np.uint64], key: int) -> bool:
    place = int(np.searchsorted(run, np.uint64(key)))
    return place < run.size and int(run[place]) == key
