"""Summaries and states of selectors on disk: one safetensors file each, never a pickle.

A state is a frozen dataclass of NumPy arrays, numbers, strings, and mappings or tuples of these. Arrays become tensors;
everything else is one JSON text in the file's metadata.
"""

import hashlib
import json
import struct
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load, save

from .errors import LakeError, StoreError
from .lake import Lake
from .places import is_local

T = TypeVar("T")
_LENGTH = "<Q"


def publish_state(lake: Lake, target: Path, state: Any) -> None:
    """Publish a state or summary."""
    tensors: dict[str, Any] = {}
    plain = json.dumps({f.name: _split(getattr(state, f.name), f.name, tensors) for f in fields(state)}, sort_keys=True)
    lake.publish_bytes(target, save(tensors, metadata={"tamis": plain, "digest": _digest(tensors, plain)}))


def load_state(path: Path, kind: type[T]) -> T:
    """Return the state that `publish_state` wrote. Raises LakeError where the file is damaged."""
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is no dataclass")
    tensors, text = _read(path)
    try:
        plain = json.loads(text)
        return kind(**{f.name: _join(plain[f.name], tensors) for f in fields(kind)})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LakeError(
            f'"{path}" holds no {kind.__name__} ({error!r}); remove it, the next run makes it again'
        ) from error


def check_state(path: Path) -> None:
    """Read a state or summary and compare it with its digest. Raises LakeError where it is damaged."""
    _read(path)


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        tensors, about = _read_file(path) if is_local(path) else _read_object(path)
        plain, digest = about["tamis"], about["digest"]
    except StoreError:
        raise
    except Exception as error:  # the library raises its own type, OSError or KeyError
        raise LakeError(f'"{path}" cannot be read ({error}); `tamis repair` makes it again') from error
    if digest != _digest(tensors, plain):
        raise LakeError(f'"{path}" does not have the digest that it names; `tamis repair` makes it again')
    return tensors, plain


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    with safe_open(path, framework="numpy") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata()  # noqa: SIM118 (no mapping)


def _read_object(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the same from a store, with one request; what is said of the tensors stands before them as JSON."""
    content = path.read_bytes()
    begin = struct.calcsize(_LENGTH)
    (length,) = struct.unpack_from(_LENGTH, content)
    return load(content), json.loads(content[begin : begin + length])["__metadata__"]


def _digest(tensors: dict[str, Any], plain: str) -> str:
    whole = hashlib.blake2b(plain.encode(), digest_size=16)
    for name in sorted(tensors):
        whole.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        whole.update(np.ascontiguousarray(tensors[name]).data)
    return whole.hexdigest()


def _split(value: Any, path: str, tensors: dict[str, Any]) -> Any:
    """Move arrays into `tensors` and leave a reference in their place."""
    if isinstance(value, np.ndarray):
        tensors[path] = np.ascontiguousarray(value)
        return {"tensor": path}
    if isinstance(value, dict):
        return {"map": {k: _split(v, f"{path}/{k}", tensors) for k, v in value.items()}}
    if isinstance(value, (tuple, list)):
        return {"tuple": [_split(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]}
    return {"value": value.item() if isinstance(value, np.generic) else value}


def _join(stored: Any, tensors: dict[str, Any]) -> Any:
    if "tensor" in stored:
        return tensors[stored["tensor"]]
    if "map" in stored:
        return {k: _join(v, tensors) for k, v in stored["map"].items()}
    if "tuple" in stored:
        return tuple(_join(v, tensors) for v in stored["tuple"])
    return stored["value"]
