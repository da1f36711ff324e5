"""Where an interrupted training goes on: tensors in a safetensors file, the rest in a manifest that is published last.

The manifest holds the digest of the tensors and its own, so what was half written or damaged is passed over, and the
one before it is taken: the two newest are kept. Tensors go straight to the file, never through a copy in memory.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ConfigError, LakeError
from .fingerprint import file_sha256, fingerprint
from .model_files import read_tensors
from .places import local
from .publish import json_ready, publish_json, publishing, take_back

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """What was kept after a step."""

    step: int
    tensors: dict[str, npt.NDArray[Any]]
    rest: dict[str, Any]


def publish_checkpoint(
    folder: Path, scratch: Path, step: int, tensors: Mapping[str, npt.NDArray[Any]], rest: Mapping[str, Any]
) -> None:
    """Keep tensors and JSON types after a step; older ones but one, and those of later steps, are removed.

    One process writes to a folder. `scratch` is on the same file system. A number in `rest` that is not finite is None
    when it is read.
    """
    from safetensors.numpy import save_file

    n_bytes = sum(array.nbytes for array in tensors.values())
    with publishing(_tensors(folder, step), scratch, n_bytes) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, temporary)
        sha256 = file_sha256(temporary)
    content = {"step": step, "sha256": sha256, "rest": json_ready(dict(rest))}
    publish_json(_manifest(folder, step), {**content, "digest": fingerprint(content)}, scratch)
    kept = {f"step-{s:09d}" for s in [s for s in _steps(folder) if s <= step][:KEPT]}
    for path in sorted(folder.glob("step-*")):  # .json before .safetensors
        if path.stem not in kept:
            take_back(path)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, None where none was published. Raises LakeError where all are damaged."""
    found = _steps(folder)
    for step in found:
        if (checkpoint := _read(folder, step)) is not None:
            return checkpoint
    if found:
        raise LakeError(
            f'"{folder}" has no checkpoint that is whole; `tamis repair` removes them, and the training begins again'
        )
    return None


def check_checkpoint(manifest: Path) -> None:
    """Read a checkpoint and compare it with its digests. Raises LakeError where it is damaged."""
    step = manifest.stem.removeprefix("step-")
    if not step.isdigit() or _read(manifest.parent, int(step)) is None:
        raise LakeError(f'"{manifest}" and its tensors do not have the digests that they name')


def _read(folder: Path, step: int) -> Checkpoint | None:
    """Return a checkpoint, None where anything of it is not what was written."""
    try:
        content = json.loads(_manifest(folder, step).read_bytes())
        digest = content.pop("digest")
        if digest != fingerprint(content) or content["sha256"] != file_sha256(_tensors(folder, step)):
            return None
        return Checkpoint(content["step"], read_tensors(local(_tensors(folder, step))), content["rest"])
    except (ValueError, KeyError, AttributeError, TypeError, OSError, ConfigError):
        return None


def _steps(folder: Path) -> list[int]:
    """Return the steps that have a manifest, the newest first."""
    names = (path.stem.removeprefix("step-") for path in folder.glob("step-*.json"))
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def _tensors(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}.safetensors"


def _manifest(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}.json"
