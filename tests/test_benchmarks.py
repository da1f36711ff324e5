"""What runs the benchmarks: `make bench` finds each of them, and says what it needs."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def make(*arguments):
    """Run make as from a shell, also where these tests run under make, which tells it in the environment."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.run(["make", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("given", [[], ["DATA=/nowhere"]])
def test_without_data_it_says_what_to_give(given):
    done = make(*given)
    assert done.returncode != 0 and done.stdout == ""
    assert "make bench DATA=/path" in done.stderr


def test_every_benchmark_is_run(tmp_path):
    (tmp_path / "pool").mkdir()
    scripts = (ROOT / "tests" / "benchmarks").glob("*.py")
    names = {path.stem for path in scripts if re.search(r"\bDATA\b", path.read_text())}
    (listed,) = re.findall(r"for name in (.*?);", make("-n", f"DATA={tmp_path}").stdout)
    assert set(listed.split()) == names
