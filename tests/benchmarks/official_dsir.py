"""Log weights of the official DSIR package, for `selector_shares.py`; runs in an environment with that package alone.

    python official_dsir.py POOL.jsonl OUT.npz TARGET.jsonl [TARGET.jsonl ...]

One pass with `separate_targets=True`: the log ratios of each target are those of a run with that target alone. The
minimum length only decides which documents may be sampled, so it is applied to the saved weights."""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from data_selection import HashedNgramDSIR

PROCESSES = 2

if __name__ == "__main__":
    pool, out, *targets = sys.argv[1:]
    cache = Path(out).with_suffix(".cache")
    shutil.rmtree(cache, ignore_errors=True)
    begin = time.monotonic()
    dsir = HashedNgramDSIR([pool], targets, cache_dir=str(cache), num_proc=PROCESSES, separate_targets=True)
    dsir.fit_importance_estimator()
    dsir.compute_importance_weights()
    seconds = time.monotonic() - begin
    pieces = range(PROCESSES)
    weights = np.concatenate([np.load(cache / "log_importance_weights" / f"{i}.npy") for i in pieces])
    lengths = np.concatenate([np.load(cache / "perexample_metadata" / f"{i}.npy") for i in pieces])
    ids = [json.loads(line)["id"] for line in Path(pool).read_bytes().splitlines()]
    ids = [i for piece in pieces for i in ids[piece::PROCESSES]]  # saved by virtual shard: line number modulo processes
    np.savez(out, ids=np.array(ids), weights=weights.reshape(len(ids), -1), lengths=lengths, seconds=seconds)
