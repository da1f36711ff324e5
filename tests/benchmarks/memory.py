"""Peak memory of a flow over a pool, and over ten copies of it with new ids: does memory depend on the corpus?

    python tests/benchmarks/memory.py DATA [--target code_python] [--copies 10] [--no-prefect]

DATA has `pool/`, a folder of raw files, and `targets/NAME.dev.jsonl`. Both runs use the same two workers and default
settings; the figure is the largest resident set of the process that runs the flow.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import yaml
import zstandard
from side_by_side import measure, report
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


def run_flow(folder, target, prefect):
    """Run the flow in a fresh lake; return what it took."""
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
    command = [sys.executable, "-m", "tamis.pipelines.cli", "run", "all", "-c", folder / "flows.yaml", "-q"]
    return measure([*command, "--prefect" if prefect else "--no-prefect"], stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--target", default="code_python")
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--no-prefect", action="store_true")
    options = parser.parse_args()
    data, rows = options.data.resolve(), []
    with tempfile.TemporaryDirectory() as scratch:
        for copies in (1, options.copies):
            folder = Path(scratch) / str(copies)
            folder.mkdir()
            documents, n_bytes = copy_pool(data / "pool", folder / "raw", copies)
            used = run_flow(folder, data / "targets" / f"{options.target}.dev.jsonl", not options.no_prefect)
            rows.append({"copies": copies, "documents": documents, "MB of text": n_bytes / 1e6,
                         "peak MB": used.largest_mb, "wall s": used.wall_s, "CPU s": used.cpu_s})  # fmt: skip
    report("memory", rows, ratio=rows[1]["peak MB"] / rows[0]["peak MB"])


if __name__ == "__main__":
    main()
