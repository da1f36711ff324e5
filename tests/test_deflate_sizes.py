"""The sizes that the kernel gives are zlib's, to the byte: any source, any text behind it, every lazy level."""

import random
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tamis.features.deflate_kernels import parser, size_with, take_source
from tamis.features.match_kernels import LEVELS, known_matches

RAW = -15  # deflate without a frame
WORDS = [b"the ", b"river ", b"aaaa", b"\0", b"def f(x): return x", b"\xc3\xa9", b"ab" * 150]
pieces = st.one_of(st.binary(max_size=40), st.sampled_from(WORDS))
byte_strings = st.lists(pieces, max_size=60).map(b"".join)


def zlib_size(data, level):
    compressor = zlib.compressobj(level, zlib.DEFLATED, RAW)
    return len(compressor.compress(data) + compressor.flush())


def kernel_sizes(source, targets, level):
    """The size of the source alone, and with each target behind it."""
    effort, data = LEVELS[level], np.frombuffer(source + b"!", np.uint8)
    room = parser(len(source), max(map(len, targets)))
    matches = known_matches(targets, effort)
    take_source(room, data, 0, len(source), effort)
    return [size_with(room, len(source), matches, target, effort) for target in range(-1, len(targets))]


@pytest.mark.parametrize("level", LEVELS)
@given(source=byte_strings.filter(len), targets=st.lists(byte_strings, min_size=1, max_size=3))
def test_any_bytes(level, source, targets):
    expected = [zlib_size(source + target, level) for target in [b"", *targets]]
    assert kernel_sizes(source, targets, level) == expected


@pytest.mark.parametrize("level", LEVELS)
def test_longer_than_the_window_than_a_block_and_than_a_chain(level):
    chance = random.Random(level)
    words = [bytes(chance.randrange(256) for _ in range(chance.randrange(2, 20))) for _ in range(300)]
    sources = [
        b"".join(chance.choices(words, k=20_000)),
        chance.randbytes(70_000),
        bytes(chance.choices(range(2), k=100_000)),
        b"\0" * 100_000,
        b"".join(chance.choices(words[:5], k=9_000)) + chance.randbytes(40_000),
    ]
    targets = [b"".join(chance.choices(words, k=k)) for k in (3, 300, 9_000)] + [b"\0" * 600, chance.randbytes(20_000)]
    for source in sources:
        expected = [zlib_size(source + target, level) for target in [b"", *targets]]
        assert kernel_sizes(source, targets, level) == expected


@pytest.mark.parametrize("length", range(32_504, 32_509))
def test_a_match_as_far_back_as_can_be(length):
    source = random.Random(0).randbytes(length)
    for target in (source, source[:7] + source, source[:3] * 2 + source):
        for level in (4, 6, 9):
            assert kernel_sizes(source, [target], level)[1] == zlib_size(source + target, level)


def test_codes_that_would_be_too_long_are_shortened_as_zlib_does():
    counts = [1, 1]
    while sum(counts) < 16_000:
        counts.append(counts[-1] + counts[-2])
    chance, text = random.Random(0), [byte for byte, n in enumerate(counts) for _ in range(n)]
    chance.shuffle(text)
    source = bytes(text[:10_000])
    assert kernel_sizes(source, [bytes(text[10_000:])], 9)[1] == zlib_size(bytes(text), 9)


def test_a_source_can_be_taken_again_after_another():
    effort, texts = LEVELS[6], [b"return x + 1", b"the river said"]
    sources = [b"def f(x): return x + 1\n" * 9, b"the mountain and the river", b"zz"]
    matches, room = known_matches(texts, effort), parser(1000, 100)
    for source in [*sources, *sources[::-1]]:
        take_source(room, np.frombuffer(source, np.uint8), 0, len(source), effort)
        for number, text in [*enumerate(texts), *enumerate(texts)]:
            assert size_with(room, len(source), matches, number, effort) == zlib_size(source + text, 6)
