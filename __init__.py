"""tamis: choose the documents of a raw corpus that a language model should be trained on.

The public names are loaded when they are first used, so that ``import tamis`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipelines.api import export, ingest, load, mix, replay, run, sql, train_aux
    from .pipelines.comparing import compare
    from .pipelines.diff_notes import diff
    from .pipelines.explaining import explain
    from .pipelines.explaining_tokens import explain_token
    from .pipelines.planning import plan
    from .pipelines.recorded import Run
    from .pipelines.torch_dataset import torch_dataset
    from .storage.exported_tokens import locate
    from .storage.lake import Lake

__version__ = "0.1.0"
__all__ = [
    "Lake",
    "Run",
    "__version__",
    "compare",
    "diff",
    "explain",
    "explain_token",
    "export",
    "ingest",
    "load",
    "locate",
    "mix",
    "plan",
    "replay",
    "run",
    "sql",
    "torch_dataset",
    "train_aux",
]

_HOME = {
    "Lake": "tamis.storage.lake",
    "Run": "tamis.pipelines.recorded",
    "compare": "tamis.pipelines.comparing",
    "diff": "tamis.pipelines.diff_notes",
    "explain": "tamis.pipelines.explaining",
    "explain_token": "tamis.pipelines.explaining_tokens",
    "export": "tamis.pipelines.api",
    "ingest": "tamis.pipelines.api",
    "load": "tamis.pipelines.api",
    "locate": "tamis.storage.exported_tokens",
    "mix": "tamis.pipelines.api",
    "plan": "tamis.pipelines.planning",
    "replay": "tamis.pipelines.api",
    "run": "tamis.pipelines.api",
    "sql": "tamis.pipelines.api",
    "torch_dataset": "tamis.pipelines.torch_dataset",
    "train_aux": "tamis.pipelines.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module 'tamis' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
