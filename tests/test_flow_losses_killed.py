"""A flow that is killed while it computes losses, and started again: what was computed before is not computed again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import chosen, make_case
from tamis.features.losses import Losses
from tamis.pipelines import measuring
from tiny_model import write_causal

N, PIECE = 120, 16
"""Documents; rows of a piece, which are 1,024 but here."""

KILLED = f"""
import os, signal, sys
from itertools import count
from threading import Event
import tamis
from tamis.features.causal_model import CausalModel
from tamis.features.losses import Losses
from tamis.pipelines import measuring

config, lake, workers, log = sys.argv[1:]
compute, forward, pieces, last_batches = Losses.compute, CausalModel._forward, count(1), count(1)
last = Event()

def logged(self, batch, model=None):
    number = next(pieces)
    with open(log, "a") as file:
        print(batch.num_rows, file=file)
    if number == 1 and workers == "2":
        Event().wait()  # a piece that takes longer than all others
    if number == 4:
        last.set()
    return compute(self, batch, model)

def killed(self, windows, shape):
    if last.is_set() and next(last_batches) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(self, windows, shape)

measuring.COSTLY_ROWS = {PIECE}
Losses.compute, CausalModel._forward = logged, killed
tamis.run(config, "small", workers=int(workers), overrides=["lake=" + lake])
"""


def parts(lake):
    """Return the published losses: a table a file."""
    files = [file for file in Path(lake, "features").glob("*/*/*.parquet") if "nll" in pq.read_schema(file).names]
    return {file: pq.read_table(file) for file in files}


def values(run):
    """Return the losses of every document, in the order of shards and rows."""
    found = [t.append_column("shard", pa.array([f.parent.name] * len(t))) for f, t in parts(run.lake.root).items()]
    return pa.concat_tables(found).sort_by([("shard", "ascending"), ("row", "ascending")]).combine_chunks()


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A flow that chooses by losses, and a run of it that nobody killed."""
    folder = tmp_path_factory.mktemp("case")
    write_causal(folder / "model")
    features = {"lm": {"use": "losses", "model": "model", "precision": "fp32", "device": "cpu", "min_k": 0.2}}
    pick = {"name": "pick", "select": "perplexity", "with": {"losses": "lm", "keep": "low"}}
    steps = [pick | {"cut": {"budget": {"documents": "25%"}}}]
    config = make_case(folder, n=N, files=2, steps=steps, features=features)
    return config, tamis.run(config, "small", overrides=["lake=whole"])


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_within_a_piece_the_same_command_goes_on(case, tmp_path, monkeypatch, workers):
    config, whole = case
    lake, log = tmp_path / "lake", tmp_path / "begun"
    command = [sys.executable, "-c", KILLED, str(config), str(lake), str(workers), str(log)]
    root = Path(tamis.__file__).resolve().parents[1]
    died = subprocess.run(command, cwd=root, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert died.returncode == -signal.SIGKILL, died.stderr

    begun = sum(map(int, log.read_text().split()))
    kept = sum(map(len, parts(lake).values()))
    assert begun == 4 * PIECE
    assert kept == begun - workers * PIECE, "lost is what each worker had in hand"

    compute, computed = Losses.compute, []
    monkeypatch.setattr(measuring, "COSTLY_ROWS", PIECE)
    monkeypatch.setattr(
        Losses,
        "compute",
        lambda self, batch, model=None: computed.append(batch.num_rows) or compute(self, batch, model),
    )
    again = tamis.run(config, "small", workers=workers, overrides=[f"lake={lake}"])
    assert sum(computed) == N - kept
    assert values(again).equals(values(whole))
    assert chosen(again) == chosen(whole) and len(chosen(again)) == N // 4
