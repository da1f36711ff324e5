"""Who runs a flow, where and on what changes nothing: every selector of the registry, in environments of its own.

In CI two runs are compared with a third, one with everything about the corpus changed, one with everything about the
process. Which one it was that mattered is found by the rest, each change by itself:

    make test-slow PYTEST_ARGS=tests/test_determinism.py
"""

import json
import locale
import os
import subprocess
import sys
from pathlib import Path

import determinism
import every_stage
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from determinism import divide_anew, table, write_case
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

HOSTILE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENVIRONMENTS = {
    "hash seed 0": {"PYTHONHASHSEED": "0"},
    "hash seed 1": {"PYTHONHASHSEED": "1"},
    "hash seed random": {"PYTHONHASHSEED": "random"},
    "locale C": HOSTILE,
    "locale C.UTF-8": {"LC_ALL": "C.UTF-8"},
    "locale de_DE.UTF-8": {"LC_ALL": "de_DE.UTF-8"},
    "locale tr_TR.UTF-8": {"LC_ALL": "tr_TR.UTF-8"},
    "zone UTC": {"TZ": "UTC"},
    "zone Asia/Kolkata": {"TZ": "Asia/Kolkata"},
    "zone America/St_Johns": {"TZ": "America/St_Johns"},
    "1 thread of BLAS": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "2 threads of BLAS": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
}
DISPATCHED = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
PROCESSORS = {
    "NumPy": {"NPY_DISABLE_CPU_FEATURES": DISPATCHED},
    "OpenBLAS as on Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "OpenBLAS as on Prescott": {"OPENBLAS_CORETYPE": "Prescott"},
    "the C library": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F,-AVX512VL"},
    "Arrow": {"ARROW_USER_SIMD_LEVEL": "NONE"},
    "torch": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "Numba": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}
"""What uses instructions that not all processors have, and how to keep it from doing so."""
OF_TORCH = {"embeddings", "losses"}
TOGETHER = (
    HOSTILE
    | {"PYTHONHASHSEED": "random", "TZ": "America/St_Johns", "OMP_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Prescott"}
    | PROCESSORS["NumPy"]
    | PROCESSORS["the C library"]
    | PROCESSORS["Arrow"]
)


def in_another_process(config, changes, cwd=None, **asked):
    """Return what `determinism.main` says in a process of another environment."""
    command = [sys.executable, determinism.__file__, str(config), json.dumps(asked)]
    inherited = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG", "PYTHONUTF8", "TZ")}
    done = subprocess.run(command, env=inherited | changes, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_every_selector_decides_the_same_of_a_corpus_that_is_divided_otherwise_and_in_another_environment(tmp_path):
    config = write_case(tmp_path)
    flows = determinism.FLOWS[:1]
    here = table(config, flows=flows)
    there = in_another_process(
        config, TOGETHER, cwd="/", name="there", overrides=["lake=there"], workers=3, flows=flows
    )["table"]
    assert there == here
    divide_anew(tmp_path, files=3, seed=1)
    other = table(config, ["lake=other", "corpora.web.shard_bytes=30_000"], workers=1, flows=flows)
    assert other["decided"] == here["decided"] and other["lake"] != here["lake"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The case, one that goes through every stage, and what is made of them here."""
    case, stages, models = (tmp_path_factory.mktemp(name) for name in ("case", "stages", "models"))
    config = write_case(case)
    every_stage.write_case(stages)
    asked = {"stages": str(stages), "models": str(models)}
    return config, asked, in_another_process(config, {}, name="here", overrides=["lake=here"], **asked)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ENVIRONMENTS, "working directory"])
def test_an_environment_changes_nothing(whole, name):
    config, _, here = whole
    changes = ENVIRONMENTS.get(name, {})
    if not there_is(changes.get("LC_ALL", "C")):
        pytest.skip(f"this machine has no {name}: apt-get install locales, localedef -f UTF-8 -i xx_XX xx_XX.UTF-8")
    lake = name.replace("/", " ")
    there = in_another_process(config, changes, cwd=None if changes else "/", name=name, overrides=[f"lake={lake}"])
    assert there["table"] == here["table"]


@pytest.mark.slow
def test_every_stage_leaves_the_same_in_another_environment_models_included(whole):
    config, asked, here = whole
    changes = ENVIRONMENTS["hash seed random"] | ENVIRONMENTS["zone Asia/Kolkata"] | ENVIRONMENTS["2 threads of BLAS"]
    changes |= HOSTILE
    there = in_another_process(config, changes, cwd="/", name="there", overrides=["lake=there"], **asked)
    assert there == here
    assert feature_files(config, "there") == feature_files(config, "here")


@pytest.mark.slow
@pytest.mark.parametrize(("shard_bytes", "workers"), [(3_000, 1), (8_000, 3), (20_000, 5), (1_000_000, 2)])
def test_shards_and_workers_change_no_decision(whole, shard_bytes, workers):
    config, _, here = whole
    overrides = [f"lake=lake-{workers}-{shard_bytes}", f"corpora.web.shard_bytes={shard_bytes}"]
    assert table(config, overrides, workers)["decided"] == here["table"]["decided"]


@pytest.mark.slow
@pytest.mark.parametrize("files", [1, 2, 30])
def test_the_order_and_division_of_files_change_no_decision(whole, tmp_path, files):
    config = write_case(tmp_path)
    divide_anew(tmp_path, files, seed=files)
    assert table(config)["decided"] == whole[2]["table"]["decided"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSORS)
def test_another_processor_changes_no_decision_and_no_feature_but_torchs(whole, tmp_path, name):
    config, asked, here = whole
    alias = name.replace(" ", "_")
    changes = PROCESSORS[name] | ({"NUMBA_CACHE_DIR": str(tmp_path)} if name == "Numba" else {})
    there = in_another_process(config, changes, name=alias, overrides=[f"lake={alias}"], models=asked["models"])
    assert there["table"] == here["table"]
    values, others = feature_values(config, "here"), feature_values(config, alias)
    assert OF_TORCH < set(values) == set(others)
    assert {name for name in values if others[name] != values[name]} <= OF_TORCH
    for feature in OF_TORCH:
        for one, other in zip(values[feature].columns, others[feature].columns, strict=True):
            assert numbers(other) == pytest.approx(numbers(one), rel=1e-5, abs=1e-6, nan_ok=True)


def there_is(name):
    """Say whether the machine has a locale."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return True


def feature_values(config, name):
    """Return what every feature computed, by its name."""
    files = feature_files(config, name)
    return {feature: pq.read_table(pa.BufferReader(content)).combine_chunks() for feature, content in files.items()}


def feature_files(config, name):
    """Return the same as it was written: tables with NaN are not equal to themselves."""
    folder = Path(config).parent / f"features-{name}"
    return {path.stem: path.read_bytes() for path in sorted(folder.iterdir())}


def numbers(column):
    flat = column.combine_chunks()
    flat = flat.flatten() if pa.types.is_nested(flat.type) else flat
    return np.asarray(flat.to_numpy(zero_copy_only=False), np.float64)
