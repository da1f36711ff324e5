"""What manifests have at least, checked as they are read: whoever uses one then finds what it asks for.

A lake may be damaged, or come from somebody else. Names that become paths stay below the folder that they are in. Only
what some command relies on is asked for, so that a manifest of an older or newer tamis, which has less or more, passes.
"""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
from msgspec import Meta

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Key = Annotated[str, Meta(pattern=r"^[0-9A-Za-z_][0-9A-Za-z_.~-]*\Z")]
"""Name of a file or folder, without its suffix."""
Below = Annotated[str, Meta(pattern=r"^(?!/)(?!(.*/)?\.\.?(/|\Z))[^\x00\\]+\Z")]
"""Path that does not climb."""


class _Lake(TypedDict):
    format: Any


class _Newest(TypedDict):
    snapshot: Key


class _File(TypedDict):
    name: str
    below: str
    size: Int
    mtime_ns: int
    inode: int
    sha256: str
    documents: Int
    quarantined: Int
    repaired: Int
    usable: NotRequired[bool]
    etag: NotRequired[str]


class _Span(TypedDict):
    file: str
    start: Int
    rows: Int


class _Shard(TypedDict):
    digest: Key
    rows: Int
    n_bytes: Int
    spans: list[_Span]


class _Counts(TypedDict):
    records: Int
    documents: Int
    quarantined: Int
    excluded: Int
    files: Int
    repaired: Int


class _Snapshot(TypedDict):
    reader: str
    packs: dict[str, Key]
    shards: list[_Shard]
    files: list[_File]
    counts: _Counts


class _Pack(TypedDict):
    key: Key
    reader: str
    files: list[_File]
    shards: list[_Shard]


class _Feature(TypedDict):
    feature: str
    version: Int
    parameters: dict[str, Any]


class _Recipe(TypedDict):
    features: NotRequired[dict[str, str]]
    filter: NotRequired[list[tuple[str, Any]]]


class _Selection(TypedDict):
    shards: dict[Key, str]
    recipe: _Recipe
    kind: NotRequired[str]  # a replay has none
    entered: Int
    kept: Int
    reasons: dict[str, Int]


class _Stage(TypedDict):
    name: str
    computed: NotRequired[Int]
    reused: NotRequired[Int]
    documents: NotRequired[Int]
    seconds: NotRequired[float]
    bytes: NotRequired[Int]


class _Step(TypedDict):
    name: str
    kind: str
    selection: Key
    entered: Int
    kept: Int
    tokens_entered: Int | None
    tokens_kept: Int | None
    bytes_kept: Int | None
    reasons: dict[str, Int]
    health: NotRequired[dict[str, Any] | None]


class _Alarm(TypedDict):
    step: str
    name: str
    value: float | None
    threshold: float | None
    message: str


class _Run(TypedDict):
    run: Key
    flow: str
    config: str
    status: str
    exit_code: Int | None
    pid: Int
    host: NotRequired[str]
    process: NotRequired[dict[str, Int | str]]
    started: str
    finished: str | None
    corpus: str
    snapshot: Annotated[str, Meta(pattern=r"^[0-9A-Za-z_]*\Z")]
    counts: dict[str, Int]
    files: NotRequired[dict[str, dict[str, Any]]]
    targets: NotRequired[dict[str, dict[str, Any]]]
    inputs: NotRequired[dict[str, dict[str, Any]]]
    tokenizer: str
    tokens_key: Annotated[str, Meta(pattern=r"^[0-9A-Za-z_]*\Z")]
    stages: list[_Stage]
    steps: list[_Step]
    models: NotRequired[list[dict[str, Any]]]
    mixture: NotRequired[dict[str, Any]]
    outputs: NotRequired[list[dict[str, Any]]]
    diff: NotRequired[dict[str, Any]]
    plan: NotRequired[dict[str, Any]]
    warnings: list[str]
    alarms: NotRequired[list[_Alarm]]
    prefect: NotRequired[dict[str, Any]]
    error: NotRequired[str | None]


class _Holder(TypedDict):
    pid: Int
    host: NotRequired[str]
    process: NotRequired[dict[str, Int | str]]


class _Part(TypedDict):
    part: str
    source: str | None
    weight: float | None
    max_epochs: float | None
    available: Int
    wanted: Int | None
    asked: Int | None
    achieved: Int
    epochs: float | None
    documents: Int
    copies: Int


class _Draw(TypedDict):
    mixture: str
    draw: Key
    parts: list[_Part]
    shards: dict[Below, Any]


class _MixtureFile(TypedDict):
    file: Below
    sha256: str
    rows: NotRequired[Int]
    tokens: NotRequired[Int]
    size: NotRequired[Int]


class Mixture(TypedDict):
    """The manifest of a mixture, also of one that lies in no lake."""

    mixture: str
    key: str
    run: str
    format: str
    rows: Int
    tokens: Int
    bytes: Int
    files: list[_MixtureFile]
    draw: NotRequired[str | None]
    dtype: NotRequired[str]
    end: NotRequired[Int | None]
    order: NotRequired[dict[str, Any] | None]
    rounds: NotRequired[dict[str, Any] | None]


_BY_NAME: dict[str, Any] = {
    "lake.json": _Lake, "newest.json": _Newest, "feature.json": _Feature, "run.json": _Run, "uses.json": list[Below],
    "cleaning.json": _Holder, "holder.json": _Holder,
}  # fmt: skip
_BY_FOLDER: dict[tuple[int, str], Any] = {
    (-2, "packs"): _Pack, (-3, "snapshots"): _Snapshot, (-3, "selections"): _Selection, (-3, "draws"): _Draw,
    (-4, "mixtures"): Mixture,
}  # fmt: skip


def check_shape(path: Path, value: Any) -> None:
    """Raise ValueError where a manifest lacks what is asked of its kind, by where in a lake it lies."""
    shape = _BY_NAME.get(path.name)
    parts = path.parts
    if shape is None and (path.name == "manifest.json" or parts[-2] == "packs"):
        shape = next((kind for (at, name), kind in _BY_FOLDER.items() if len(parts) >= -at and parts[at] == name), None)
    if shape is not None:
        try:
            msgspec.convert(value, shape)
        except msgspec.ValidationError as error:  # a ValueError only since msgspec 0.21
            raise ValueError(str(error)) from error


def known(kind: type[Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return what a dataclass has fields for: a newer tamis, or damage, may have put more into a manifest."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in found.items() if name in names}


def mixture_problem(value: Any) -> str | None:
    """Say what a manifest of a mixture of tokens lacks, wherever it lies, or return None."""
    try:
        found = msgspec.convert(value, Mixture)
    except msgspec.ValidationError as error:
        return str(error)
    if found.get("dtype") not in (None, "uint16", "uint32", "int32"):
        return f"its tokens are {found.get('dtype')!r}"
    return None
