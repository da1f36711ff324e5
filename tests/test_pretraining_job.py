"""What a mixture is for, over the real pool: a training that is killed and goes on, and the way back to raw records."""

import gzip
import io
import json
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tamis
import yaml
import zstandard
from pretraining_job import BATCH, dataset
from reference import reference_data
from tamis.features.byte_bpe import train_tokenizer
from tamis.storage.exported_tokens import ExportedTokens
from tokenizers import Tokenizer

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("pretraining_job.py")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """A mixture of two choices by DSIR, of which one stands there twice, and of the whole pool, as tokens."""
    folder, data = tmp_path_factory.mktemp("job"), reference_data("data")
    with (data / "pool" / "crawl-07.jsonl").open() as lines:
        texts = [repaired(json.loads(line)["text"]) for line, _ in zip(lines, range(2_000), strict=False)]
    train_tokenizer(texts, 8192).save(str(folder / "tokenizer.json"))

    def best(target, share):
        cut = {"by": "gumbel", "budget": {"tokens": share}}
        steps = [{"name": "twins", "dedup": "exact"}, {"name": "best", "select": "dsir", "target": target, "cut": cut}]
        return {"corpus": "pool", "steps": steps}

    targets = {name: {"files": [str(data / "targets" / f"{name}.dev.jsonl")]} for name in ("code_python", "math_word")}
    config = {
        "version": 1, "lake": "lake", "seed": 17,
        "corpora": {"pool": {"files": [str(data / "pool" / g) for g in ("crawl-0[0-8].*", "crawl-09/*.txt")]}},
        "targets": targets, "flows": {"code": best("code_python", "0.1%"), "math": best("math_word", "2%")},
        "mixtures": {"m": {
            "budget": {"tokens": 100_000},
            "parts": [{"flow": "code", "weight": 0.5, "max_epochs": 2}, {"flow": "math", "weight": 0.2},
                      {"corpus": "pool", "weight": 0.3}],
            "outputs": [{"format": "tokens", "tokenizer": "tokenizer.json", "shard_bytes": "100KB"}],
        }},
    }  # fmt: skip
    (folder / "flows.yaml").write_text(yaml.safe_dump(config))
    return tamis.mix(folder / "flows.yaml", "m").outputs[0]


def trained(folder, out, killed_at=()):
    """Train, killed after these steps; return the lines of the log: step, epoch, digest of the batch, loss."""
    for stop in (*killed_at, 0):
        ended = subprocess.run([sys.executable, str(SCRIPT), str(folder), str(out), str(stop)], timeout=1_800)
        assert ended.returncode == (-9 if stop else 0)
    return [line.split() for line in (out / "log").read_text().splitlines()]


def test_a_training_that_is_killed_sees_the_batches_of_an_unbroken_one(mixture, tmp_path):
    unbroken = trained(mixture, tmp_path / "unbroken")
    broken = trained(mixture, tmp_path / "broken", killed_at=(137, 341))
    assert [int(line[0]) for line in unbroken] == list(range(480))
    assert len(broken) > 480, "what came after the last state is done again"
    again = {line[0]: line[:3] for line in broken}
    assert again == {line[0]: line[:3] for line in unbroken}
    assert all(line[:3] in [u[:3] for u in unbroken] for line in broken)
    assert float(unbroken[-1][3]) < float(unbroken[0][3]) - 1
    epochs = {int(line[1]) for line in unbroken}
    assert len(epochs) > 2, "it went through the mixture more than twice"
    assert_seen_as_planned(mixture, tmp_path / "broken", whole_epochs=sorted(epochs)[:-1])


def assert_seen_as_planned(mixture, out, whole_epochs):
    """Every token of every document was in the batches as often as the document stands in the mixture, each epoch."""
    data, exported = dataset(mixture), ExportedTokens(mixture)
    ends = np.cumsum(exported.lengths)
    for epoch in whole_epochs:
        data.set_epoch(epoch)
        times = np.zeros(exported.n_tokens, np.int64)
        for number, path in enumerate(sorted((out / "batches").glob(f"{epoch}-*.npy"))):
            for row, (ids, labels) in enumerate(zip(*np.load(path), strict=True)):
                positions = data.positions(number * BATCH + row)
                counted = np.count_nonzero(labels != -100)
                assert len(positions) == counted and (ids[:counted] == labels[:counted]).all()
                assert exported_ids(mixture)[positions].tolist() == ids[:counted].tolist()
                times[positions] += 1
        assert (times == 1).all()
    planned = Counter()
    for doc_id, times in tamis.sql(mixture.parents[2], "select doc_id, multiplicity from mixture_rows").fetchall():
        planned[doc_id] += times
    located = tamis.locate(mixture, ends - 1)
    assert Counter(located.column("doc_id").to_pylist()) == planned and max(planned.values()) == 2


@cache
def exported_ids(folder):
    return np.concatenate([np.fromfile(p, np.uint16) for p in sorted(folder.glob("tokens-*.bin"))])


def raw_texts(file, lines):
    """Return the texts of some lines of a raw file, read without tamis; line None: the whole file."""
    if file.suffix == ".txt":
        return {None: file.read_text()}
    if file.suffix == ".parquet":
        table = pq.read_table(file, columns=["text"])
        return {line: table.column("text")[line - 1].as_py() for line in lines}
    data = file.read_bytes()
    if file.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    records = (gzip.decompress(data) if file.suffix == ".gz" else data).split(b"\n")
    return {line: repaired(json.loads(records[line - 1])["text"]) for line in lines}


def repaired(text):
    """Return a text as tamis reads it: its lone surrogates are replacement characters."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def test_a_thousand_tokens_lead_to_raw_records_that_have_them(mixture):
    exported, ids = ExportedTokens(mixture), exported_ids(mixture)
    positions = np.random.default_rng(0).integers(0, exported.n_tokens, 1_000)
    found = tamis.locate(mixture, positions).to_pylist()
    tokenizer = Tokenizer.from_file(str(mixture / "tokenizer.json"))
    pool = reference_data("data/pool")
    wanted = {}
    for row in found:
        wanted.setdefault(row["file"], set()).add(row["line"])
    texts = {file: raw_texts(pool / Path(file).relative_to(pool) if Path(file).is_absolute() else pool / file, lines)
             for file, lines in wanted.items()}  # fmt: skip
    n_compared = 0
    for row in found:
        begin = row["position"] - row["offset"]
        document = ids[begin : begin + row["length"] - 1].tolist()
        text = texts[row["file"]][row["line"]]
        assert tokenizer.decode(document, skip_special_tokens=False) == text
        if row["offset"] < len(document):
            around = tokenizer.decode(document[row["offset"] : row["offset"] + 8], skip_special_tokens=False)
            assert around.strip("\ufffd") in text
            n_compared += 1
    assert n_compared > 900 and len(wanted) > 5
