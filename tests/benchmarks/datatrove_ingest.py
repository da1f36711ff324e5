"""datatrove's JSON Lines reader into its Parquet writer, for `ingest.py`; runs in an environment that has only that.

python datatrove_ingest.py FOLDER OUT WORKERS
"""

import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import ParquetWriter

if __name__ == "__main__":
    folder, out, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    LocalPipelineExecutor(
        [JsonlReader(folder), ParquetWriter(out, compression="zstd")],
        tasks=workers,
        workers=workers,
        logging_dir=f"{out}/logs",
        start_method="fork",  # its processes are waited for, so that their time is counted
    ).run()
