"""From a token of an exported mixture back to the line of the raw file."""

import json

import numpy as np
import pytest
import tamis
from small_tokens import token_export
from tamis.storage.errors import ConfigError
from tokenizers import Tokenizer

WINDOW = 8


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    place = tmp_path_factory.mktemp("lineage")
    return place, token_export(place)[1]


def stream(folder):
    return np.concatenate([np.fromfile(p, np.uint16) for p in sorted(folder.glob("tokens-*.bin"))])


def check(place, folder, found, ids):
    """Compare each token, and some after it, with the record on the line that the lineage names."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for row in found.to_pylist():
        line = (place / "raw" / row["file"].split("/")[-1]).read_text().splitlines()[row["line"] - 1]
        record = json.loads(line)
        expected = [*tokenizer.encode(record["text"]).ids, 0]
        offset, position = row["offset"], row["position"]
        assert record["id"] == row["doc_id"] and row["corpus"] == "web" and len(expected) == row["length"]
        assert ids[position] == expected[offset]
        after = ids[position : position + min(WINDOW, row["length"] - offset)]
        assert tokenizer.decode([i for i in after.tolist() if i != 0]) in record["text"]


def test_a_thousand_tokens_lead_to_their_raw_records(exported):
    place, folder = exported
    ids = stream(folder)
    positions = np.random.default_rng(0).integers(0, len(ids), 1_000)
    found = tamis.locate(folder, positions)
    assert found.column("position").to_pylist() == positions.tolist()
    assert len({row for row in found.column("shard").to_pylist()}) > 2
    check(place, folder, found, ids)


def test_the_tokens_of_a_training_sample_lead_there_too(exported):
    place, folder = exported
    dataset = tamis.torch_dataset(folder, 64, seed=5, rank=0, world=1)
    for sample in (0, dataset.n_samples // 2, dataset.n_samples - 1):
        positions = dataset.positions(sample)
        assert stream(folder)[positions].tolist() == dataset[sample]["input_ids"].tolist()
        check(place, folder, tamis.locate(folder, positions), stream(folder))


def test_a_position_that_is_not_there_is_refused(exported):
    folder = exported[1]
    with pytest.raises(ConfigError, match="expected one from 0 to"):
        tamis.locate(folder, [len(stream(folder))])
    assert tamis.locate(folder, []).num_rows == 0
