"""`benchmarks/proxy_training.py` in small: what is trained on, a training that was killed, and the table."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tamis.features.decoder import Decoder, build
from tamis.features.packing import Packing, Position
from tamis.pipelines import resuming

sys.path.append(str(Path(__file__).parent / "benchmarks"))
import proxy_training

CONTEXT = 16
UPDATE = CONTEXT * proxy_training.BATCH


class SmallCase(proxy_training.Case):
    """Made-up documents, 20 updates of them, and three times as many random ones."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.written = [rng.integers(1, 300, rng.integers(3, 3000)) for _ in range(20)]
        watched = Packing(lambda first: self.written[first:1], CONTEXT, 10 * CONTEXT)
        self.held_out = self.general = [ids for ids, _ in watched(Position())]
        self.target, self.start, self.rate, self.context, self.prior = "code", "fresh", 1e-3, CONTEXT, None
        self.budget = 20 * UPDATE
        self.budgets = {"dsir": self.budget, "random": 3 * self.budget}
        self.shares = {who: {"tokens": 0.5} for who in self.budgets}

    def model(self, seed):
        return build(Decoder(depth=1, width=32, heads=2, context=CONTEXT), 300, seed)

    def in_order(self, who, seed):
        return [str(i) for i in range(20)], proxy_training.pieces(self.written, seed)


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.setattr(proxy_training, "FOLDER", tmp_path)
    monkeypatch.setattr(proxy_training, "model_digest", lambda folder: "")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield SmallCase()
    torch.set_num_threads(before)


def test_pieces_are_all_of_the_documents_in_an_order_of_the_seed(case):
    one, same, other = (proxy_training.pieces(case.written, seed) for seed in (0, 0, 1))
    assert [ids.tolist() for ids in one] == [ids.tolist() for ids in same] != [ids.tolist() for ids in other]
    assert max(map(len, one)) == proxy_training.PIECE and sum(ids[0] == 0 for ids in one) == 20
    tokens = sorted(np.concatenate([*case.written, np.zeros(20, int)]).tolist())
    assert sorted(np.concatenate(one).tolist()) == sorted(np.concatenate(other).tolist()) == tokens


def test_a_killed_training_ends_as_a_whole_one(case, tmp_path, monkeypatch):
    whole = proxy_training.curve(case, "random", 0)["points"]
    assert [tokens // UPDATE for tokens, *_ in whole] == [0, 8, 10, 13, 16, 20, 25, 32, 40, 51, 60]
    (path,) = tmp_path.glob("*.json")
    path.unlink()

    publish = resuming.publish_checkpoint
    kept = []

    def publish_and_die(folder, scratch, step, tensors, rest):
        publish(folder, scratch, step, tensors, rest)
        kept.append(step)
        if step == 33:
            raise KeyboardInterrupt

    monkeypatch.setattr(resuming, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(resuming, "publish_checkpoint", publish_and_die)
    with pytest.raises(KeyboardInterrupt):
        proxy_training.curve(case, "random", 0)
    assert kept[-1] == 33 and not list(tmp_path.glob("*.json"))
    assert proxy_training.curve(case, "random", 0)["points"] == whole
    assert kept[33] == 34 and not list(tmp_path.glob("checkpoints/*"))


def test_a_finished_training_is_not_done_again_and_another_seed_is_another(case, monkeypatch):
    first, other = (proxy_training.curve(case, "dsir", seed) for seed in (0, 1))
    monkeypatch.setattr(proxy_training, "train_with_losses", None)
    assert proxy_training.curve(case, "dsir", 0) == first and first["points"] != other["points"]
    case.rate = 2e-3
    with pytest.raises(TypeError):
        proxy_training.curve(case, "dsir", 0)


def test_the_table_says_what_random_tokens_bring_the_same(case):
    def line(first, factor):
        return [[n * UPDATE, 6.0 - factor * n, 5.0] for n in (0, first, 20, 60)]

    curves = {"random": [line(10, 0.01), line(10, 0.01)], "dsir": [line(10, 0.025)[:3], line(10, 0.05)[:3]]}
    random, dsir, more = proxy_training.table(case, curves)
    assert random["loss"] == "5.800 (5.800 to 5.800)" and random["times fewer than random"] == ""
    needed = 20 * UPDATE * 3 ** (0.3 / 0.4)
    assert dsir["the same by random tokens"] == f"{needed:,.0f}, more"
    assert dsir["times fewer than random"] == f"not reached in 1 of 2: {needed / case.budget:.1f} to more than 3.0"
    assert more[f"{case.budget:,} tokens of"] == "random, 3 times as many" and more["loss"].startswith("5.400")
