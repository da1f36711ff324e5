"""The reader for PyTorch: no sample twice, none lost, whatever the ranks and workers; a resume goes on exactly."""

import json
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import tamis
import torch
from small_tokens import token_case, token_export
from tamis.storage.errors import ConfigError
from torch.utils.data import DataLoader

CONTEXT = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return token_export(tmp_path_factory.mktemp("tokens"))[1]


def reader(folder, **options):
    return tamis.torch_dataset(folder, **{"context": CONTEXT, "seed": 3, "rank": 0, "world": 1, **options})


def whole(folder, **options):
    """Return the samples of the epoch in the order of one rank without workers."""
    return [tuple(s["input_ids"].tolist()) for s in reader(folder, **options)]


def loaded(dataset, batch, workers=0, **options):
    """Return the batches that a DataLoader gives, each a list of samples."""
    loader = DataLoader(dataset, batch_size=batch, num_workers=workers, **options)
    return [[tuple(row) for row in b["input_ids"].tolist()] for b in loader]


def stream(folder):
    return np.concatenate([np.fromfile(p, np.uint16) for p in sorted(folder.glob("tokens-*.bin"))]).tolist()


def test_unshuffled_samples_are_the_stream_of_tokens(folder):
    ids = [i for sample in whole(folder, order="stored") for i in sample]
    assert len(ids) > 5_000 and ids == stream(folder)[: len(ids)] and len(stream(folder)) - len(ids) < CONTEXT


def test_shuffled_documents_keep_their_tokens(folder):
    """Cut at the end tokens, the epoch packed in one sequence has the documents of the files."""

    def cut(ids):
        return Counter(" ".join(map(str, ids)).replace(" 0 ", " 0,").split(","))

    tokens = stream(folder)
    one = reader(folder, context=len(tokens))[0]["input_ids"].tolist()
    assert one != tokens and cut(one) == cut(tokens)


def test_padding_loses_nothing_and_no_loss_counts_it(folder):
    padded, dropped = reader(folder, last="pad"), reader(folder)
    counted = Counter(i for s in padded for i in s["labels"].tolist() if i != -100)
    assert counted == Counter(stream(folder)) and padded.n_samples == dropped.n_samples + 1
    (partial,) = [s for s in padded if (s["labels"] == -100).any()]
    n = int((partial["labels"] == -100).sum())
    assert (partial["input_ids"][-n:] == 0).all() and (partial["input_ids"][:-n] == partial["labels"][:-n]).all()


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than processors
@pytest.mark.parametrize("world", [1, 2, 4, 8])
@pytest.mark.parametrize("workers", [0, 2, 3])
def test_ranks_and_workers_share_every_sample_and_each_step_is_the_same(folder, world, workers):
    expected, batch = whole(folder), 8 // world
    ranks = [loaded(reader(folder, rank=r, world=world, batch_size=batch), batch, workers) for r in range(world)]
    found = [s for batches in ranks for b in batches for s in b]
    assert Counter(found) == Counter(expected)
    steps = [Counter(s for batches in ranks for s in batches[t]) for t in range(len(expected) // 8)]
    assert steps == [Counter(expected[8 * t : 8 * t + 8]) for t in range(len(steps))] and len(steps) > 30


@pytest.mark.parametrize("workers", [0, 2])
def test_what_four_ranks_began_two_go_on_with(folder, workers):
    before = [reader(folder, rank=r, world=4, batch_size=2) for r in range(4)]
    for dataset in before:
        dataset.set_epoch(1)
    seen = [s for d in before for b in loaded(d, 2, workers)[:5] for s in b]
    state = json.loads(json.dumps(before[0].state_dict(samples_seen=5 * 4 * 2)))
    after = [reader(folder, rank=r, world=2, batch_size=4) for r in range(2)]
    for dataset in after:
        dataset.load_state_dict(state)
        dataset.set_epoch(1)
    rest = [s for d in after for b in loaded(d, 4, workers) for s in b]
    all_samples = reader(folder)
    all_samples.set_epoch(1)
    expected = [tuple(s["input_ids"].tolist()) for s in all_samples]
    assert Counter(seen) == Counter(expected[:40]) and Counter(rest) == Counter(expected[40:])
    after[0].set_epoch(2)
    assert len(loaded(after[0], 4, workers)) == -(-len(after[0]) // 4), "the next epoch begins at its beginning"


def test_workers_that_outlive_an_epoch_hear_of_the_next(folder):
    dataset = reader(folder, batch_size=4)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True)
    found = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        found.append([tuple(row) for b in loader for row in b["input_ids"].tolist()])
    del loader  # and its workers
    alone = reader(folder)
    alone.set_epoch(1)
    assert found[0] == whole(folder) and found[1] == [tuple(s["input_ids"].tolist()) for s in alone]
    assert found[0] != found[1]


def test_ranks_may_be_made_equally_long(folder):
    sizes = [len(reader(folder, rank=r, world=7, last="even")) for r in range(7)]
    assert len(set(sizes)) == 1 and 0 <= reader(folder).n_samples - sum(sizes) < 7
    assert sum(len(reader(folder, rank=r, world=7)) for r in range(7)) == reader(folder).n_samples


@pytest.mark.parametrize("world", [3, 5])
def test_ranks_are_equally_long_after_a_resume_too(folder, world):
    """Four ranks saw some; what is left is divided by the ranks that there are now."""
    ranks = [reader(folder, rank=r, world=world, last="even") for r in range(world)]
    for dataset in ranks:
        dataset.load_state_dict({"epoch": 0, "samples_seen": 44})
    found = [[tuple(s["input_ids"].tolist()) for s in dataset] for dataset in ranks]
    assert len({len(samples) for samples in found}) == 1
    left = whole(folder)[44:]
    assert Counter(s for samples in found for s in samples) == Counter(left[: len(left) - len(left) % world])


def test_rounds_may_have_documents_of_their_own(folder):
    n = len(reader(folder).tokens.lengths)
    dataset = reader(folder, documents=lambda epoch: np.arange(epoch, n, 3), last="pad")
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        positions = np.concatenate([dataset.positions(i) for i in range(dataset.n_samples)])
        found = Counter(np.searchsorted(np.cumsum(dataset.tokens.lengths), positions, side="right").tolist())
        assert found == {d: dataset.tokens.lengths[d] for d in range(epoch, n, 3)}


def test_rank_and_world_are_those_of_the_environment(folder, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    dataset = tamis.torch_dataset(folder, CONTEXT)
    assert (dataset.rank, dataset.world) == (3, 4)
    assert (reader(folder).rank, reader(folder).world) == (0, 1), "what is given counts"


def test_a_pickled_reader_is_small_and_the_same(folder):
    dataset = reader(folder)
    first = dataset[0]["input_ids"]
    data = pickle.dumps(dataset.tokens)
    assert len(data) < 1_000
    assert (pickle.loads(data).lengths == dataset.tokens.lengths).all()
    assert (dataset[0]["input_ids"] == first).all()


@pytest.mark.parametrize(("options", "message"), [
    ({"context": 1}, "expected at least 2"), ({"rank": 2, "world": 2}, "expected one from 0 to 1"),
    ({"world": None}, "expected both or neither"), ({"batch_size": 0}, "expected at least 1"),
])  # fmt: skip
def test_what_cannot_be_is_refused(folder, options, message):
    with pytest.raises(ConfigError, match=message):
        reader(folder, **options)


def test_a_folder_without_tokens_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        reader(tmp_path)
    token_case(tmp_path)
    run = tamis.run(tmp_path / "flows.yaml", "small", overrides=["flows.small.outputs=[{format: parquet}]"])
    with pytest.raises(ConfigError, match="format 'parquet', expected one of tokens"):
        reader(run.outputs[0])


def test_several_workers_need_the_batch_size(folder):
    with pytest.raises(ConfigError, match="give torch_dataset its batch_size"):
        loaded(reader(folder), 4, workers=2)


def test_a_position_that_is_none_of_it_is_refused(folder):
    dataset = reader(folder)
    with pytest.raises(ConfigError, match="another mixture, context, seed or order"):
        dataset.load_state_dict(reader(folder, seed=4).state_dict(0))
    with pytest.raises(ConfigError, match="it counts those of its epoch"):
        dataset.load_state_dict({"epoch": 0, "samples_seen": 10**6})


TRAINING = """
import json, os, sys, hashlib
import torch, tamis
from tamis.features.decoder import Decoder, build
folder, saved, log, killed_at = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
torch.set_num_threads(1)
dataset = tamis.torch_dataset(folder, 32, seed=3, batch_size=8)
model = build(Decoder(depth=1, width=16, heads=2, context=32), 300, seed=1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = torch.utils.data.DataLoader(dataset, batch_size=8, num_workers=2)
step, state = 0, None
if os.path.exists(saved):
    state = torch.load(saved)
    model.load_state_dict(state["model"])
    dataset.load_state_dict(state["data"])
    step = state["step"]
for epoch in range(dataset.epoch, 3):
    dataset.set_epoch(epoch)
    seen = state["data"]["samples_seen"] if state else 0
    state = None
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step, seen = step + 1, seen + len(batch["input_ids"])
        digest = hashlib.sha256(batch["input_ids"].numpy().tobytes()).hexdigest()[:16]
        with open(log, "a") as file:
            file.write(f"{step} {epoch} {digest} {loss.item():.9g}\\n")
        if step % 10 == 0:
            torch.save({"model": model.state_dict(), "data": dataset.state_dict(seen), "step": step}, saved + ".new")
            os.replace(saved + ".new", saved)
        if step == killed_at:
            os.kill(os.getpid(), 9)
"""


def trained(folder, place, killed_at=()):
    """Train three epochs, killed at these steps; return the log: step, epoch, digest of the batch, loss."""
    place.mkdir()
    for stop in (*killed_at, 0):
        arguments = [str(folder), str(place / "saved.pt"), str(place / "log"), str(stop)]
        ended = subprocess.run([sys.executable, "-c", TRAINING, *arguments], timeout=600)
        assert ended.returncode == (-9 if stop else 0)
    return [line.split() for line in (place / "log").read_text().splitlines()]


def test_a_training_that_is_killed_goes_on_as_if_it_had_not_been(folder, tmp_path):
    unbroken = trained(folder, tmp_path / "unbroken")
    broken = trained(folder, tmp_path / "broken", killed_at=(37, 104))
    assert len(unbroken) > 200 and {line[1] for line in unbroken} == {"0", "1", "2"}
    assert len(broken) == len(unbroken) + 7 + 4, "what came after the last checkpoint is done again"
    assert {line[0]: line for line in broken} == {line[0]: line for line in unbroken}
    assert [line for line in broken if line not in unbroken] == []
    assert float(unbroken[-1][3]) < float(unbroken[0][3])


def test_training_does_not_keep_the_epochs_order(folder):
    one, other = reader(folder), reader(folder)
    other.set_epoch(1)
    assert torch.equal(one[0]["input_ids"], reader(folder)[0]["input_ids"])
    assert not torch.equal(one[0]["input_ids"], other[0]["input_ids"])
