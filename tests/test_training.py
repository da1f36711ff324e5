"""Training: it learns, it is exact, it goes on where it stopped, and what is held out is never learned from."""

from dataclasses import replace
from itertools import islice, pairwise
from threading import Event

import numpy as np
import pytest
import torch
from tamis.features.byte_bpe import train_tokenizer
from tamis.features.decoder import Decoder, build
from tamis.features.packing import Packing, Position
from tamis.features.stopping import Stopped, end_with
from tamis.features.training import held_out_loss, train
from tamis.features.training_settings import Settings
from tamis.features.training_state import State, weights_of
from tamis.storage.checkpoints import newest_checkpoint, publish_checkpoint
from tamis.storage.errors import ConfigError

SHAPE = Decoder(depth=2, width=32, heads=4, context=16)
VOCABULARY = 300
FAST = Settings(steps=6, batch=2, accumulation=2, peak_rate=1e-2, precision="fp32")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Of models this small threads make nothing faster, and where other processes compute they wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made_up(n_documents, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, VOCABULARY, rng.integers(3, 40)) for _ in range(n_documents)]


DOCUMENTS = made_up(60)
HELD_OUT = [ids for ids, _ in Packing(lambda first: made_up(4, seed=1)[first:], 16)(Position())]


def packed(documents=DOCUMENTS):
    return Packing(lambda first: documents[first:], SHAPE.context)


def model(seed=0):
    return build(SHAPE, VOCABULARY, seed)


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one | other)


def test_the_loss_falls_on_a_repetitive_text():
    texts = ["the river is in the mountain and the mountain is in the river. "] * 100
    tokenizer = train_tokenizer(texts, VOCABULARY)
    history = train(model(), packed([tokenizer.encode(text).ids for text in texts]), replace(FAST, steps=40))
    assert history.losses[0] == pytest.approx(np.log(VOCABULARY), abs=0.2)
    assert history.losses[-1] < 1


def test_the_loss_is_that_of_transformers():
    (ids, _) = next(packed()(Position()))
    tensor = torch.from_numpy(ids)[None]
    expected = float(model()(input_ids=tensor, labels=tensor).loss.detach())
    assert held_out_loss(model(), [ids], FAST) == pytest.approx(expected, rel=1e-6)
    assert train(model(), packed(), replace(FAST, steps=1, batch=1, accumulation=1)).losses == [
        pytest.approx(expected, rel=1e-6)
    ]


def test_short_sequences_count_by_their_tokens():
    long, short = HELD_OUT[0], HELD_OUT[1][:4]
    losses = [held_out_loss(model(), [ids], FAST) for ids in (long, short)]
    expected = (15 * losses[0] + 3 * losses[1]) / 18
    assert held_out_loss(model(), [long, short], FAST) == pytest.approx(expected, rel=1e-6)
    assert held_out_loss(model(), [long, short], replace(FAST, batch=1)) == pytest.approx(expected, rel=1e-6)


def test_accumulation_is_a_larger_batch():
    lengths = [16, 16, 16, 3] * 3  # a mean of the batches' means would be another number

    def sequences(_):
        yield from ((np.arange(1, n + 1) * (i + 1) % VOCABULARY, Position(i)) for i, n in enumerate(lengths))

    one, other = model(), model()
    smooth = replace(FAST, steps=3, eps=1e-2)  # with a small eps, AdamW makes the sign of a rounding a step
    first = train(one, sequences, replace(smooth, batch=2, accumulation=2))
    second = train(other, sequences, replace(smooth, batch=4, accumulation=1))
    assert first.losses == pytest.approx(second.losses, rel=1e-5) and len(first.losses) == 3
    assert first.norms == pytest.approx(second.norms, rel=1e-4)
    for name, weight in weights_of(one).items():
        np.testing.assert_allclose(weight, weights_of(other)[name], atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_inputs_give_equal_weights(precision):
    one, other = model(), model()
    settings = replace(FAST, precision=precision)
    assert train(one, packed(), settings) == train(other, packed(), settings)
    assert same(weights_of(one), weights_of(other))
    assert not any((weights_of(one)[name] == weight).all() for name, weight in weights_of(model()).items())


@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_training_ends_the_same(tmp_path, stop, precision):
    settings = replace(FAST, precision=precision, evaluate_every=2, patience=9)
    whole = model()
    poison(whole, {2})
    history = train(whole, packed(), settings, HELD_OUT)
    assert history.losses[1] is None and history.step == 6

    asked = Event()

    def stop_there(progress):
        if progress.history.step == stop:
            asked.set()
            publish_checkpoint(tmp_path / "run", tmp_path / "tmp", stop, *progress.state().parts())

    first = model()
    poison(first, {2})
    end_with(asked)
    try:
        with pytest.raises(Stopped):
            train(first, packed(), settings, HELD_OUT, on_progress=stop_there)
    finally:
        end_with(None)
    kept = newest_checkpoint(tmp_path / "run")
    fresh = model(seed=9)
    poison(fresh, {2 - stop})
    assert train(fresh, packed(), settings, HELD_OUT, State.of(kept.tensors, kept.rest)) == history
    assert same(weights_of(fresh), weights_of(whole))


def poison(model, steps, accumulation=2):
    """Make the gradient of some steps infinite, the first being 1."""
    calls = iter(range(10_000))
    weight = model.model.norm.weight
    weight.register_hook(lambda g: g * float("inf") if next(calls) // accumulation + 1 in steps else g)


def test_a_state_is_a_copy_and_a_finished_one_changes_nothing():
    states = []
    one = model()
    history = train(one, packed(), FAST, on_progress=lambda progress: states.append(progress.state()))
    assert [state.history.step for state in states] == [1, 2, 3, 4, 5, 6]
    assert not same(states[0].weights, states[-1].weights)
    other = model(seed=5)
    assert train(other, packed(), FAST, state=states[-1]) == history
    assert same(weights_of(other), weights_of(one))


def test_what_is_held_out_is_never_learned_from():
    one, other = model(), model()
    settings = replace(FAST, evaluate_every=1)
    with_it, without = train(one, packed(), settings, HELD_OUT), train(other, packed(), settings)
    assert [step for step, _ in with_it.held_out] == [0, 1, 2, 3, 4, 5, 6] and without.held_out == []
    assert with_it.losses == without.losses
    assert same(weights_of(one), weights_of(other))


def test_with_patience_the_best_weights_stay():
    trained = model()
    settings = replace(FAST, steps=40, evaluate_every=1, patience=3)
    history = train(trained, packed(DOCUMENTS[:1] * 400), settings, HELD_OUT)  # one document, over and over
    losses = [loss for _, loss in history.held_out]
    assert history.step == history.best + 3 < 40
    assert losses[history.best] == min(losses) < losses[-1]
    assert held_out_loss(trained, HELD_OUT, settings) == min(losses)
    with pytest.raises(ConfigError, match="no held-out sequences"):
        train(model(), packed(), settings)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_without_finite_numbers_changes_nothing(precision):
    one, weights = model(), [weights_of(model())]
    poison(one, {3})
    settings = replace(FAST, precision=precision)
    history = train(one, packed(), settings, on_progress=lambda _: weights.append(weights_of(one)))
    unchanged = [same(*pair) for pair in pairwise(weights)]
    assert unchanged == [False, False, True, False, False, False]
    assert (history.losses[2], history.norms[2], history.n_skipped, history.n_skipped_last) == (None, None, 1, 0)
    assert all(np.isfinite(weight).all() for weight in weights_of(one).values())


def test_a_loss_that_is_no_number_is_skipped_too():
    one = model()
    one.lm_head.register_forward_hook(lambda _, __, logits: logits * float("nan"))
    steps = []
    with pytest.raises(ConfigError, match="in 5 steps in a row, up to step 5; lower peak_rate"):
        train(one, packed(), FAST, on_progress=lambda progress: steps.append(progress.history.n_skipped_last))
    assert steps == [1, 2, 3, 4]
    assert same(weights_of(one), weights_of(model()))


def test_it_ends_where_the_sequences_do():
    n = len(list(packed(DOCUMENTS[:5])(Position())))
    history = train(model(), packed(DOCUMENTS[:5]), replace(FAST, steps=100), HELD_OUT)
    assert history.step == -(-n // 4) and [step for step, _ in history.held_out] == [0, history.step]


def test_every_sequence_is_trained_on_once():
    seen = []

    def watched(start):
        for ids, after in packed()(start):
            seen.append(ids)
            yield ids, after

    train(model(), watched, FAST)
    assert [ids.tolist() for ids in seen] == [ids.tolist() for ids, _ in islice(packed()(Position()), 24)]


def test_the_rate_rises_to_its_peak_and_falls_to_a_tenth():
    settings = replace(FAST, steps=100, warmup_share=0.1)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([1e-3 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(1e-2) == max(rates)
    assert rates[55] == pytest.approx(0.5 * (1e-2 + 1e-3), rel=0.02)
    assert rates[99] == pytest.approx(1e-3) == min(rates[10:])


def test_weight_decay_is_decoupled_and_spares_norms():
    """With a gradient of zero a matrix shrinks by rate times decay, whatever the moments."""
    one = model()
    one.lm_head.register_forward_hook(lambda _, __, logits: logits * 0)
    settings = replace(FAST, steps=1, weight_decay=0.5, warmup_share=0)
    train(one, packed(), settings)
    for name, weight in weights_of(model()).items():
        expected = weight if weight.ndim == 1 else weight * (1 - 1e-2 * 0.5)
        np.testing.assert_allclose(weights_of(one)[name], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"steps": 0}, "steps is 0"), ({"peak_rate": 0.0}, "more than 0"), ({"warmup_share": 2.0}, "expected 0 to 1")],
)
def test_impossible_settings_are_errors(change, message):
    with pytest.raises(ValueError, match=message):
        replace(FAST, **change)
