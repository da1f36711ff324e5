"""tamis' side of `dsir_speed.py`: DSIR with the functions that a flow calls, and without a lake around them.

    python dsir_speed_tamis.py '{"pool": ..., "target": ..., "second_target": ..., "settings": {...}, "warm": true}'

The documents are parsed once and spooled as Arrow beside the result, as a flow keeps them in shards, so that memory
does not grow with the pool; n-gram ids are spooled where the feature says that they are to be stored."""

import json
import math
import sys
import time
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from tamis.pipelines.engine import Threads
from tamis.selectors.base import Target
from tamis.selectors.budget import CutRule, Part
from tamis.selectors.dsir import Dsir
from tamis.selectors.keyed import stream_key
from tamis.storage.documents import doc_key
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import ReadOptions, read_records

IDS = "ngrams.ids"
N_CHOSEN = 1_000
WARM_LINES = 200
BATCH_BYTES = 2 << 20  # 8 MB batches take 100 MB more and are no faster


class Choosing:
    """One selector over one pool: the pool's summary and spool serve any target."""

    def __init__(self, settings, folder):
        self.selector = Dsir(**settings)
        (self.feature,) = self.selector.needs.values()
        self.memo = self.feature.load()
        self.engine = Threads(2)
        self.spool = folder / "spool.arrow"

    def read(self, path):
        """Parse the pool, count its n-grams, spool it; `doc_keys` are what the cut is keyed by."""
        keys, writer, self.summary = [], None, None
        with pa.OSFile(str(self.spool), "wb") as file, self.engine.inner_map() as inner:
            for batch, summary, doc_keys in self.engine.map(self._digest, records(path, inner)):
                writer = writer or pa.ipc.new_file(file, batch.schema)
                writer.write_batch(batch)
                self.summary = self.selector.merge([self.summary, summary]) if self.summary else summary
                keys.append(doc_keys)
            writer.close()
        self.doc_keys = np.concatenate(keys)

    def choose(self, target, out):
        """Fit, score, cut, and write the chosen documents as JSONL."""
        sample = Target("target", None, lambda: (self._ids(b) for b in records(target)))
        state = self.selector.fit(self.summary, [sample], partial(stream_key, 17, "near"))
        items = range(self._open(None).num_record_batches)
        tables = list(self.engine.map(lambda i: self.selector.score(self._scored_by(i), state), items))
        sizes = [t.num_rows for t in tables]
        part = self._part(pa.concat_tables(tables).column("score").combine_chunks())
        rule = CutRule(by="gumbel", budget=N_CHOSEN)
        choice = self.selector.select(lambda _: lambda: iter([part]), state, rule, partial(stream_key, 17, "near"))
        rows = np.flatnonzero(choice.cuts["score"].kept(part))
        self._write(rows, np.cumsum([0, *sizes]), out)

    def _digest(self, batch):
        ids = self._ids(batch)
        batch = batch.select(["doc_id", "text"])
        if self.feature.stored:
            batch = batch.append_column(IDS, ids.column(IDS))
        doc_keys = np.fromiter(map(doc_key, batch.column("doc_id").to_pylist()), np.uint64, batch.num_rows)
        return batch, self.selector.summarise(ids), doc_keys

    def _ids(self, batch):
        return pa.record_batch({IDS: self.feature.compute(batch, self.memo).column("ids")})

    def _open(self, fields):
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        return pa.ipc.open_file(pa.OSFile(str(self.spool)), options=options)

    def _scored_by(self, i):
        if self.feature.stored:
            return self._open([2]).get_batch(i)
        return self._ids(self._open([1]).get_batch(i))

    def _part(self, score):
        def doc_ids(rows):
            ids = self._open([0]).read_all().column("doc_id")
            return ids.take(pa.array(rows)).to_pylist()

        return Part(
            shard="pool",
            row=np.arange(len(score)),
            doc_key=self.doc_keys,
            score=score.fill_null(math.nan).to_numpy(),
            eligible=score.is_valid().to_numpy(zero_copy_only=False),
            weight=np.ones(len(score), np.int64),
            group=None,
            doc_ids=doc_ids,
        )

    def _write(self, rows, starts, out):
        spool = self._open([0, 1])
        with out.open("w", encoding="utf-8") as file:
            for i in range(spool.num_record_batches):
                mine = rows[(rows >= starts[i]) & (rows < starts[i + 1])] - starts[i]
                if mine.size:
                    for document in spool.get_batch(i).take(pa.array(mine)).to_pylist():
                        line = {"id": document["doc_id"], "text": document["text"]}
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def records(path, mapped=map):
    """Yield the documents of a JSONL file."""
    (file,) = list_inputs([str(path)], Path.cwd())
    return read_records(file, ReadOptions(batch_bytes=BATCH_BYTES), mapped)


def timed(function):
    wall, cpu = time.monotonic(), time.process_time()
    function()
    return time.monotonic() - wall, time.process_time() - cpu


def main():
    said = json.loads(sys.argv[1])
    folder = Path.cwd()
    if said["warm"]:
        few = folder / "few.jsonl"
        with open(said["pool"], encoding="utf-8") as lines:
            few.write_text("".join(islice(lines, WARM_LINES)), encoding="utf-8")
        warm = Choosing(said["settings"], folder)
        warm.read(few)
        warm.choose(said["target"], folder / "few.out.jsonl")
    choosing = Choosing(said["settings"], folder)
    read = timed(lambda: choosing.read(said["pool"]))
    first = timed(lambda: choosing.choose(said["target"], folder / "chosen.jsonl"))
    found = {"work_s": read[0] + first[0], "work_cpu_s": read[1] + first[1], "read_s": read[0]}
    if said["warm"]:
        second = timed(lambda: choosing.choose(said["second_target"], folder / "second.jsonl"))
        found |= {"second_target_s": second[0], "second_target_cpu_s": second[1]}
    (folder / "said.json").write_text(json.dumps(found))
    choosing.spool.unlink()


if __name__ == "__main__":
    main()
