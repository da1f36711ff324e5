"""A mixture of tokens as it is read: ids from memory maps, and where each of them came from.

A position is a token's number, counted over all files of the mixture in their order. Documents lie end to end, so their
lengths are all that reading needs: 16 bytes a document with the keys, however many tokens.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .errors import ConfigError, LakeError
from .lake import read_json, read_table
from .manifest_shapes import mixture_problem
from .places import local, place
from .token_export import SPANS

_BIN, _SPANS = "tokens-", "spans-"


class ExportedTokens:
    """A mixture of the format `tokens` or `megatron`. It pickles as its path: every process maps the files itself."""

    def __init__(self, folder: Path | str) -> None:
        """Open a mixture. Raises ConfigError where the folder has none of tokens, LakeError where it is damaged."""
        self.folder = place(folder)
        if not (self.folder / "manifest.json").is_file():
            raise ConfigError(f'"{self.folder}" has no manifest.json; expected the folder of a mixture of tokens')
        self.manifest: dict[str, Any] = read_json(self.folder / "manifest.json")
        if "dtype" not in self.manifest:
            raise ConfigError(
                f'"{self.folder}" is a mixture of the format {self.manifest.get("format")!r}, expected one of tokens; '
                "`tamis export RUN --format tokens` writes it"
            )
        if problem := mixture_problem(self.manifest):
            raise LakeError(f'"{self.folder / "manifest.json"}" is no manifest of tamis: {problem}; export it again')
        shards = [f for f in self.manifest["files"] if f["file"].startswith(_BIN) and "tokens" in f]
        self._files = [self.folder / f["file"] for f in shards]
        self._ends = np.cumsum([f["tokens"] for f in shards], dtype=np.int64)

    def __reduce__(self) -> tuple[Any, ...]:
        return ExportedTokens, (self.folder,)

    @property
    def key(self) -> str:
        """What names the mixture."""
        return str(self.manifest["key"])

    @property
    def end(self) -> int:
        """Id of the token after each document."""
        return int(self.manifest["end"])

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents, the end tokens included."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def is_ordered(self) -> bool:
        """Whether its documents stand in an order that is meant, a curriculum."""
        return (self.manifest.get("order") or {}).get("by") is not None

    @property
    def rounds(self) -> dict[str, Any] | None:
        """The rule of the selection's rounds (`selectors/rounds.py`), None where it has none."""
        found: dict[str, Any] | None = self.manifest.get("rounds")
        return found

    def spans(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield file by file a row a document, with these columns of SPANS."""
        return (read_table(self._spans(file), columns) for file in self._files)

    @cached_property
    def _documents(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        names = ["length", "doc_key"]
        whole = pa.concat_tables([SPANS.empty_table().select(names), *self.spans(names)])
        return whole.column("length").to_numpy(), whole.column("doc_key").to_numpy()

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document, the end token included."""
        return self._documents[0]

    @property
    def doc_keys(self) -> npt.NDArray[np.uint64]:
        """Key of each document."""
        return self._documents[1]

    @cached_property
    def _maps(self) -> list[npt.NDArray[Any]]:
        dtype = np.dtype(self.manifest["dtype"]).newbyteorder("<")
        return [np.memmap(local(file), dtype, "r") for file in self._files]

    def read(self, position: int, n: int) -> npt.NDArray[Any]:
        """Return `n` ids from a position on, not copied; all of one document."""
        file = int(np.searchsorted(self._ends, position, side="right"))
        start = position - (int(self._ends[file - 1]) if file else 0)
        return self._maps[file][start : start + n]

    def locate(self, positions: Sequence[int] | npt.NDArray[np.int64]) -> pa.Table:
        """Return a row a position, in the order given: `position`, `offset` in the document, and the columns of SPANS.

        Raises ConfigError for a position that the mixture does not have.
        """
        wanted = np.asarray(positions, np.int64)
        for wrong in wanted[(wanted < 0) | (wanted >= self.n_tokens)][:1].tolist():
            raise ConfigError(f"position {wrong:,}: expected one from 0 to {self.n_tokens - 1:,}")
        files = np.searchsorted(self._ends, wanted, side="right")
        tables, order = [SPANS.empty_table()], [np.empty(0, np.int64)]
        offsets = np.empty(len(wanted), np.int64)
        for file in np.unique(files).tolist():
            of_file = np.flatnonzero(files == file)
            inside = wanted[of_file] - (int(self._ends[file - 1]) if file else 0)
            spans = read_table(self._spans(self._files[file]))
            starts = spans.column("start").to_numpy()
            rows = np.searchsorted(starts, inside, side="right") - 1
            offsets[of_file] = inside - starts[rows]
            tables.append(spans.take(pa.array(rows)).cast(SPANS))
            order.append(of_file)
        found = pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(order), kind="stable")))
        named = {"position": pa.array(wanted), "offset": pa.array(offsets)}
        return pa.table({**named, **{name: found.column(name) for name in SPANS.names}})

    def _spans(self, file: Path) -> Path:
        return file.with_name(file.stem.replace(_BIN, _SPANS) + ".parquet")


def locate(folder: Path | str, positions: Sequence[int] | npt.NDArray[np.int64]) -> pa.Table:
    """Return where tokens of a mixture came from: a row a position (`ExportedTokens.locate`). Raises ConfigError."""
    return ExportedTokens(folder).locate(positions)
