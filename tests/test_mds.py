"""Mixtures as MDS: every document is read back, by the format's definition and by MosaicML's own reader."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import make_case
from small_tokens import TWINS
from tamis.storage.verify import verify

READ = """
import json, sys
from streaming import StreamingDataset
data = StreamingDataset(local=sys.argv[1], shuffle=False, batch_size=1)
for row in data:
    print(json.dumps({name: value.item() if hasattr(value, "item") else value for name, value in row.items()}))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a mixture as MDS, and its rows as Parquet has them."""
    steps = [*TWINS, {"name": "some", "select": "random", "cut": {"budget": {"documents": 200}}}]
    small = {"web": {"files": ["raw/*"], "shard_bytes": 6_000}}
    config = make_case(tmp_path_factory.mktemp("mds"), steps=steps, corpora=small)
    forms = json.dumps([{"format": "parquet"}, {"format": "mds", "shard_bytes": 9_000}])
    run = tamis.run(config, "small", overrides=[f"flows.small.outputs={forms}"])
    rows = pq.read_table(next(run.outputs[0].glob("part-*"))).to_pylist()
    absent = {"source": "", "meta": "", "score": np.nan}
    return run, [{name: absent[name] if value is None else value for name, value in r.items()} for r in rows]


def samples(folder):
    """Return the rows of all shards as the definition has them."""
    index, found = json.loads((folder / "index.json").read_text()), []
    for shard in index["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        n = int(np.frombuffer(data, "<u4", 1)[0])
        ends = np.frombuffer(data, "<u4", n + 1, 4)
        assert (n, len(data), ends[-1]) == (shard["samples"], shard["raw_data"]["bytes"], len(data))
        for begin, end in pairwise(ends):
            found.append(decoded(data[begin:end], shard))
    return found


def decoded(sample, shard):
    n_texts = shard["column_sizes"].count(None)
    lengths, at, row = iter(np.frombuffer(sample, "<u4", n_texts).tolist()), 4 * n_texts, {}
    for name, size, encoding in zip(
        shard["column_names"], shard["column_sizes"], shard["column_encodings"], strict=True
    ):
        stop = at + (next(lengths) if size is None else size)
        row[name] = sample[at:stop].decode() if size is None else np.frombuffer(sample[at:stop], encoding)[0].item()
        at = stop
    assert at == len(sample)
    return row


def test_its_documents_are_those_of_the_other_forms(written):
    run, rows = written
    found = samples(run.outputs[1])
    assert found == [{name: pytest.approx(r[name], nan_ok=True) if name == "score" else r[name] for name in r}
                     for r in rows]  # fmt: skip
    assert len(list(run.outputs[1].glob("shard.*.mds"))) > 2 and list(verify(run.lake)) == []


@pytest.mark.slow
def test_mosaicmls_reader_agrees(written, tmp_path):
    """It wants other versions of what tamis needs, so it has an environment of its own; set MDS_PYTHON to one."""
    python = os.environ.get("MDS_PYTHON")
    if python is None:
        subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
        python = str(tmp_path / "env" / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", "mosaicml-streaming==0.13.0"], check=True)
    run, rows = written
    told = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", str(Path.home()))}
    done = subprocess.run([python, "-c", READ, str(run.outputs[1])], capture_output=True, text=True, env=told)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["id"], r["text"], r["n_tokens"]) for r in found] == [(r["id"], r["text"], r["n_tokens"]) for r in rows]
