"""datatrove's Parquet reader into its DocumentTokenizer, for `tokenise.py`; in an environment that has only that.

python tokenise_datatrove.py FOLDER OUT TOKENIZER END WORKERS
"""

import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer

if __name__ == "__main__":
    folder, out, tokenizer, end, workers = sys.argv[1:6]
    LocalPipelineExecutor(
        [
            ParquetReader(folder, glob_pattern="part-*.parquet", read_metadata=False),
            DocumentTokenizer(out, tokenizer, eos_token=end, shuffle_documents=False),
        ],
        tasks=int(workers),
        workers=int(workers),
        logging_dir=f"{out}/logs",
        start_method="fork",  # its processes are waited for, so that their time is counted
    ).run()
