"""What a mixture consists of: documents and tokens by source and, where the documents' metadata give it, by licence."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NO_SOURCE, NO_LICENCE = "(none)", "(not given)"
LICENCE_KEYS = ("license", "licence")
"""Keys of `meta`, in any case, whose text is a licence."""
LONGEST = 200
NAMES_KEPT, OTHERS = 100_000, "(others)"


@dataclass
class Counts:
    """Documents and tokens by name; a name is one of the first 100,000 that were seen, or all others together."""

    documents: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)

    def add(self, names: list[str], n_tokens: npt.NDArray[np.int64]) -> None:
        """Count documents, each with its name and its tokens."""
        for name, n in zip(names, n_tokens.tolist(), strict=True):
            if name not in self.documents and len(self.documents) >= NAMES_KEPT:
                name = OTHERS
            self.documents[name] += 1
            self.tokens[name] += n

    def update(self, other: "Counts") -> None:
        """Add what other documents have."""
        for name, n in other.documents.items():
            known = name in self.documents or len(self.documents) < NAMES_KEPT
            self.documents[name if known else OTHERS] += n
            self.tokens[name if known else OTHERS] += other.tokens[name]

    def rows(self) -> list[tuple[str, int, int]]:
        """Return name, documents and tokens, most documents first."""
        return [(name, n, self.tokens[name]) for name, n in sorted(self.documents.items(), key=lambda x: (-x[1], x[0]))]


@dataclass
class Composition:
    """Counts of what goes by; copies count as often as they stand there."""

    sources: Counts = field(default_factory=Counts)
    _licences: Counts = field(default_factory=Counts)

    def add(self, documents: pa.Table, n_tokens: npt.NDArray[np.int64]) -> None:
        """Count documents, of which there are `source` and `meta`."""
        self.sources.add(documents.column("source").fill_null(NO_SOURCE).to_pylist(), n_tokens)
        self._licences.add(licences(documents.column("meta")), n_tokens)

    def update(self, other: "Composition") -> None:
        """Add what other documents are counted by."""
        self.sources.update(other.sources)
        self._licences.update(other._licences)

    @property
    def licences(self) -> list[tuple[str, int, int]]:
        """Rows of the licences; none where no document gives one."""
        found = self._licences.rows()
        return found if any(name != NO_LICENCE for name, *_ in found) else []


def licences(meta: pa.ChunkedArray) -> list[str]:
    """Return the licence that each document's metadata name, NO_LICENCE where they do not."""
    names = [NO_LICENCE] * len(meta)
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode  # values stay as they are: a number may be any
    pattern = f'"({"|".join(LICENCE_KEYS)})"'
    there = pc.match_substring_regex(meta, pattern, ignore_case=True).fill_null(False)
    rows = np.flatnonzero(there.to_numpy())
    for row, text in zip(rows.tolist(), meta.take(pa.array(rows)).to_pylist(), strict=True):
        names[row] = _licence(decode(text))
    return names


def _licence(meta: dict[str, msgspec.Raw]) -> str:
    texts = (bytes(value) for key, value in meta.items() if key.lower() in LICENCE_KEYS)
    given = (msgspec.json.decode(text) for text in texts if text.startswith(b'"'))
    return next(given, "").strip()[:LONGEST] or NO_LICENCE
