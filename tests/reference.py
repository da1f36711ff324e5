"""Where the reference data lies: large and not part of the repository."""

import os
from pathlib import Path

import pytest

_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared"


def reference_data(name):
    """Return the path of a reference file or folder; skip the test where it is absent, and fail it in CI."""
    path = Path(os.environ.get("TAMIS_REFERENCE", _BESIDE_THE_REPOSITORY)) / name
    if not path.exists():
        missing = f"no reference data at {path}: set TAMIS_REFERENCE to the folder that holds {name}"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return path
