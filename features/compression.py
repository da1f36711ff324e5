"""How well a document compresses: a sign of junk at both ends, and of difficulty for curricula.

Boilerplate and repeated lines compress to a tenth, base64 and random characters hardly at all, prose to a half or a
third, the shorter the worse. No target is needed. gzip decides at 20 to 60 MB/s a core, zstd at three times that.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from .base import Feature
from .compressors import check_level, sizer, version
from .text_buffers import text_buffers


@dataclass(frozen=True)
class Compression(Feature):
    """Measure a document's bytes, its sizes under gzip and zstd, and the ratio of bytes to the gzip size.

    The ratio counts gzip's frame of 18 bytes out, which would else rule in short texts; an empty text has 1.
    """

    name: ClassVar[str] = "compression"
    version: ClassVar[int] = 1
    cost: ClassVar[int] = 1

    gzip_level: int = 6
    """1 (fastest) to 9 (smallest)."""
    zstd_level: int = 3
    """1 (fastest) to 22 (smallest)."""

    def __post_init__(self) -> None:
        check_level("compression", "gzip", self.gzip_level)
        check_level("compression", "zstd", self.zstd_level)

    @property
    def columns(self) -> pa.Schema:
        """Sizes in bytes, and `ratio`: bytes to compressed bytes, 0.8 to 1,030."""
        sizes = [pa.field(name, pa.int64(), nullable=False) for name in ("n_bytes", "gzip_bytes", "zstd_bytes")]
        return pa.schema([*sizes, pa.field("ratio", pa.float64(), nullable=False)])

    def identity(self) -> dict[str, Any]:
        """Return the versions of the libraries that decide the sizes."""
        return {"gzip": version("gzip"), "zstd": version("zstd")}

    def compute(self, batch: pa.RecordBatch, model: None = None) -> pa.RecordBatch:
        """Return the sizes of each document; a null is an empty text."""
        offsets, data = text_buffers(batch.column("text"))
        texts = [data[start:end].tobytes() for start, end in pairwise(offsets.tolist())]
        gzip, zstd = sizer("gzip", self.gzip_level), sizer("zstd", self.zstd_level)
        n_bytes = np.diff(offsets)
        gzip_bytes = np.fromiter(map(gzip, texts), np.int64, len(texts))
        zstd_bytes = np.fromiter(map(zstd, texts), np.int64, len(texts))
        ratio = np.where(n_bytes > 0, n_bytes / np.maximum(1, gzip_bytes - _GZIP_FRAME_BYTES), 1.0)
        return pa.record_batch([pa.array(c) for c in (n_bytes, gzip_bytes, zstd_bytes, ratio)], schema=self.columns)


_GZIP_FRAME_BYTES = 18
