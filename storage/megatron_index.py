r"""The index (.idx) of a token file (.bin) as Megatron-LM reads it: one sequence a document.

Little-endian, without padding: the magic `MMIDIDX\0\0`, the version 1 (uint64), the code of the tokens' type (uint8),
the number of sequences n (uint64), the number of document boundaries n + 1 (uint64), the tokens of each sequence
(int32), its first byte in the .bin file (int64), and the sequence that each document begins with, and n (int64).
Source: megatron/core/datasets/indexed_dataset.py of Megatron-LM.
"""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

MAGIC, VERSION = b"MMIDIDX\x00\x00", 1
CODES = {"uint16": 8, "int32": 4}
"""Its codes for the types that tokens may have; it knows no uint32."""


def write_index(path: Path, dtype: str, lengths: npt.NDArray[np.int64]) -> None:
    """Write the index of documents that lie one after the other, of so many tokens each."""
    n = len(lengths)
    pointers = np.zeros(n, np.int64)
    np.cumsum(lengths[:-1] * np.dtype(dtype).itemsize, out=pointers[1:])
    with path.open("wb") as file:
        file.write(MAGIC + struct.pack("<QBQQ", VERSION, CODES[dtype], n, n + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write(pointers.astype("<i8").tobytes())
        file.write(np.arange(n + 1, dtype="<i8").tobytes())
