"""The official side of `dsir_speed.py`; runs in an environment that has only that package.

python dsir_speed_official.py POOL.jsonl TARGET.jsonl
"""

import json
import shutil
import sys
import time
from pathlib import Path

from data_selection import HashedNgramDSIR

PROCESSES = 2
N_CHOSEN = 1_000

if __name__ == "__main__":
    pool, target = sys.argv[1:]
    cache, out = Path("official.cache"), Path("official.out")
    shutil.rmtree(cache, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    begin = time.monotonic()
    dsir = HashedNgramDSIR([pool], [target], cache_dir=str(cache), num_proc=PROCESSES)
    dsir.fit_importance_estimator()
    dsir.compute_importance_weights()
    dsir.resample(out_dir=str(out), num_to_sample=N_CHOSEN, cache_dir=str(out) + ".cache")
    seconds = time.monotonic() - begin
    n_chosen = sum(len(file.read_text().splitlines()) for file in out.rglob("*.jsonl"))
    assert n_chosen == N_CHOSEN, n_chosen
    Path("said.json").write_text(json.dumps({"work_s": seconds, "work_cpu_s": None}))  # its workers live on
