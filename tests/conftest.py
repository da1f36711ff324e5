"""What every test file may use; `reference.py` beside this file is importable by its name."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import hypothesis
import pyarrow as pa
import pytest
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import BadRecord, ReadOptions, read_records
from tamis.storage.schema import RECORD

sys.path.insert(0, str(Path(__file__).parent))
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci")


def pytest_configure(config):
    """Set the environment before a test imports Prefect; processes that tests start inherit it."""
    config.prefect_home = tempfile.mkdtemp(prefix="tamis-prefect-")
    os.environ |= {
        "PREFECT_HOME": config.prefect_home,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
    }


def pytest_unconfigure(config):
    shutil.rmtree(config.prefect_home, ignore_errors=True)


@pytest.fixture
def read():
    """Read one file: its documents as dictionaries, and its bad records."""

    def documents_and_bad(path, **options):
        (file,) = list_inputs([path.name], path.parent)
        documents, bad = [], []
        for item in read_records(file, ReadOptions(**options)):
            if isinstance(item, BadRecord):
                bad.append(item)
                continue
            assert isinstance(item, pa.RecordBatch) and item.schema.equals(RECORD, check_metadata=True)
            item.validate(full=True)
            documents += item.to_pylist()
        return documents, bad

    return documents_and_bad
