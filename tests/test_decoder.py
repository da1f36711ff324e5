"""Decoders: their sizes, and weights that follow the seed alone."""

from dataclasses import replace

import pytest
import torch
from tamis.features.decoder import SIZES, Decoder, build, n_parameters
from tamis.features.training_state import weights_of

SMALL = Decoder(depth=2, width=32, heads=4, context=32)


@pytest.mark.parametrize(("name", "millions"), [("tiny", (2.7, 3.5)), ("small", (18, 22)), ("base", (140, 165))])
def test_sizes_are_what_their_names_promise(name, millions):
    config = SIZES[name]
    model = build(config, 8_192, 0)
    n = n_parameters(model)
    print(f"{name}: {n:,} parameters, {n - 8_192 * config.width:,} without embeddings")  # noqa: T201 (seen with -s)
    matrices = 4 * config.width**2 + 3 * config.width * config.inner
    assert n == 8_192 * config.width + config.depth * (matrices + 2 * config.width) + config.width
    assert millions[0] * 1e6 < n < millions[1] * 1e6
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.max_position_embeddings == config.context


def test_weights_follow_the_seed_alone():
    torch.manual_seed(1)
    first = weights_of(build(SMALL, 300, 7))
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    again, other = weights_of(build(SMALL, 300, 7)), weights_of(build(SMALL, 300, 8))
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's numbers stay as they were
    assert all((first[name] == again[name]).all() for name in first)
    matrices = [name for name, weight in first.items() if weight.ndim > 1]
    assert len(matrices) == 15 and not any((first[name] == other[name]).any() for name in matrices)


def test_what_a_token_gets_does_not_depend_on_later_ones():
    model = build(SMALL, 300, 0).eval()
    ids = torch.arange(1, 21)[None]
    with torch.no_grad():
        whole, part = model(ids).logits, model(ids[:, :9]).logits
    torch.testing.assert_close(whole[:, :9], part)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"heads": 3}, "width is 32, expected a multiple of twice the 3 heads"),
        ({"context": 1}, "context is 1"),
    ],
)
def test_impossible_shapes_are_errors(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
