"""Choices compared by trainings of a small model: who learns what, at equal tokens, once, and whole after a kill."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tamis
import torch
from small_flow import CODE, PROSE, make_case, write_jsonl
from tamis.features.decoder import Decoder
from tamis.pipelines import proxy_training, resuming
from tamis.pipelines.proxy import proxy_curves
from tamis.pipelines.proxy_model import ProxySettings, proxy_model
from tamis.pipelines.proxy_texts import held_out_of_pool, without_texts
from tamis.pipelines.token_samples import sampled_texts
from tamis.pipelines.work import Alone
from tamis.storage.errors import ConfigError, LakeError
from tamis.storage.snapshots import newest
from tamis.storage.survivors import Survivors
from tamis.storage.verify import verify

SMALL = ProxySettings(
    tokens=6_144, seeds=3, shape=Decoder(depth=1, width=32, heads=2, context=32), vocabulary=300, rate=0.003,
    held_out_tokens=1_024, precision="fp32", seed=17,
)  # fmt: skip
ONCE = replace(SMALL, seeds=1)
TARGETS = {
    "code": [" ".join(np.random.default_rng(i).choice(CODE, 40)) for i in range(12)],
    "prose": [" ".join(np.random.default_rng(i).choice(PROSE, 40)) for i in range(12)],
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def of_source(pool, name, most=None):
    """Return the pool's documents of a source, in each shard the first ones."""

    def mask(shard):
        found = shard.read_column("source").to_numpy(zero_copy_only=False) == name
        return found & (np.cumsum(found) <= (most or found.size))

    return pool.narrowed(mask)


def ingested(folder):
    """Return a lake, its documents, and two choices of them."""
    lake = tamis.ingest(make_case(folder, n=600), "web").lake
    pool = Survivors.of(newest(lake, "web"))
    return lake, pool, {name: of_source(pool, name) for name in ("code", "prose")}


def compared(lake, pool, choices, targets=TARGETS, settings=SMALL, workers=2):
    return proxy_curves(lake, choices, pool, targets, settings, workers=workers)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison that nothing interrupted."""
    case = ingested(tmp_path_factory.mktemp("whole"))
    return case, compared(*case)


def numbers(result):
    """Return a report without what another call may have otherwise."""
    return {k: v for k, v in result.report().items() if k not in ("trained", "seconds")}


def test_a_choice_of_the_targets_kind_is_worth_more_and_another_less(whole):
    found = whole[1].report()["choices"]
    for mine, other in (("code", "prose"), ("prose", "code")):
        right, wrong = (found[name]["targets"][mine] for name in (mine, other))
        assert right["minus_random"]["interval"][1] < 0 < wrong["minus_random"]["interval"][0]
        assert right["times_fewer"]["mean"] > 1 and wrong["times_fewer"]["mean"] is None, "it was better before"
        general = found[mine]["general"]
        assert general["minus_random"]["interval"][0] > 0, "it has seen a part of the pool alone"
        assert general["times_fewer"]["mean"] < 1


def test_every_training_has_as_many_tokens_as_the_smallest_choice(whole):
    (lake, pool, choices), result = whole
    assert result.tokens == SMALL.tokens and result.report()["choices"]["code"]["tokens"] is None
    few = compared(lake, pool, {**choices, "few": of_source(pool, "code", 12)}, settings=ONCE)
    size = few.report()["choices"]["few"]["tokens"]
    assert few.tokens == size // 128 * 128 < SMALL.tokens
    for one in (result, few):
        tokens = {record["recipe"]["tokens"] for record in one.records.values()}
        ends = {record["points"][-1][0] for record in one.records.values()}
        assert tokens == ends == {one.tokens}
        assert all(record["points"][-2][0] < one.tokens / 2**0.5 for record in one.records.values())
        trained = [training for of_choice in one.trainings.values() for training in of_choice]
        assert {training.proxy.training(one.tokens).steps * 128 for training in trained} == {one.tokens}


def test_the_report_is_plain_numbers_with_intervals_over_seeds(whole):
    report = whole[1].report()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    last = report["choices"]["code"]["targets"]["code"]["last"]
    ours, random = (np.array(report[where]["targets"]["code"]["last"]["seeds"]) for where in ("random",) * 2)
    ours = np.array(last["seeds"])
    half = 4.302652729911275 * ours.std(ddof=1) / 3**0.5
    assert last["interval"] == pytest.approx([ours.mean() - half, ours.mean() + half])
    paired = report["choices"]["code"]["targets"]["code"]["minus_random"]
    assert paired["seeds"] == pytest.approx(ours - random) and paired["mean"] == pytest.approx((ours - random).mean())
    curve = report["random"]["general"]["curve"]
    assert [point["tokens"] for point in curve] == [0, 128, 256, 512, 1024, 2048, 4096, 6144]
    assert curve[0]["mean"] == pytest.approx(np.log(300), rel=0.01) and curve[-1]["mean"] < 5
    assert set(whole[1].report()["random"]["general"]) == {"curve", "last"}


def test_all_choices_begin_with_the_weights_of_the_seed(whole):
    report = whole[1].report()
    of_choices = [report["random"], *report["choices"].values()]
    firsts = [one["targets"]["code"]["curve"][0]["seeds"] for one in of_choices]
    assert firsts[0] == firsts[1] == firsts[2] and len(set(firsts[0])) == 3


def test_one_seed_claims_no_interval(whole):
    result = compared(*whole[0], settings=ONCE)
    measured = result.report()["choices"]["code"]["targets"]["code"]
    assert result.trained == 0, "the first seed is the same, however many there are"
    assert measured["last"]["interval"] is measured["minus_random"]["interval"] is None
    assert measured["times_fewer"]["interval"] is None and measured["times_fewer"]["mean"] > 1


def test_what_is_in_the_lake_is_not_trained_again(whole, monkeypatch):
    (lake, pool, choices), result = whole
    assert result.trained == 9
    with monkeypatch.context() as patch:
        patch.setattr(resuming, "train", None)
        patch.setattr(proxy_training, "publish_proxy", None)
        assert numbers(compared(lake, pool, choices)) == numbers(result)
        renamed = compared(
            lake, pool, {"a": choices["code"], "b": choices["prose"]}, {"t": TARGETS["code"], "u": TARGETS["prose"]}
        )
    assert renamed.trained == 0
    assert renamed.report()["choices"]["a"]["targets"]["t"] == result.report()["choices"]["code"]["targets"]["code"]
    more = compared(lake, pool, {**choices, "most": of_source(pool, "prose", 400)})
    assert more.trained == 3 and more.report()["choices"]["code"] == result.report()["choices"]["code"]
    assert compared(lake, pool, choices, settings=replace(SMALL, rate=0.02)).trained == 9


def test_numbers_follow_neither_workers_nor_interruptions(tmp_path, whole, monkeypatch):
    case, kept = ingested(tmp_path), []
    publish = resuming.publish_checkpoint

    def interrupted(*arguments):
        publish(*arguments)
        kept.append(arguments[2])
        if len(kept) in (7, 70):
            raise KeyboardInterrupt

    monkeypatch.setattr(resuming, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(resuming, "publish_checkpoint", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            compared(*case, settings=ONCE, workers=1)
    result = compared(*case, settings=ONCE, workers=1)
    assert kept[6:8] == [7, 8] and kept[69] + 1 == kept[70], "it went on after the last checkpoint"
    assert 0 < result.trained < 3 and numbers(result) == numbers(compared(*whole[0], settings=ONCE))
    assert [*case[0].root.glob("training/*")] == [] and list(verify(case[0])) == []


def test_killed_while_training_it_ends_with_the_same_numbers(tmp_path, whole):
    lake, *_ = ingested(tmp_path)
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import pathlib, torch, test_proxy as t\n"
        "from tamis.storage.lake import Lake; from tamis.pipelines import resuming as r\n"
        "r.SECONDS_BETWEEN_CHECKPOINTS = 0.0; publish = r.publish_checkpoint\n"
        "def killed(*a):\n    publish(*a); a[2] == 30 and os.kill(os.getpid(), 9)\n"
        "r.publish_checkpoint = killed; lake = Lake.open(sys.argv[2]); pool = t.Survivors.of(t.newest(lake, 'web'))\n"
        "t.compared(lake, pool, {name: t.of_source(pool, name) for name in ('code', 'prose')}, settings=t.ONCE)"
    )
    tests = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", program, tests, str(lake.root)], timeout=120)
    assert done.returncode == -9 and list(verify(lake)) == [] and [*lake.root.glob("training/*/checkpoints/*")]
    pool = Survivors.of(newest(lake, "web"))
    found = compared(lake, pool, {name: of_source(pool, name) for name in ("code", "prose")}, settings=ONCE)
    assert numbers(found) == numbers(compared(*whole[0], settings=ONCE))


def test_no_training_sees_a_text_by_which_losses_are_taken(tmp_path):
    path = make_case(tmp_path, n=200)
    general = held_out_of_pool(
        proxy_model(Alone(lake := tamis.ingest(path, "web").lake), pool := Survivors.of(newest(lake, "web")), SMALL),
        pool,
    )
    assert 10 <= len(general.texts) <= 20
    copied = [{"id": f"copy-{i}", "text": text} for i, text in enumerate(general.texts)]
    write_jsonl(tmp_path / "raw" / "part-9.jsonl", [*copied, {"id": "other", "text": "quite another"}])
    pool = Survivors.of(newest(tamis.ingest(path, "web").lake, "web"))
    (seen,) = without_texts([pool], [general])
    texts = [
        text
        for shard in seen.shards
        for text, inside in zip(shard.read_column("text").to_pylist(), seen.mask(shard), strict=True)
        if inside
    ]
    assert not set(texts) & set(general.texts) and "quite another" in texts
    assert pool.n_documents - seen.n_documents >= 2 * len(general.texts)


def test_a_sample_is_of_pieces_and_a_smaller_one_is_part_of_it(tmp_path):
    texts = ["abcdefghij" * 30, "short", "äöü€" * 20]
    write_jsonl(tmp_path / "raw" / "part-0.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(texts)])
    lake = tamis.ingest(make_case(tmp_path, n=0, files=0), "web").lake
    pool = Survivors.of(newest(lake, "web"))

    def sample(n_bytes, key=5, cut=16):
        return [*sampled_texts(Alone(lake), "texts", pool, key, n_bytes, cut)]

    every = sample(10**6)
    assert max(len(piece.encode()) for piece in every) == 16 and len(every) == 19 + 1 + 12
    assert sorted(c for piece in every for c in piece if c.isascii()) == sorted(texts[0] + texts[1])
    assert all(piece in "".join(texts) for piece in every), "no character is cut in two"
    some = sample(100)
    assert sum(len(piece.encode()) + 6 for piece in some) >= 100 and len(some) < len(every)
    assert not Counter(some) - Counter(every) and sorted(some) != sorted(sample(100, key=6))
    assert {*sample(10**6, cut=None)} == {*texts}


def test_a_model_that_is_given_goes_on(tmp_path, whole):
    from tiny_model import write_causal

    settings = replace(SMALL, start=write_causal(tmp_path / "theirs"), seeds=2, tokens=1_024)
    report = compared(*whole[0], settings=settings).report()
    assert report["context"] == 32 and report["start"] == str(tmp_path / "theirs")
    curves = [one["targets"]["code"]["curve"] for one in (report["random"], *report["choices"].values())]
    assert len({loss for curve in curves for loss in curve[0]["seeds"]}) == 1, "the same weights, whatever the seed"
    assert len({loss for curve in curves for loss in curve[-1]["seeds"]}) == 6
    assert all(curve[-1]["mean"] < curve[0]["mean"] for curve in curves)


def test_a_model_with_another_tokenizer_is_refused(tmp_path, whole):
    from tiny_model import write_causal

    theirs = write_causal(tmp_path / "theirs", vocab_size=200)
    with pytest.raises(ConfigError, match="tokens, its model 200"):
        compared(*whole[0], settings=replace(SMALL, start=theirs, seeds=1), workers=1)


def test_a_damaged_record_is_found_and_said(tmp_path, whole):
    (lake, *_), result = whole
    path = lake.proxy(next(iter(result.records)))
    before = path.read_text()
    path.write_text(before.replace('"number": 0', '"number": 1'))
    (found,) = verify(lake)
    assert found.file == str(path) and found.repair.startswith("`tamis repair` removes it")
    with pytest.raises(LakeError, match="tamis repair"):
        compared(*whole[0])
    path.write_text(before)
    assert list(verify(lake)) == [] and compared(*whole[0]).trained == 0


def test_equal_choices_are_trained_on_once(tmp_path):
    lake, pool, choices = ingested(tmp_path)
    result = compared(lake, pool, {"one": choices["code"], "two": of_source(pool, "code"), "all": pool}, settings=ONCE)
    report = result.report()
    assert result.trained == 2 and report["choices"]["one"] == report["choices"]["two"]
    assert report["choices"]["all"]["general"]["minus_random"]["mean"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": {"empty": []}}, "target empty: its 0 texts"),
        ({"targets": {"blank": ["", ""]}}, "target blank: its 2 texts"),
        ({"few": 0}, "few has 0 tokens .* expected at least the 128 of an update"),
        ({"few": 1}, "few has .* tokens"),
        ({"settings": replace(SMALL, rate=1e30)}, "finite"),
    ],
)
def test_what_cannot_be_compared_is_said(whole, change, message):
    lake, pool, choices = whole[0]
    if "few" in change:
        nothing = of_source(pool, "code", 1).narrowed(
            lambda shard: np.full(shard.rows, change["few"] > 0) & (shard == pool.shards[0])
        )
        choices = {"few": nothing}
    with pytest.raises(ConfigError, match=message):
        compared(lake, pool, choices, change.get("targets", TARGETS), change.get("settings", SMALL), workers=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"vocabulary": 200}, "vocabulary is 200"),
        ({"rate": 0.0}, "rate is 0"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
