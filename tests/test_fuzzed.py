"""What fuzzing found stays mended, and a little of it in every run of the tests: `make fuzz` does more."""

import itertools

import pytest
from fuzzing import KEPT, TARGETS, check, generated

FOUND = sorted(p.relative_to(KEPT).as_posix() for p in KEPT.glob("*/*"))


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(tmp_path, name):
    check(name.partition("/")[0], (KEPT / name).read_bytes(), tmp_path)


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_inputs(tmp_path, target):
    n = 8 if target.startswith("manifest") else 60
    for content in itertools.islice(generated(target, 0), n):
        check(target, content, tmp_path)
