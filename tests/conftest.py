"""What every test file may use; `reference.py` beside this file is importable by its name."""

import sys
from pathlib import Path

import pyarrow as pa
import pytest
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import BadRecord, ReadOptions, read_records
from tamis.storage.schema import RECORD

sys.path.insert(0, str(Path(__file__).parent))


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
