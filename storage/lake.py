"""Where things lie in the lake, and how they get there.

The lake is a folder, here or in an object store (`places`); everything in it but `catalog.duckdb` and `tmp/` is
immutable once published. Paths are made here and nowhere else, so that the layout is one page.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from .errors import LakeError
from .lake_format import FORMAT, check_format, marked
from .memory import Budget
from .places import ATOMIC, is_local, place, scratch_of
from .processes import Process
from .publish import MARKER, publish_bytes, publish_json, publish_link, publish_table, temporary_path
from .published import open_parquet, read_json, read_jsons, read_table, readable_jsons, whole

__all__ = [
    "Lake",
    "open_parquet",
    "read_json",
    "read_jsons",
    "read_table",
    "readable_jsons",
    "remove_stale",
    "scratch_folder",
    "stale",
    "whole",
]  # fmt: skip

NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
"""What entries of the configuration may be called: names become folders."""
USES = ("features", "states", "scores", "models", "draws")
"""The kinds of artefacts that a run notes as it comes to them: no record names them all."""
LOG = "log.jsonl"
"""Of a run: who writes it holds it as long as the run goes on."""
SET_ASIDE = "damaged"
"""What the folder in `tmp/` is called where a repair keeps damaged files until it has made them again."""
CLUSTER_TABLES = "v1"
"""Raised when the tables or maps of clusters change: they are made again, and the catalogue looks at the new ones."""


@dataclass(frozen=True)
class Lake:
    """A lake's folder, and the paths in it."""

    root: Path
    used: set[str] = field(default_factory=set, compare=False, repr=False)
    """Which artefacts of the kinds in `USES` were asked for by this object, as paths below the root."""
    memory: Budget = field(default=Budget(), compare=False, repr=False)
    """How much of it may be in memory at a time."""

    @classmethod
    def open(cls, root: Path | str, *, create: bool = False) -> "Lake":
        """Open the lake at `root`, or make an empty one there.

        Raises LakeError where there is none (and `create` is false), or one of another format version, and StoreError.
        """
        lake = cls(_whole_place(root))
        if not lake.is_there:
            if not create:
                raise LakeError(
                    f'no lake at "{lake.root}" (it has no lake.json); `tamis run` or `tamis ingest` makes one'
                )
            _make(lake)
        check_format(lake.root)
        return lake

    @classmethod
    def foreseen(cls, root: Path | str) -> "Lake":
        """Return the lake at `root`, or the one that `open` would make, of which nothing is made.

        Raises LakeError where a lake can neither be read nor made.
        """
        lake = cls(_whole_place(root))
        if lake.is_there:
            check_format(lake.root)
        else:
            _check_empty(lake)
        return lake

    @property
    def is_there(self) -> bool:
        """Whether it was made."""
        return self._marker.exists()

    @property
    def _marker(self) -> Path:
        return self.root / MARKER

    @property
    def scratch(self) -> Path:
        """Folder on this machine of what is being written."""
        return scratch_of(self.root)

    @property
    def catalog(self) -> Path:
        """The DuckDB index."""
        return self.root / "catalog.duckdb"

    def corpus(self, name: str) -> Path:
        """Folder of a corpus (a target set is one too, under `targets/`)."""
        return self.root / "corpora" / name

    def shard(self, corpus: str, digest: str) -> Path:
        """Parquet file of a shard's documents."""
        return self.corpus(corpus) / "shards" / f"{digest}.parquet"

    def pack(self, corpus: str, key: str) -> Path:
        """Record of the input files that were read together, and of the shards they made."""
        return self.corpus(corpus) / "packs" / f"{key}.json"

    def snapshot(self, corpus: str, snapshot: str) -> Path:
        """Folder of a snapshot."""
        return self.corpus(corpus) / "snapshots" / snapshot

    def quarantine(self, corpus: str, key: str) -> Path:
        """Parquet file of what could not be read in one pack."""
        return self.root / "quarantine" / corpus / f"{key}.parquet"

    def feature(self, key: str) -> Path:
        """Folder of a feature's values."""
        return self._using("features", key)

    def state(self, key: str) -> Path:
        """Folder of a selector's summaries and fitted state."""
        return self._using("states", key)

    def scores(self, key: str) -> Path:
        """Folder of the scores of one fitted selector."""
        return self._using("scores", key)

    def selection(self, key: str) -> Path:
        """Folder of one step's result."""
        return self.root / "selections" / key

    def clusters(self, selection: str) -> Path:
        """Folder of the table and map of the clusters that a selection was made by."""
        return self.root / "clusters" / CLUSTER_TABLES / selection

    def model(self, key: str) -> Path:
        """Folder of one trained model."""
        return self._using("models", key)

    def training(self, key: str) -> Path:
        """Folder of what a training needs while it goes on: its tokens and its checkpoints."""
        return self.root / "training" / key

    def proxy(self, key: str) -> Path:
        """Record of what was measured with one small model for a comparison."""
        return self.root / "proxies" / f"{key}.json"

    def rounds(self, selection: str) -> Path:
        """Folder of what each round of a selection did with each cluster, and of the rounds of its documents."""
        return self.root / "rounds" / selection

    def draw(self, key: str) -> Path:
        """Folder of which documents a mixture has, and how often."""
        return self._using("draws", key)

    def mixture(self, name: str, key: str) -> Path:
        """Folder of one published mixture."""
        return self.root / "mixtures" / name / key

    def run(self, run_id: str) -> Path:
        """Folder of one execution."""
        return self.root / "runs" / run_id

    def plan(self, key: str) -> Path:
        """File of what was said of a flow before it ran."""
        return self.root / "plans" / f"{key}.json"

    def _using(self, kind: str, key: str) -> Path:
        self.used.add(f"{kind}/{key}")
        return self.root / kind / key

    def publish_uses(self, folder: Path) -> None:
        """Publish in the folder of a run or a selection what was asked for so far."""
        self.publish_json(folder / "uses.json", sorted(self.used.copy()))  # threads may add to it

    def publish_json(self, target: Path, value: Any) -> None:
        """Publish a manifest."""
        publish_json(target, value, self.scratch)

    def publish_bytes(self, target: Path, data: bytes) -> None:
        """Publish a small file."""
        publish_bytes(target, data, self.scratch)

    def publish_link(self, target: Path, source: Path) -> None:
        """Publish a file of the lake under another name too."""
        publish_link(target, source, self.scratch)

    def publish_table(self, target: Path, table: pa.Table) -> str:
        """Publish a table; return the digest of its content."""
        return publish_table(target, table, self.scratch)

    def table(self, path: Path, columns: list[str] | None = None) -> pa.Table:
        """Return a published table, or some of its columns."""
        return read_table(path, columns)

    def sweep_scratch(self) -> None:
        """Remove what processes of this machine that are gone left in `tmp/`."""
        remove_stale(self.scratch)


@contextlib.contextmanager
def scratch_folder(lake: Lake, name: str) -> Iterator[Path]:
    """Yield a path in `tmp/` that is gone afterwards, and with it all folders of a lake that was not made meanwhile."""
    missing = [p for p in (lake.scratch, *lake.scratch.parents) if not p.exists()]
    with _making(lake):
        scratch = temporary_path(lake.scratch, name)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in missing if not lake.is_there else []:
            with contextlib.suppress(OSError):  # not empty: it is somebody else's by now
                folder.rmdir()


def remove_stale(folder: Path) -> None:
    """Remove temporary files of processes that are known to be gone, but not what repairs had set aside."""
    for leftover in stale(folder):
        if leftover.is_symlink() or not leftover.name.endswith(f"~{SET_ASIDE}"):
            _remove(leftover)


def stale(folder: Path) -> Iterator[Path]:
    """Yield the temporary files and folders of processes that are known to be gone."""
    for leftover in sorted(folder.glob("*~*~*")) if folder.exists() else ():
        owner = Process.named(leftover.name)
        if owner and owner.runs() is False:
            yield leftover


def _check_empty(lake: Lake) -> None:
    """Raise LakeError where a lake would be made among other files; scratch space is of a command that was killed."""
    with _making(lake):
        there = lake.root.exists() or lake.root.is_dir()
        if there and any(p != lake.scratch for p in lake.root.iterdir()) and not lake.is_there:  # nobody was faster
            advice = (
                f'name another folder under `lake:`, or put {{"format": {FORMAT}}} into its lake.json if it was one'
            )
            raise LakeError(f'"{lake.root}" is not empty and has no lake.json; {advice}')


def _make(lake: Lake) -> None:
    """Make an empty lake."""
    _check_empty(lake)
    with _making(lake):
        lake.root.mkdir(parents=True, exist_ok=True)
        if is_local(lake.root):
            publish_bytes(lake._marker, marked(), lake.scratch)
        else:
            _make_in_store(lake)


def _make_in_store(lake: Lake) -> None:
    """Make the marker where nobody else has: of two makers the second finds the first one's lake."""
    temporary = temporary_path(lake.scratch, "lake.json")
    temporary.write_bytes(marked())
    try:
        cast("Any", lake._marker).put(temporary, create=True)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _whole_place(root: Path | str) -> Path:
    """Return where a lake lies. Raises LakeError for a store that may show half an object."""
    found = place(root)
    if not is_local(found) and cast("Any", found).protocol not in ATOMIC:
        raise LakeError(f'"{found}" cannot hold a lake: expected a folder, or a store of {", ".join(sorted(ATOMIC))}')
    return found.resolve()


@contextlib.contextmanager
def _making(lake: Lake) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakeError(f'no lake can be made at "{lake.root}": {error.strerror}; name another folder') from error


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            for child in path.iterdir():
                _remove(child)
            path.rmdir()
        else:
            path.unlink()
