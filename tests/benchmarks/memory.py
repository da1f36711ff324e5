"""Peak memory of a flow over a pool, and over ten copies of it with new ids: does memory depend on the corpus?

    python tests/benchmarks/memory.py POOL TARGET [--copies 10] [--out memory.json]

POOL is a folder of raw files, TARGET a file of target documents. Both runs use the same two workers and default
settings; the figure is the largest resident set of the process that runs the flow (`ru_maxrss` of the finished child).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import yaml
import zstandard
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import ReadOptions, read_records


def copy_pool(pool, folder, copies):
    """Write `copies` copies of the pool's documents as JSONL.zst, a file for each input and copy, with new ids."""
    folder.mkdir(parents=True)
    documents = n_bytes = 0
    for number, file in enumerate(list_inputs(["*.*", "*/*.txt"], pool)):
        batches = [b for b in read_records(file, ReadOptions(file_id="stem")) if isinstance(b, pa.RecordBatch)]
        for copy in range(copies):
            target = folder / f"{copy:02d}-{'text' if file.path.suffix == '.txt' else number}.jsonl.zst"
            with target.open("ab") as out:
                for batch in batches:
                    rows = [
                        {"id": f"{copy}-{r['doc_id']}", "text": r["text"], "source": r["source"]}
                        for r in batch.to_pylist()
                    ]
                    lines = "".join(json.dumps(r) + "\n" for r in rows).encode()
                    out.write(zstandard.ZstdCompressor(level=1).compress(lines))
                    documents += len(rows)
                    n_bytes += sum(len(r["text"].encode()) for r in rows)
    return documents, n_bytes


def measure(folder, target, prefect):
    """Run the flow in a fresh lake; return peak memory in MB and seconds."""
    config = {
        "version": 1,
        "corpora": {"pool": {"files": ["raw/*"]}},
        "targets": {"target": {"files": [str(target)]}},
        "features": {"stats": {"use": "text_stats"}},
        "flows": {"all": {
            "corpus": "pool", "engine": {"workers": 2}, "outputs": [{"format": "parquet"}],
            "steps": [{"name": "clean", "filter": {"words": "stats.n_words > 0"}}, {"name": "twins", "dedup": "exact"},
                      {"name": "near", "select": "dsir", "target": "target", "cut": {"budget": {"tokens": "5%"}}}],
        }},
    }  # fmt: skip
    (folder / "flows.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "tamis.pipelines.cli", "run", "all", "-c", str(folder / "flows.yaml"), "-q"]
    begin = time.monotonic()
    process = subprocess.Popen([*command, "--prefect" if prefect else "--no-prefect"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.returncode
    return {"peak_mb": round(usage.ru_maxrss / 1024, 1), "seconds": round(time.monotonic() - begin, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--no-prefect", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("memory.json"))
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for copies in (1, options.copies):
            folder = Path(scratch) / str(copies)
            folder.mkdir()
            documents, n_bytes = copy_pool(options.pool.resolve(), folder / "raw", copies)
            found[str(copies)] = {"documents": documents, "mb_of_text": round(n_bytes / 1e6, 1),
                                  **measure(folder, options.target.resolve(), not options.no_prefect)}  # fmt: skip
            print(copies, found[str(copies)], flush=True)
    found["ratio"] = round(found[str(options.copies)]["peak_mb"] / found["1"]["peak_mb"], 3)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print("ratio", found["ratio"])


if __name__ == "__main__":
    main()
